package console

import (
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/mgmtproject/mgmt/sinks"
)

// maxDiffLines bounds the difference that is printed for one parameter.
const maxDiffLines = 200

// Diff is the value of a log attribute with more than a line: a unified diff, above all.
// A text handler prints it below the line, as it is.
type Diff string

// DiffOf is the difference of all changes whose texts don't fit on the log line: one
// unified diff for each. Of secrets there is none.
func DiffOf(res string, changes []sinks.Change) Diff {
	var b strings.Builder
	for _, c := range changes {
		if c.Secret || !long(c.From) && !long(c.To) {
			continue
		}
		label := res + " " + c.Field
		from, to := c.From, c.To
		if !strings.HasSuffix(from, "\n") && !strings.HasSuffix(to, "\n") {
			from, to = from+"\n", to+"\n" // no difference, and so no need to be told of it
		}
		b.WriteString(bounded(udiff.Unified(label+" (found)", label+" (desired)", from, to)))
	}
	return Diff(b.String())
}

// long says that sinks.Change.String gives only the size of s.
func long(s string) bool {
	return len(s) > 60 || strings.ContainsAny(strings.TrimSuffix(s, "\n"), "\n\r\t")
}

// bounded is the first lines of a diff, and how many more there are.
func bounded(diff string) string {
	end := 0
	for range maxDiffLines {
		i := strings.IndexByte(diff[end:], '\n')
		if i < 0 {
			return diff
		}
		end += i + 1
	}
	more := strings.Count(diff[end:], "\n")
	if more == 0 {
		return diff
	}
	return fmt.Sprintf("%s(%d more lines)\n", diff[:end], more)
}
