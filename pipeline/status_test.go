package pipeline_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// states is a Snapshot as a test reads it: the counts that are not 0, and the lists.
func states(s *pipeline.Status) string {
	snap := s.Snapshot(100)
	var b strings.Builder
	count := func(what string, n int) {
		if n > 0 {
			fmt.Fprintf(&b, "%s=%d ", what, n)
		}
	}
	c := snap.Counts
	count("right", c.Right)
	count("differs", c.Differs)
	count("failed", c.Failed)
	count("blocked", c.Blocked)
	count("waiting", c.Waiting)
	count("pending", c.Pending)
	count("hidden", c.Hidden)
	count("flapping", c.Flapping)
	count("changed", c.Changed)
	count("trouble", c.Trouble)
	for _, r := range slices.Concat(snap.Failed, snap.Blocked, snap.Waiting, snap.Differs, snap.Pending) {
		fmt.Fprintf(&b, "%s:%s", r.Resource, r.State)
		if r.By != "" {
			fmt.Fprintf(&b, "(%s %s)", r.By, r.Output)
		}
		b.WriteByte(' ')
	}
	if c.Right+c.Differs+c.Failed+c.Blocked+c.Waiting+c.Pending+c.Hidden != c.Resources {
		b.WriteString("THE SUM IS WRONG ")
	}
	return strings.TrimSpace(b.String())
}

func TestStatusFollowsEachResource(t *testing.T) {
	g := &pipeline.Graph{Name: "g"}
	a, b := g.Add("step", "a", nil), g.Add("step", "b", nil)
	broken := errors.New("it broke")
	loaded := pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g, Time: noon}
	result := func(kind pipeline.Kind, v *pipeline.Vertex) pipeline.Result {
		return pipeline.Result{Kind: kind, Vertex: v, Time: noon, Cause: pipeline.Cause{Kind: "swap"}}
	}
	start := func(v *pipeline.Vertex) pipeline.Result { return result(pipeline.Started, v) }
	woken := func(v *pipeline.Vertex) pipeline.Result { return result(pipeline.Woken, v) }
	end := func(v *pipeline.Vertex, err error) pipeline.Result {
		r := result(pipeline.Finished, v)
		r.Err = err
		return r
	}
	change := func(r pipeline.Result) pipeline.Result { r.Outcome.Changed = true; return r }
	noop := func(r pipeline.Result) pipeline.Result { r.Noop = true; return r }
	retry := func(r pipeline.Result) pipeline.Result { r.WillRetry = true; return r }
	left := func(r pipeline.Result) pipeline.Result { r.Left = true; return r }
	held := func(kind pipeline.Kind, v, by *pipeline.Vertex, output string) pipeline.Result {
		r := result(kind, v)
		r.By, r.Output = by, output
		return r
	}
	blocked, waiting := held(pipeline.Blocked, b, a, ""), held(pipeline.Waiting, b, a, "stdout")
	for _, c := range []struct {
		name    string
		results []pipeline.Result
		want    string
		lines   []string // of Failures
	}{
		{"nothing has run yet", nil, "pending=2 step[a]:pending step[b]:pending", nil},
		{"one runs, and one is right", []pipeline.Result{start(a), start(b), end(b, nil)}, "right=1 pending=1 step[a]:running", nil},
		{"a run that nobody has told of the start of", []pipeline.Result{end(a, nil), change(end(b, nil))}, "right=2 changed=1", nil},
		{"the same has changed twice", []pipeline.Result{change(end(a, nil)), change(end(a, nil)), end(b, nil)}, "right=2 changed=1", nil},
		{"nothing may be changed", []pipeline.Result{noop(change(end(a, nil))), end(b, nil)}, "right=1 differs=1 step[a]:differs", nil},
		{"an event has come to what was right", []pipeline.Result{end(a, nil), end(b, nil), woken(a)}, "right=1 pending=1 step[a]:pending", nil},
		{"an event has come during a run", []pipeline.Result{start(a), woken(a), end(a, nil), end(b, nil)}, "right=1 pending=1 step[a]:pending", nil},
		{"and that was looked at", []pipeline.Result{start(a), woken(a), end(a, nil), start(a), end(a, nil), end(b, nil)}, "right=2", nil},
		{
			"one fails and blocks the other",
			[]pipeline.Result{end(a, broken), blocked},
			"failed=1 blocked=1 trouble=2 step[a]:failed step[b]:blocked(step[a] )",
			[]string{"step[a]: it broke", "step[b]: not run, because step[a] has failed"},
		},
		{
			"what is blocked stays blocked when an event comes",
			[]pipeline.Result{end(a, broken), blocked, woken(b), start(a)},
			"blocked=1 pending=1 trouble=2 step[b]:blocked(step[a] ) step[a]:running",
			[]string{"step[a]: it broke", "step[b]: not run, because step[a] has failed"},
		},
		{"all is mended", []pipeline.Result{end(a, broken), blocked, woken(a), start(a), end(a, nil), start(b), end(b, nil)}, "right=2", nil},
		{
			"a failure will be tried again", []pipeline.Result{retry(end(a, broken)), end(b, nil)},
			"right=1 pending=1 trouble=1 step[a]:retrying", []string{"step[a]: it broke"},
		},
		{
			"a value does not come", []pipeline.Result{end(a, nil), start(b), waiting},
			"right=1 waiting=1 trouble=1 step[b]:waiting(step[a] stdout)",
			[]string{"step[b]: waits for step[a], which has not sent stdout"},
		},
		{
			"what comes after one that waits for a value",
			[]pipeline.Result{held(pipeline.Waiting, a, b, "stdout"), held(pipeline.Blocked, b, a, "")},
			"blocked=1 waiting=1 trouble=2 step[b]:blocked(step[a] ) step[a]:waiting(step[b] stdout)",
			[]string{"step[a]: waits for step[b], which has not sent stdout", "step[b]: not run, because step[a] waits for a value"},
		},
		{
			"a value does not come since nothing is changed", []pipeline.Result{noop(change(end(a, nil))), noop(waiting)},
			"differs=1 waiting=1 step[b]:waiting(step[a] stdout) step[a]:differs", nil,
		},
		{"a value has come", []pipeline.Result{end(a, nil), waiting, start(b), end(b, nil)}, "right=2", nil},
		{"what has left counts for nothing", []pipeline.Result{left(end(a, broken)), end(b, nil)}, "right=1 pending=1 step[a]:pending", nil},
		{
			"what was kept by a swap keeps its record, wherever it is now",
			[]pipeline.Result{change(end(a, nil)), end(b, broken), {Kind: pipeline.GraphSwapped, Graph: &pipeline.Graph{Vertices: []*pipeline.Vertex{b, {Kind: "step", Name: "new"}, a}}}},
			"right=1 failed=1 pending=1 changed=1 trouble=1 step[b]:failed step[new]:pending", []string{"step[b]: it broke"},
		},
		{
			"and is known there",
			[]pipeline.Result{{Kind: pipeline.GraphSwapped, Graph: &pipeline.Graph{Vertices: []*pipeline.Vertex{b, a}}}, end(a, nil), end(b, broken)},
			"right=1 failed=1 trouble=1 step[b]:failed", []string{"step[b]: it broke"},
		},
		{
			"what is gone is forgotten",
			[]pipeline.Result{end(a, nil), end(b, broken), {Kind: pipeline.GraphSwapped, Graph: &pipeline.Graph{Vertices: []*pipeline.Vertex{a}}}},
			"right=1", nil,
		},
		{
			"what is hidden does not run",
			[]pipeline.Result{end(a, nil), {Kind: pipeline.GraphSwapped, Graph: &pipeline.Graph{Vertices: []*pipeline.Vertex{a, {Kind: "step", Name: "h", Meta: &pipeline.Meta{Hidden: true}}}}}},
			"right=1 hidden=1", nil,
		},
		{"something is undone again and again", []pipeline.Result{end(a, nil), end(b, nil), result(pipeline.Flapping, a), result(pipeline.Flapping, a)}, "right=2 flapping=1", nil},
		{"until it is not", []pipeline.Result{end(a, nil), end(b, nil), result(pipeline.Flapping, a), result(pipeline.Steady, a)}, "right=2", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s pipeline.Status
			s.Observe(loaded)
			for _, r := range c.results {
				s.Observe(r)
			}
			if got := states(&s); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			var lines []string
			for _, err := range s.Failures() {
				lines = append(lines, err.Error())
			}
			if !slices.Equal(lines, c.lines) {
				t.Errorf("failures %q, want %q", lines, c.lines)
			}
			if c.lines != nil && !strings.Contains(c.name, " value") && !errors.Is(s.Failures()[0], broken) {
				t.Error("the failure does not wrap its cause")
			}
			if snap := s.Snapshot(0); snap.Well() != (c.lines == nil) {
				t.Errorf("well is %v", snap.Well())
			}
		})
	}
}

func TestStatusTellsOfTheLastRun(t *testing.T) {
	g := &pipeline.Graph{Name: "g"}
	a, b := g.Add("step", "a", nil), g.Add("step", "b", nil)
	every := sources.Interval{Every: 5 * time.Second}
	event := pipeline.Cause{Kind: "event", Source: "timer", Watch: every}
	var s pipeline.Status
	s.Observe(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g, Time: noon})
	if got, ok := s.Resource(a); !ok || got.State != "pending" || got.Last != nil {
		t.Errorf("before it has run: %+v, %v", got, ok)
	}
	long := strings.Repeat("é", 5000)
	many := []sinks.Change{{Field: "password", From: "hunter1", To: "hunter2", Secret: true}, {Field: "content", From: "x", To: long}}
	for range 20 {
		many = append(many, sinks.Change{Field: "more"})
	}
	s.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: a, Time: noon, Took: 1234567, Cause: event, Batch: 3, Outcome: sinks.Outcome{Changed: true, Changes: many}})
	got, _ := s.Resource(a)
	if got.State != "right" || got.Repairs != 1 || got.Last == nil {
		t.Fatalf("after it has run: %+v", got)
	}
	last := got.Last
	if !last.Began.Equal(noon) || last.Duration != 1.234 || last.Cause.String() != "event timer every 5s" || last.Batch != 3 || !last.Changed {
		t.Errorf("its last run: %+v", last)
	}
	if len(last.Changes) != 10 || last.Changes[0].To != "(secret)" || last.Changes[1].From != "x" {
		t.Errorf("its changes: %+v", last.Changes)
	}
	if to := last.Changes[1].To; len(to) > 250 || !strings.HasSuffix(to, "é ... (9800 bytes more)") {
		t.Errorf("a long text is %q", to)
	}

	s.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: a, Time: noon, Took: time.Second, Cause: pipeline.Cause{Kind: "predecessor", Vertex: b}, Err: &streams.PanicError{Value: "boom"}, WillRetry: true, RetryAfter: time.Minute})
	got, _ = s.Resource(a)
	if got.State != "retrying" || got.Error != "internal error: boom; please report it" || !got.RetryAt.Equal(noon.Add(61*time.Second)) || got.Last.Cause.Resource != "step[b]" || got.Repairs != 1 {
		t.Errorf("after a failure: %+v, %+v", got, got.Last)
	}

	s.Observe(pipeline.Result{Kind: pipeline.Blocked, Vertex: a, By: b, Time: noon})
	if got, _ = s.Resource(a); got.State != "blocked" || got.By != "step[b]" || got.Error == "" || got.Last.Cause.Resource != "step[b]" {
		t.Errorf("when it is blocked after that: %+v, %+v", got, got.Last)
	}
	s.Observe(pipeline.Result{Kind: pipeline.Flapping, Vertex: a, Time: noon, Count: 7, RetryAfter: time.Second, Cause: event})
	if got, _ = s.Resource(a); got.Flapping == nil || got.Flapping.Count != 7 || !got.Flapping.Until.Equal(noon.Add(time.Second)) || got.Flapping.Cause.Watch != "every 5s" {
		t.Errorf("when it flaps: %+v", got.Flapping)
	}
	if list := s.Snapshot(5).Flapping; len(list) != 1 || list[0].Resource != "step[a]" {
		t.Errorf("the list of what flaps: %+v", list)
	}
}

func TestStatusTellsOfWhatCouldNotBeUndone(t *testing.T) {
	var s pipeline.Status
	gone := &pipeline.Vertex{Kind: "step", Name: "gone"}
	s.Observe(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: &pipeline.Graph{}})
	s.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: gone, Err: errors.New("busy")})
	if got := s.Failures(); len(got) != 1 || got[0].Error() != "step[gone]: busy" {
		t.Errorf("failures: %v", got)
	}
	if snap := s.Snapshot(1); snap.Well() || !slices.Equal(snap.Gone, []string{"step[gone]: busy"}) {
		t.Errorf("got %+v", snap)
	}
	s.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: gone})
	if got := s.Failures(); got != nil {
		t.Errorf("failures after it was undone: %v", got)
	}
}

func TestSnapshotSaysWhatIsBlockedBeforeTheRunDoes(t *testing.T) {
	g := &pipeline.Graph{}
	a, b, c, d, e := g.Add("step", "a", nil), g.Add("step", "b", nil), g.Add("step", "c", nil), g.Add("step", "d", nil), g.Add("step", "e", nil)
	g.Connect(a, b, false)
	g.Connect(b, c, false)
	g.Connect(a, d, false)
	var s pipeline.Status
	s.Observe(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g})
	s.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: d}) // right, and stays so
	s.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: a, Err: errors.New("it broke")})
	s.Observe(pipeline.Result{Kind: pipeline.Started, Vertex: e})
	const want = "right=1 failed=1 blocked=2 pending=1 trouble=3 step[a]:failed step[b]:blocked(step[a] ) step[c]:blocked(step[a] ) step[e]:running"
	if got := states(&s); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r, _ := s.Resource(c); r.State != "blocked" || r.By != "step[a]" {
		t.Errorf("got %+v", r)
	}
	s.Observe(pipeline.Result{Kind: pipeline.Started, Vertex: a})
	if got := states(&s); got != "right=1 pending=4 trouble=1 step[a]:running step[b]:pending step[c]:pending step[e]:running" {
		t.Errorf("while it is tried again: %s", got)
	}
}

func TestSnapshotIsBounded(t *testing.T) {
	g := &pipeline.Graph{}
	for i := range 50 {
		g.Add("step", fmt.Sprint(i), nil)
	}
	var s pipeline.Status
	s.Observe(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g})
	if snap := s.Snapshot(7); len(snap.Pending) != 7 || snap.Counts.Pending != 50 || snap.Pending[6].Resource != "step[6]" {
		t.Errorf("got %d of %d", len(snap.Pending), snap.Counts.Pending)
	}
}

// BenchmarkStatus feeds a Status what a sweep of 100,000 resources tells, and measures
// the memory that it takes.
func BenchmarkStatus(b *testing.B) {
	g := &pipeline.Graph{}
	for i := range 100_000 {
		g.Add("step", fmt.Sprint(i), nil)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var s pipeline.Status
	s.Observe(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g})
	now := time.Now()
	sweep := func() {
		for _, v := range g.Vertices {
			s.Observe(pipeline.Result{Kind: pipeline.Started, Vertex: v, Time: now, Cause: pipeline.Cause{Kind: "swap"}})
			s.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: v, Time: now, Cause: pipeline.Cause{Kind: "swap"}})
		}
	}
	sweep()
	memory := float64(heap()-before) / 100_000
	for b.Loop() {
		sweep()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100_000, "ns/run")
	b.ReportMetric(memory, "B/resource")
	runtime.KeepAlive(&s)
}
