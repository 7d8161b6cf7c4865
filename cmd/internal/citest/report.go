package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is a line of go test -json, as cmd/test2json describes it.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of what was built, in build-output
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// report reads events and writes what matters.
type report struct {
	w         io.Writer
	forbidden *regexp.Regexp // nil: every skip is fine

	passed, failed, skipped int

	output map[string][]string   // by package and test, while it runs
	builds map[string][]string   // what the compiler printed, by import path
	counts map[string]*packCount // by package
	skips  []string
}

type packCount struct{ passed, failed, skipped int }

func newReport(w io.Writer, forbidden *regexp.Regexp) *report {
	return &report{
		w: w, forbidden: forbidden,
		output: map[string][]string{}, builds: map[string][]string{}, counts: map[string]*packCount{},
	}
}

// read reads until the end. A line that is no event is printed as it is.
func (r *report) read(in io.Reader) {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(r.w, "%s", line)
			} else {
				r.take(e)
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *report) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
	case "output":
		r.output[key] = append(r.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e, key)
		}
	}
}

func (r *report) endTest(e event, key string) {
	n := r.counts[e.Package]
	if n == nil {
		n = &packCount{}
		r.counts[e.Package] = n
	}
	out := r.output[key]
	delete(r.output, key)
	switch e.Action {
	case "pass":
		n.passed++
		return
	case "skip":
		why := reason(out)
		if r.forbidden == nil || !r.forbidden.MatchString(why) {
			n.skipped++
			r.skips = append(r.skips, fmt.Sprintf("%s %s: %s", e.Package, e.Test, why))
			return
		}
		out = append(out, "    and here nothing may be skipped for that reason\n")
	}
	n.failed++
	fmt.Fprintf(r.w, "--- FAIL %s %s (%.2fs)\n%s", e.Package, e.Test, e.Elapsed, body(out))
}

func (r *report) endPackage(e event) {
	n := r.counts[e.Package]
	if n == nil {
		n = &packCount{}
	}
	defer func() {
		r.passed += n.passed
		r.failed += n.failed
		r.skipped += n.skipped
		for key := range r.output {
			if pkg, _, _ := strings.Cut(key, " "); pkg == e.Package {
				delete(r.output, key)
			}
		}
	}()
	switch {
	case e.Action == "skip": // no test files
	case e.Action == "fail":
		fmt.Fprintf(r.w, "FAIL %s (%.1fs)\n", e.Package, e.Elapsed)
		fmt.Fprint(r.w, strings.Join(r.builds[e.FailedBuild], ""))
		// What the package itself printed, and tests that did not come to an end: a
		// panic, a time-out, a leak that TestMain found.
		for _, out := range r.loose(e.Package) {
			fmt.Fprint(r.w, body(out))
		}
		if n.failed == 0 {
			n.failed = 1
		}
	default:
		fmt.Fprintf(r.w, "ok   %s (%.1fs, %d passed", e.Package, e.Elapsed, n.passed)
		if n.failed > 0 {
			fmt.Fprintf(r.w, ", %d failed", n.failed)
		}
		if n.skipped > 0 {
			fmt.Fprintf(r.w, ", %d skipped", n.skipped)
		}
		fmt.Fprintln(r.w, ")")
	}
}

// loose is the output of the tests of pkg that have not ended, and of pkg itself.
func (r *report) loose(pkg string) [][]string {
	var keys []string
	for key := range r.output {
		if p, _, _ := strings.Cut(key, " "); p == pkg {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	var out [][]string
	for _, key := range keys {
		out = append(out, r.output[key])
	}
	return out
}

func (r *report) summary() {
	if len(r.skips) > 0 {
		fmt.Fprintln(r.w, "\nskipped:")
		for _, s := range r.skips {
			fmt.Fprintln(r.w, "  "+s)
		}
	}
	fmt.Fprintf(r.w, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
}

// frame matches the lines that go test prints around the output of tests.
var frame = regexp.MustCompile(`^\s*(=== (RUN|PAUSE|CONT|NAME)|--- (PASS|FAIL|SKIP):|(PASS|FAIL)$|FAIL\t|ok  \t)`)

// body is what a test itself printed.
func body(out []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(out), func(l string) bool { return frame.MatchString(strings.TrimSuffix(l, "\n")) }), "")
}

// position is the "file_test.go:12: " that t.Skip puts before the reason.
var position = regexp.MustCompile(`^\S+\.go:\d+: `)

// reason is the last thing that a skipped test printed.
func reason(out []string) string {
	lines := strings.Split(strings.TrimSpace(body(out)), "\n")
	why := position.ReplaceAllString(strings.TrimSpace(lines[len(lines)-1]), "")
	if why == "" {
		return "no reason given"
	}
	return why
}
