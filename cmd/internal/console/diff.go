package console

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"

	"github.com/mgmtproject/mgmt/sinks"
)

// maxDiffLines bounds the difference that is printed for one parameter, maxAllLines that
// of all parameters of a resource, and maxDiffLine a line of it.
const (
	maxDiffLines = 200
	maxAllLines  = 2 * maxDiffLines
	maxDiffLine  = 1000 // bytes
)

// Diff is the value of a log attribute with more than a line: a unified diff, above all.
// A text handler prints it below the line, as it is.
type Diff string

// DiffOf is the difference of all changes whose texts don't fit on the log line: one
// unified diff for each, with up to 200 lines, and 400 in all. Of secrets there is none.
func DiffOf(res string, changes []sinks.Change) Diff {
	var b strings.Builder
	left := maxAllLines
	for i, c := range changes {
		if !multiline(c) {
			continue
		}
		if left <= 0 {
			if n := countFunc(changes[i:], multiline); n > 0 {
				fmt.Fprintf(&b, "(%d more differences)\n", n)
			}
			break
		}
		label := res + " " + c.Field
		from, to := c.From, c.To
		if !strings.HasSuffix(from, "\n") && !strings.HasSuffix(to, "\n") {
			from, to = ended(from), ended(to) // no difference, and so no need to be told of it
		}
		one := bounded(udiff.Unified(label+" (found)", label+" (desired)", from, to), min(left, maxDiffLines))
		left -= strings.Count(one, "\n")
		b.WriteString(one)
	}
	return Diff(b.String())
}

// multiline says that c has a difference to show.
func multiline(c sinks.Change) bool { return !c.Secret && (long(c.From) || long(c.To)) }

func countFunc(changes []sinks.Change, is func(sinks.Change) bool) int {
	n := 0
	for _, c := range changes {
		if is(c) {
			n++
		}
	}
	return n
}

// long says that sinks.Change.String gives only the size of s.
func long(s string) bool {
	return len(s) > 60 || strings.ContainsAny(strings.TrimSuffix(s, "\n"), "\n\r\t")
}

// ended is s with a new line at its end, if it is anything.
func ended(s string) string {
	if s == "" {
		return ""
	}
	return s + "\n"
}

// bounded is the first lines of a diff, each of a length that can be read, and how many
// more there are.
func bounded(diff string, most int) string {
	var b strings.Builder
	n := 0
	for one := range strings.Lines(diff) {
		if n++; n > most {
			continue
		}
		if len(one) <= maxDiffLine {
			b.WriteString(one)
			continue
		}
		end := maxDiffLine
		for !utf8.RuneStart(one[end]) {
			end--
		}
		fmt.Fprintf(&b, "%s(%d bytes more)\n", one[:end], len(one)-end-1)
	}
	if n > most {
		fmt.Fprintf(&b, "(%d more lines)\n", n-most)
	}
	return b.String()
}
