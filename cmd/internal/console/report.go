package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/streams"
)

// maxChanges is how many changes of one CheckApply are listed in a log line.
const maxChanges = 10

// showAgain is after what time a difference that was shown is shown again, and
// maxRemembered how many are remembered for that.
const (
	showAgain     = 10 * time.Minute
	maxRemembered = 1024
)

// shown is a difference that was shown, and when.
type shown struct {
	diff uint64
	at   time.Time
}

// Report logs the results of a run: a line for each change and each failure, and for
// what the graph comes to. A host that is converged is silent. It is not safe for use
// by several goroutines.
type Report struct {
	log       *slog.Logger
	debug     bool
	began     time.Time
	loaded    bool
	converged bool
	failing   map[*pipeline.Vertex]string // what has been logged about those that fail
	noted     map[string]bool             // what has been logged about the graph
	waiting   map[*pipeline.Vertex]string // and about those that wait for a value
	shown     map[*pipeline.Vertex]shown
	seed      maphash.Seed
}

// NewReport returns a Report of a run that began at that time.
func NewReport(log *slog.Logger, began time.Time) *Report {
	return &Report{
		log: log, began: began,
		debug:   log.Enabled(context.Background(), slog.LevelDebug),
		failing: map[*pipeline.Vertex]string{},
		waiting: map[*pipeline.Vertex]string{},
		shown:   map[*pipeline.Vertex]shown{},
		seed:    maphash.MakeSeed(),
	}
}

// Observe logs r, if it is worth it.
func (p *Report) Observe(r pipeline.Result) {
	switch r.Kind {
	case pipeline.Finished:
		p.finished(r)
	case pipeline.GraphSwapped:
		p.swapped(r)
	case pipeline.GraphRejected:
		p.rejected(r.Err)
	case pipeline.Converged:
		p.quiet(r)
	case pipeline.Waiting:
		p.waits(r)
	case pipeline.Flapping:
		p.print(slog.LevelWarn, "flapping", slog.String("res", r.Vertex.String()), slog.Int("repairs", r.Count),
			slog.String("cause", r.Cause.String()), slog.Duration("rests", r.RetryAfter),
			slog.String("why", "something else keeps undoing it"))
	case pipeline.Steady:
		p.print(slog.LevelInfo, "steady", slog.String("res", r.Vertex.String()), slog.String("why", "nothing undoes it any more"))
	case pipeline.SwapDelayed:
		p.print(slog.LevelInfo, "swap delayed", slog.String("until", r.Vertex.String()+" has run"), slog.String("why", "its meta.realize"))
	case pipeline.Woken, pipeline.Started, pipeline.Blocked:
		if p.debug {
			p.trace(r)
		}
	}
}

func (p *Report) print(level slog.Level, msg string, attrs ...slog.Attr) {
	p.log.LogAttrs(context.Background(), level, msg, attrs...)
}

// waits logs once for whom a resource waits. In a run that changes nothing this is as it
// should be: what is to be sent is not made.
func (p *Report) waits(r pipeline.Result) {
	level := slog.LevelWarn
	if r.Noop {
		level = slog.LevelInfo
	}
	what := r.By.String() + " " + r.Output
	if p.waiting[r.Vertex] == what {
		return
	}
	p.waiting[r.Vertex] = what
	p.print(level, "waiting", slog.String("res", r.Vertex.String()), slog.String("for", r.By.String()), slog.String("output", r.Output))
}

func (p *Report) finished(r pipeline.Result) {
	if len(p.waiting) > 0 {
		delete(p.waiting, r.Vertex)
	}
	failed := len(p.failing) > 0 && p.failing[r.Vertex] != ""
	if !r.Outcome.Changed && r.Err == nil && !failed && !p.debug || r.Left {
		return
	}
	res := slog.String("res", r.Vertex.String())
	again := failed && r.Err != nil && p.failing[r.Vertex] == Describe(r.Err)
	switch {
	case r.Outcome.Changed:
		level := slog.LevelInfo
		if again || len(r.Outcome.Changes) == 0 { // nothing new, or nothing to show: a timer has ticked
			level = slog.LevelDebug
		}
		p.changed(level, r, res)
	case p.debug && r.Err == nil:
		p.print(slog.LevelDebug, "right", res, slog.Duration("took", r.Took))
	}
	switch {
	case r.Err != nil:
		p.failed(again, r, res)
	case failed:
		delete(p.failing, r.Vertex)
		p.print(slog.LevelInfo, "recovered", res)
	}
}

func (p *Report) changed(level slog.Level, r pipeline.Result, res slog.Attr) {
	msg := "changed"
	if r.Noop {
		msg = "would change"
	}
	if !p.log.Enabled(context.Background(), level) {
		return
	}
	var diff slog.Attr
	if d := DiffOf(r.Vertex.String(), r.Outcome.Changes); d != "" && p.news(r, d) {
		diff = slog.Any("diff", d)
	}
	var list slog.Attr
	if len(r.Outcome.Changes) > 0 {
		list = slog.Any("changes", changes(r.Outcome.Changes))
	}
	var took slog.Attr
	if r.Took >= time.Second {
		took = slog.Duration("took", r.Took)
	}
	p.print(level, msg, res, list, took, why(r), diff)
}

// news says that the difference is not the one that was shown for the resource a moment
// ago: what is undone and repaired again and again need not be shown each time.
func (p *Report) news(r pipeline.Result, d Diff) bool {
	now := shown{maphash.String(p.seed, string(d)), r.Time}
	last, ok := p.shown[r.Vertex]
	if ok && last.diff == now.diff && now.at.Sub(last.at) < showAgain {
		return false
	}
	if len(p.shown) >= maxRemembered {
		clear(p.shown)
	}
	p.shown[r.Vertex] = now
	return true
}

// failed logs a failure where it happens: as an error once, and afterwards, while it
// goes on in the same way, for those who debug.
func (p *Report) failed(again bool, r pipeline.Result, res slog.Attr) {
	text := Describe(r.Err)
	level := slog.LevelError
	if again {
		level = slog.LevelDebug
	}
	p.failing[r.Vertex] = text
	var retry slog.Attr
	if r.WillRetry {
		retry = slog.Duration("retry_in", r.RetryAfter)
	}
	p.print(level, "failed", res, slog.String("error", text), retry, why(r))
	if panicked, ok := errors.AsType[*streams.PanicError](r.Err); ok && p.debug {
		p.print(slog.LevelDebug, "stack", res, slog.Any("stack", Diff(panicked.Stack)))
	}
}

// maxNotes is how many notes about a graph are logged.
const maxNotes = 10

// notes logs what there is to say about a graph, but for what was said of the one before.
func (p *Report) notes(g *pipeline.Graph) {
	before := p.noted
	p.noted = make(map[string]bool, len(g.Notes))
	logged := 0
	for _, n := range g.Notes {
		p.noted[n.Text] = true
		if before[n.Text] {
			continue
		}
		if logged++; logged <= maxNotes {
			p.print(slog.LevelInfo, "note", slog.String("text", pipeline.Problem{File: g.File, Pos: n.Pos, Message: n.Text}.Error()))
		}
	}
	if logged > maxNotes {
		p.print(slog.LevelInfo, "more notes", slog.Int("count", logged-maxNotes))
	}
}

func (p *Report) swapped(r pipeline.Result) {
	defer p.notes(r.Graph)
	name := slog.String("graph", r.Graph.Name)
	edges := slog.Int("edges", len(r.Graph.Edges))
	if !p.loaded {
		p.loaded = true
		p.print(slog.LevelInfo, "graph loaded", name, slog.Int("resources", len(r.Graph.Vertices)), edges)
		return
	}
	clear(p.shown) // of which some are gone
	s := r.Swap
	p.print(slog.LevelInfo, "graph swapped", name,
		slog.Int("added", s.Added), slog.Int("changed", s.Changed), slog.Int("removed", s.Removed), slog.Int("kept", s.Kept), edges)
	if len(p.failing)+len(p.waiting) == 0 {
		return
	}
	in := make(map[*pipeline.Vertex]bool, len(r.Graph.Vertices))
	for _, v := range r.Graph.Vertices {
		in[v] = true
	}
	gone := func(v *pipeline.Vertex, _ string) bool { return !in[v] }
	maps.DeleteFunc(p.failing, gone)
	maps.DeleteFunc(p.waiting, gone)
}

// rejected logs everything that is wrong with a new version of the graph.
func (p *Report) rejected(err error) {
	for line := range strings.SplitSeq(Describe(err), "\n") {
		p.print(slog.LevelError, "rejected", slog.String("error", line))
	}
	p.print(slog.LevelWarn, "graph kept", slog.String("why", "the new one is rejected; the last good one stays in force"))
}

func (p *Report) quiet(r pipeline.Result) {
	level := slog.LevelDebug
	if !p.converged {
		level = slog.LevelInfo
	}
	p.converged = true
	p.print(level, "converged", slog.Duration("after", r.Time.Sub(p.began)))
}

func (p *Report) trace(r pipeline.Result) {
	var res slog.Attr
	if r.Vertex != nil {
		res = slog.String("res", r.Vertex.String())
	}
	switch r.Kind {
	case pipeline.Woken:
		p.print(slog.LevelDebug, "event", res, slog.String("event", r.Event.String()))
	case pipeline.Started:
		p.print(slog.LevelDebug, "start", res, slog.String("cause", r.Cause.String()), slog.Bool("refresh", r.Refresh))
	case pipeline.Blocked:
		p.print(slog.LevelDebug, "blocked", res, slog.String("by", r.By.String()))
	}
}

// Describe is err as a person is told it. A panic is a fault of the program, and is
// called that.
func Describe(err error) string {
	text := err.Error()
	if p, ok := errors.AsType[*streams.PanicError](err); ok {
		return strings.Replace(text, p.Error(), fmt.Sprintf("internal error: %v; please report it", p.Value), 1)
	}
	return text
}

// aside is a cause that is not shown to people, since they did not ask for it.
type aside struct{ pipeline.Cause }

// why is the attribute with the cause of r.
func why(r pipeline.Result) slog.Attr {
	if r.Cause.Kind == "" {
		return slog.Attr{}
	}
	return slog.Any("cause", aside{r.Cause})
}

// MarshalText is the cause as logs for programs have it.
func (a aside) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// changes is a list of changes as the value of a log attribute.
type changes []sinks.Change

// String is the list on one line.
func (c changes) String() string {
	var b strings.Builder
	for i, one := range c {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == maxChanges {
			fmt.Fprintf(&b, "and %d more", len(c)-i)
			break
		}
		b.WriteString(one.String())
	}
	return b.String()
}

// MarshalJSON is the list as a JSON log has it: one string for each change.
func (c changes) MarshalJSON() ([]byte, error) {
	list := make([]string, 0, min(len(c), maxChanges+1))
	for i, one := range c {
		if i == maxChanges {
			list = append(list, fmt.Sprintf("and %d more", len(c)-i))
			break
		}
		list = append(list, one.String())
	}
	return json.Marshal(list)
}
