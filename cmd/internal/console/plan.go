package console

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

// maxNames is how many resources a line of a plan names.
const maxNames = 5

// stepWords is what a plan calls the states of a step, and the colour of that. What is
// right is only counted.
var stepWords = map[pipeline.StepState]struct{ word, color string }{
	pipeline.StepChange:  {"would change", green},
	pipeline.StepRun:     {"would run", green},
	pipeline.StepUndo:    {"would undo", green},
	pipeline.StepAfter:   {"later", yellow},
	pipeline.StepNoop:    {"noop", faint},
	pipeline.StepWaiting: {"waiting", yellow},
	pipeline.StepBlocked: {"blocked", red},
	pipeline.StepFailed:  {"failed", red},
}

// totals are the parts of the last line of a plan.
var totals = []struct {
	state pipeline.StepState
	words string
}{
	{pipeline.StepChange, "to change"},
	{pipeline.StepRun, "to run"},
	{pipeline.StepAfter, "after others"},
	{pipeline.StepUndo, "to undo"},
	{pipeline.StepNoop, "noop"},
	{pipeline.StepWaiting, "waiting"},
	{pipeline.StepBlocked, "blocked"},
	{pipeline.StepFailed, "failed"},
	{pipeline.StepRight, "right"},
}

// WritePlan writes f for people: each resource that is not right with what would be done
// to it, and a line of totals.
func WritePlan(w io.Writer, f pipeline.Forecast, color bool) error {
	b := bufio.NewWriter(w)
	l := &line{color: color}
	for _, s := range f.Steps {
		if s.State == pipeline.StepRight {
			continue
		}
		l.Reset()
		l.step(s)
		_, _ = b.Write(l.Bytes()) // Flush tells
	}
	l.Reset()
	l.totals(f)
	_, _ = b.Write(l.Bytes())
	return b.Flush()
}

// step writes a line for s, and what would change below it.
func (l *line) step(s pipeline.Step) {
	label := stepWords[s.State]
	l.painted(label.color, label.word)
	l.pad(messageWidth - utf8.RuneCountInString(label.word) + 2)
	l.clean(s.Ref())
	if s.Refresh && s.Outcome.Changed {
		l.note("notified")
	}
	if len(s.After) > 0 {
		l.note("after " + named(s.After))
	}
	switch {
	case s.State == pipeline.StepBlocked:
		l.note("because " + s.By.String() + " would fail")
	case s.State == pipeline.StepWaiting:
		l.note("for what " + s.By.String() + " does not send")
	case s.State == pipeline.StepAfter && s.Err != nil:
		l.note("now: " + Describe(s.Err))
	case s.Err != nil:
		l.WriteString("  ")
		l.clean(Describe(s.Err))
	}
	l.WriteByte('\n')
	left := maxAllLines
	for _, c := range s.Outcome.Changes {
		left -= l.change(s.Ref(), c, left > 0)
	}
}

func (l *line) note(text string) {
	l.WriteString("  ")
	l.painted(faint, Line(text))
}

// named lists some resources.
func named(vertices []*pipeline.Vertex) string {
	var names []string
	for i, v := range vertices {
		if i == maxNames {
			names = append(names, fmt.Sprintf("and %d more", len(vertices)-i))
			break
		}
		names = append(names, v.String())
	}
	return strings.Join(names, ", ")
}

// change writes c: on a line, or as a difference if it does not fit there and there is
// room. It returns the number of lines of the difference.
func (l *line) change(ref string, c sinks.Change, room bool) int {
	const indent = "    "
	if !c.Secret && oneLine(c.From) && oneLine(c.To) {
		l.WriteString(indent)
		l.clean(c.Field + ": " + quoted(c.From) + " -> " + quoted(c.To))
		l.WriteByte('\n')
		return 0
	}
	if room && multiline(c) {
		l.below = DiffOf(ref, []sinks.Change{c})
		l.diff(indent)
		return strings.Count(string(l.below), "\n")
	}
	l.WriteString(indent)
	l.clean(c.String())
	l.WriteByte('\n')
	return 0
}

func oneLine(s string) bool {
	const most = 200
	return len(s) <= most && !strings.ContainsAny(strings.TrimSuffix(s, "\n"), "\n\r\t")
}

func quoted(s string) string {
	if s == "" || strings.HasSuffix(s, "\n") {
		return strconv.Quote(s)
	}
	return s
}

func (l *line) totals(f pipeline.Forecast) {
	counts := map[pipeline.StepState]int{}
	for _, s := range f.Steps {
		counts[s.State]++
	}
	var parts []string
	for _, t := range totals {
		if n := counts[t.state]; n > 0 || t.state == pipeline.StepRight {
			parts = append(parts, fmt.Sprintf("%d %s", n, t.words))
		}
	}
	l.WriteString(strings.Join(parts, ", "))
	l.WriteByte('\n')
}
