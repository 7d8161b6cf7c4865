package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxShown is how many problems Problems.Error prints.
const maxShown = 50

// Problem is one thing that is wrong with a graph.
type Problem struct {
	// File and Pos say where; both may be empty.
	File string
	Pos  Position

	// Message says what was found and what is expected.
	Message string

	// Hint says what to do, or gives the nearest known name; it may be empty.
	Hint string
}

// Error is the problem on one line: graph.yaml:12:5: unknown parameter "contnet" of
// file; did you mean "content"?
func (p Problem) Error() string {
	var b strings.Builder
	switch {
	case p.File != "" && p.Pos.Line > 0 && p.Pos.Column > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Pos.Line, p.Pos.Column)
	case p.File != "" && p.Pos.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", p.File, p.Pos.Line)
	case p.File != "":
		b.WriteString(p.File + ": ")
	case p.Pos.Line > 0:
		fmt.Fprintf(&b, "line %d: ", p.Pos.Line)
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString("; " + p.Hint)
	}
	return b.String()
}

// Problems is an error that lists everything that is wrong with a graph, in the order
// of the file.
type Problems []Problem

// Error has a line for each problem, and after the first fifty the number of the rest.
func (p Problems) Error() string {
	lines := make([]string, 0, min(len(p), maxShown)+1)
	for _, one := range p[:min(len(p), maxShown)] {
		lines = append(lines, one.Error())
	}
	if more := len(p) - maxShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the single problems to errors.As.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i, one := range p {
		errs[i] = one
	}
	return errs
}

// err is p in the order of the file, each problem once, or nil if nothing is wrong.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(comparePositions(a.Pos, b.Pos), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(p)
}

func comparePositions(a, b Position) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}
