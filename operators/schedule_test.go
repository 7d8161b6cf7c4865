package operators_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

// actor is a sink that takes its time and has the next of its outcomes, or the last again.
type actor struct {
	name     string
	takes    time.Duration
	schedule operators.Schedule
	outcomes []operators.Outcome
	deaf     bool // to a cancel
	told     []bool
}

func (a *actor) String() string               { return a.name }
func (a *actor) Schedule() operators.Schedule { return a.schedule }

func (a *actor) CheckApply(ctx context.Context, run operators.Run) operators.Outcome {
	if err := pass(ctx, a.takes, a.deaf); err != nil {
		return operators.Outcome{Err: err}
	}
	return a.next(run)
}

func (a *actor) next(run operators.Run) (o operators.Outcome) {
	a.told = append(a.told, run.Refresh)
	if len(a.outcomes) > 0 {
		o = a.outcomes[0]
		a.outcomes = a.outcomes[min(1, len(a.outcomes)-1):]
	}
	return o
}

func pass(ctx context.Context, d time.Duration, deaf bool) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		if deaf {
			time.Sleep(d)
		}
		return ctx.Err()
	}
}

// team is a batch of actors that notes who was applied when.
type team struct {
	takes time.Duration
	wrong func([]operators.Outcome) []operators.Outcome
	deaf  bool
	began time.Time
	log   []string
}

func (b *team) CheckApply(ctx context.Context, members []operators.Sink, runs []operators.Run) []operators.Outcome {
	b.log = append(b.log, fmt.Sprint(time.Since(b.began), members))
	outcomes := make([]operators.Outcome, len(members))
	err := pass(ctx, b.takes, b.deaf)
	if err != nil {
		b.log = append(b.log, fmt.Sprint(time.Since(b.began), " cancelled"))
	}
	for i, m := range members {
		if outcomes[i].Err = err; err == nil {
			outcomes[i] = m.(*actor).next(runs[i])
		}
	}
	if b.wrong != nil {
		return b.wrong(outcomes)
	}
	return outcomes
}

// A cue is an input that comes at a time.
type cue struct {
	at time.Duration
	in operators.Input
}

// cues emits inputs at their times, and then completes.
func cues(list []cue) streams.Observable[operators.Input] {
	return streams.New(func(ctx context.Context, emit func(operators.Input) bool) error {
		began := time.Now()
		for _, c := range list {
			if err := pass(ctx, c.at-time.Since(began), false); err != nil {
				return err
			}
			if !emit(c.in) {
				return nil
			}
		}
		return nil
	})
}

// timeline runs a Sequence to its end and returns what it reported and when, sorted where
// that was at once.
func timeline(t *testing.T, opts operators.SequenceOptions, list []cue) []string {
	t.Helper()
	opts.Trace = true
	got, err := collect(t.Context(), operators.Sequence(cues(list), opts), 0)
	if err != nil {
		t.Error(err)
	}
	slices.SortStableFunc(got, func(a, b stamped[operators.Result]) int {
		if a.At != b.At {
			return int(a.At - b.At)
		}
		return strings.Compare(describe(a.V), describe(b.V))
	})
	var lines []string
	for _, r := range got {
		if what := describe(r.V); what != "" {
			lines = append(lines, fmt.Sprint(r.At, " ", what))
		}
	}
	return lines
}

func describe(r operators.Result) string {
	var s string
	switch {
	case r.Kind == operators.Started:
		s = fmt.Sprint(r.Sink, " starts")
	case r.Kind == operators.Idle:
		return "idle"
	case r.Kind == operators.Blocked:
		return fmt.Sprintf("%v blocked by %v", r.Sink, r.By)
	case r.Kind != operators.Finished:
		return ""
	case r.Left:
		s = fmt.Sprint(r.Sink, " left")
	case r.Outcome.Err != nil:
		s = fmt.Sprintf("%v failed: %v", r.Sink, r.Outcome.Err)
	default:
		s = fmt.Sprint(r.Sink, " ok")
	}
	if r.Batch > 0 {
		s += fmt.Sprintf(" of %d", r.Batch)
	}
	return s
}

// diff fails for the first line in which got is not as wanted.
func diff(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func sema(list ...string) (s operators.Schedule) {
	s.Waits = true
	for _, text := range list {
		name, count, _ := strings.Cut(text, ":")
		n := 1
		if count != "" {
			_, _ = fmt.Sscan(count, &n)
		}
		s.Semaphores = append(s.Semaphores, operators.Semaphore{Name: name, Count: n})
	}
	return s
}

func cast(actors ...*actor) (list []operators.Sink) {
	for _, a := range actors {
		list = append(list, a)
	}
	return list
}

// kept carries all of a graph of n over to itself.
func kept(n int) (carry []operators.Carry) {
	for i := range n {
		carry = append(carry, operators.Carry{Old: int32(i), Same: true})
	}
	return carry
}

func TestSemaphores(t *testing.T) {
	const s = time.Second
	var none operators.SequenceOptions
	for _, tt := range []struct {
		name   string
		actors []*actor
		edges  []operators.Edge
		then   []cue
		want   []string
	}{
		{
			name: "as many run as the largest count says, in the order of the graph",
			actors: []*actor{
				{name: "a", takes: s, schedule: sema("s")}, {name: "b", takes: s, schedule: sema("s:2")},
				{name: "c", takes: s, schedule: sema("s")}, {name: "d", takes: s, schedule: sema("s:0")},
			},
			want: []string{
				"0s a starts", "0s b starts", "1s a ok", "1s b ok", "1s c starts", "1s d starts", "2s c ok", "2s d ok", "2s idle",
			},
		},
		{
			name:   "it also holds for what takes a worker",
			actors: []*actor{{name: "a", takes: s, schedule: operators.Schedule{Semaphores: sema("s").Semaphores}}, {name: "b", takes: s, schedule: sema("s")}},
			want:   []string{"0s a starts", "1s a ok", "1s b starts", "2s b ok", "2s idle"},
		},
		{
			name:   "a name that is given twice is held once",
			actors: []*actor{{name: "a", takes: s, schedule: sema("s", "s")}, {name: "b", takes: s, schedule: sema("s")}},
			want:   []string{"0s a starts", "1s a ok", "1s b starts", "2s b ok", "2s idle"},
		},
		{
			name: "who waits for one holds no other meanwhile, and moves on to the line of the other",
			actors: []*actor{
				{name: "a", takes: s, schedule: sema("s")}, {name: "b", takes: s, schedule: sema("s", "t")}, {name: "c", takes: 2 * s, schedule: sema("t")},
			},
			want: []string{"0s a starts", "0s c starts", "1s a ok", "2s b starts", "2s c ok", "3s b ok", "3s idle"},
		},
		{
			name: "who comes to wait for an ancestor loses its turn, and has it again",
			actors: []*actor{
				{name: "a", takes: 2 * s, schedule: sema("s")}, {name: "b", takes: s, schedule: sema("s")}, {name: "c", takes: s, schedule: sema("s")}, {name: "x", takes: 5 * s},
			},
			edges: []operators.Edge{{From: 3, To: 1}},
			then: []cue{
				{20 * s, operators.Input{Wake: []int32{0, 1, 2}}},
				{21 * s, operators.Input{Wake: []int32{3}}},
			},
			want: []string{
				"0s a starts", "0s x starts", "2s a ok", "2s c starts", "3s c ok", "5s b starts", "5s x ok", "6s b ok", "6s idle",
				"20s a starts", "21s x starts", "22s a ok", "22s c starts", "23s c ok", "26s b starts", "26s x ok", "27s b ok", "27s idle",
			},
		},
		{
			name:   "a failure gives back what it held, and gets in line for its next attempt",
			actors: []*actor{{name: "a", takes: s, schedule: sema("s"), outcomes: []operators.Outcome{{Err: errBoom, Retry: true, RetryAfter: s}, {}}}, {name: "b", takes: 3 * s, schedule: sema("s")}},
			want:   []string{"0s a starts", "1s a failed: boom", "1s b starts", "4s a starts", "4s b ok", "5s a ok", "5s idle"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := operators.Input{Graph: newGraph(t, cast(tt.actors...), tt.edges...)}
				diff(t, timeline(t, none, append([]cue{{0, start}}, tt.then...)), tt.want...)
			})
		})
	}
}

// A vertex that waits for a worker, with its semaphore, gives it up for an ancestor. When
// the worker comes, somebody else has the semaphore.
func TestSemaphoreLostWhileQueued(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		long, x := &actor{name: "long", takes: 4 * s}, &actor{name: "x", takes: s, schedule: operators.Schedule{Waits: true}}
		b, c := &actor{name: "b", schedule: operators.Schedule{Semaphores: sema("s").Semaphores}}, &actor{name: "c", takes: 9 * s, schedule: sema("s")}
		wake := func(at time.Duration, v int32) cue { return cue{at, operators.Input{Wake: []int32{v}}} }
		got := timeline(t, operators.SequenceOptions{Workers: 1}, []cue{
			{0, operators.Input{Graph: newGraph(t, cast(long, x, b, c), operators.Edge{From: 1, To: 2})}},
			wake(20*s, 0), wake(21*s, 2), wake(22*s, 3), wake(22500*time.Millisecond, 1),
		})
		diff(t, got[slices.Index(got, "20s long starts"):],
			"20s long starts", "22.5s c starts", "22.5s x starts", "23.5s x ok", "24s long ok", "31.5s b ok", "31.5s b starts", "31.5s c ok", "31.5s idle")
	})
}

func TestSemaphoresAcrossSwaps(t *testing.T) {
	const s = time.Second
	t.Run("what has left the graph keeps its hold to its end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &actor{name: "a", takes: 3 * s, deaf: true, schedule: sema("s")}
			b := &actor{name: "b", schedule: sema("s")}
			got := timeline(t, operators.SequenceOptions{}, []cue{
				{0, operators.Input{Graph: newGraph(t, cast(b, a))}},
				{s, operators.Input{Graph: newGraph(t, cast(b)), Carry: kept(1)}},
				{2 * s, operators.Input{Wake: []int32{0}}},
			})
			diff(t, got, "0s a starts", "0s b ok", "0s b starts", "4s a left", "4s b ok", "4s b starts", "4s idle")
		})
	})
	t.Run("a smaller count holds for what was kept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b, c := &actor{name: "a", takes: 5 * s, schedule: sema("s")}, &actor{name: "b", schedule: sema("s")}, &actor{name: "c", schedule: sema("s:2")}
			got := timeline(t, operators.SequenceOptions{}, []cue{
				{0, operators.Input{Graph: newGraph(t, cast(a, b, c))}},
				{s, operators.Input{Wake: []int32{1}}},
				{2 * s, operators.Input{Graph: newGraph(t, cast(a, b)), Carry: kept(2)}},
				{3 * s, operators.Input{Wake: []int32{1}}},
			})
			diff(t, got, "0s a starts", "0s b ok", "0s b starts", "0s c ok", "0s c starts", "1s b ok", "1s b starts", "5s a ok", "5s b ok", "5s b starts", "5s idle")
		})
	})
	t.Run("those in line keep their order, and a larger count lets them go on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &actor{name: "a", takes: 9 * s, schedule: sema("s")}
			b, c, d := &actor{name: "b", schedule: sema("s")}, &actor{name: "c", takes: s, schedule: sema("s")}, &actor{name: "d", schedule: sema("s:2")}
			got := timeline(t, operators.SequenceOptions{}, []cue{
				{0, operators.Input{Graph: newGraph(t, cast(c, b, a))}},
				{2 * s, operators.Input{Wake: []int32{0}}},
				{3 * s, operators.Input{Wake: []int32{1}}},
				{4 * s, operators.Input{ // the order of the graph is another now
					Graph: newGraph(t, cast(b, c, a, d)),
					Carry: []operators.Carry{{Old: 1, Same: true}, {Old: 0, Same: true}, {Old: 2, Same: true}, {Old: -1}},
				}},
			})
			diff(t, got,
				"0s c starts", "1s a starts", "1s b ok", "1s b starts", "1s c ok",
				"4s c starts", "5s b ok", "5s b starts", "5s c ok", "5s d ok", "5s d starts", "10s a ok", "10s idle")
		})
	})
}

func TestBatches(t *testing.T) {
	const s = time.Second
	start := func(b *team, names string) (list []*actor) {
		b.began = time.Now()
		for _, n := range strings.Fields(names) {
			list = append(list, &actor{name: n, schedule: operators.Schedule{Batch: b}})
		}
		return list
	}
	run := func(t *testing.T, name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
	wake := func(at time.Duration, v ...int32) cue { return cue{at, operators.Input{Wake: v}} }

	run(t, "what is ready is applied together, and what becomes ready meanwhile after it", func(t *testing.T) {
		b := &team{takes: 2 * s}
		actors := start(b, "a b c")
		actors[0].outcomes = []operators.Outcome{{Changed: true}, {}}
		got := timeline(t, operators.SequenceOptions{Workers: 1}, []cue{
			{0, operators.Input{Graph: newGraph(t, cast(actors...), operators.Edge{From: 0, To: 2, Notify: true})}},
			wake(s, 1), wake(9*s, 1), // one of the two is alone
		})
		diff(t, b.log, "0s [a b]", "2s [c b]", "9s [b]")
		diff(t, got,
			"0s a starts of 2", "0s b starts of 2", "2s a ok of 2", "2s b ok of 2", "2s b starts of 2", "2s c starts of 2",
			"4s b ok of 2", "4s c ok of 2", "4s idle", "9s b starts", "11s b ok", "11s idle")
		if !slices.Equal(actors[2].told, []bool{true}) || !slices.Equal(actors[1].told, []bool{false, false, false}) {
			t.Errorf("told of a refresh: b %v, c %v", actors[1].told, actors[2].told)
		}
	})
	run(t, "each member has its own outcome", func(t *testing.T) {
		b := &team{takes: s}
		actors := start(b, "a b c")
		actors[0].outcomes = []operators.Outcome{{Err: errBoom}}
		actors[1].outcomes = []operators.Outcome{{Err: errBoom, Retry: true, RetryAfter: s}, {}}
		actors = append(actors, &actor{name: "after a"}, &actor{name: "after b"}, &actor{name: "after c"})
		got := timeline(t, operators.SequenceOptions{}, []cue{{0, operators.Input{Graph: newGraph(t, cast(actors...),
			operators.Edge{From: 0, To: 3}, operators.Edge{From: 1, To: 4}, operators.Edge{From: 2, To: 5})}}})
		diff(t, got,
			"0s a starts of 3", "0s b starts of 3", "0s c starts of 3",
			"1s a failed: boom of 3", "1s after c ok", "1s after c starts", "1s b failed: boom of 3", "1s c ok of 3",
			"2s b starts", "3s after a blocked by a", "3s after b ok", "3s after b starts", "3s b ok", "3s idle")
	})
	run(t, "others run beside it, and it is one against the cap", func(t *testing.T) {
		b, c := &team{takes: s}, &team{takes: s}
		actors := append(start(b, "a b"), start(c, "c d")...)
		in := []cue{{0, operators.Input{Graph: newGraph(t, append(cast(actors...), cast(&actor{name: "e", takes: s})...))}}}
		if got := timeline(t, operators.SequenceOptions{Workers: 1}, in); !slices.Contains(got, "1s idle") {
			t.Errorf("not all run at once: %v", got)
		}
		if got := timeline(t, operators.SequenceOptions{MaxParallel: 2}, in); !slices.Contains(got, "2s idle") {
			t.Errorf("not two at a time: %v", got)
		}
	})
	run(t, "members hold their semaphores", func(t *testing.T) {
		b := &team{takes: s}
		actors := start(b, "a b c")
		actors[0].schedule.Semaphores, actors[1].schedule.Semaphores = sema("s").Semaphores, sema("s").Semaphores
		timeline(t, operators.SequenceOptions{}, []cue{{0, operators.Input{Graph: newGraph(t, cast(actors...))}}})
		diff(t, b.log, "0s [a c]", "1s [b]")
	})
	run(t, "a panic fails all", func(t *testing.T) {
		b := &team{wrong: func([]operators.Outcome) []operators.Outcome { panic("oh") }}
		got := timeline(t, operators.SequenceOptions{}, []cue{{0, operators.Input{Graph: newGraph(t, cast(start(b, "a b")...))}}})
		diff(t, got, "0s a failed: stream panicked: oh of 2", "0s a starts of 2", "0s b failed: stream panicked: oh of 2", "0s b starts of 2", "0s idle")
	})
	run(t, "too few outcomes are a failure of all", func(t *testing.T) {
		b := &team{wrong: func(o []operators.Outcome) []operators.Outcome { return o[1:] }}
		got := timeline(t, operators.SequenceOptions{}, []cue{{0, operators.Input{Graph: newGraph(t, cast(start(b, "a b")...))}}})
		const why = "failed: a batch of 2 returned 1 outcomes: it has to return one for each of 2"
		diff(t, got, "0s a "+why, "0s a starts of 2", "0s b "+why, "0s b starts of 2", "0s idle")
	})
	run(t, "it is cancelled when all members have left, and equal ones wait for it", func(t *testing.T) {
		b := &team{takes: 5 * s, deaf: true}
		actors := start(b, "a b c")
		got := timeline(t, operators.SequenceOptions{}, []cue{
			{0, operators.Input{Graph: newGraph(t, cast(actors...), operators.Edge{From: 0, To: 2})}},
			{s, operators.Input{Graph: newGraph(t, cast(actors[1:]...), operators.Edge{From: 0, To: 1}), Carry: []operators.Carry{{Old: 1, Same: true}, {Old: 2, Same: true}}}},
			{2 * s, operators.Input{Graph: newGraph(t, cast(actors[2])), Carry: []operators.Carry{{Old: 1, Same: true}}}},
		})
		// c is kept, so it does not wait for what has left but for its batch.
		diff(t, got, "0s a starts of 2", "0s b starts of 2", "7s a left of 2", "7s b left of 2", "7s c starts", "12s c ok", "12s idle")
		diff(t, b.log, "0s [a b]", "7s cancelled", "7s [c]")
	})
	run(t, "a cancel ends it", func(t *testing.T) {
		b := &team{takes: time.Hour}
		ctx, cancel := context.WithTimeoutCause(t.Context(), s, errBoom)
		defer cancel()
		began := time.Now()
		in := streams.Merge(1, cues([]cue{{0, operators.Input{Graph: newGraph(t, cast(start(b, "a b")...))}}}), streams.Never[operators.Input]())
		_, err := collect(ctx, operators.Sequence(in, operators.SequenceOptions{}), 0)
		if !errors.Is(err, errBoom) || time.Since(began) != s {
			t.Errorf("ended after %v with %v", time.Since(began), err)
		}
	})
}

// vague is a batch that can't be a map key.
type vague struct{ members []operators.Sink }

func (v vague) CheckApply(context.Context, []operators.Sink, []operators.Run) []operators.Outcome {
	return make([]operators.Outcome, len(v.members))
}

func TestBatchHasToBeComparable(t *testing.T) {
	g := newGraph(t, cast(&actor{schedule: operators.Schedule{Batch: vague{}}}))
	_, err := collect(t.Context(), operators.Sequence(streams.Of(operators.Input{Graph: g}), operators.SequenceOptions{}), 0)
	if err == nil || err.Error() != "the batch of vertex 0 is a operators_test.vague, which can't be compared; use a pointer" {
		t.Errorf("got %v", err)
	}
}

func TestRest(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	rests := func(d time.Duration) *actor {
		return &actor{name: "a", outcomes: []operators.Outcome{{Rest: d}}}
	}
	wake := func(at time.Duration, v ...int32) cue { return cue{at, operators.Input{Wake: v}} }
	storm := func() (list []cue) {
		for i := 1; i <= 100; i++ {
			list = append(list, wake(time.Duration(i)*10*ms, 0))
		}
		return list
	}
	edge := operators.Edge{From: 0, To: 1}
	for _, tt := range []struct {
		name   string
		actors []*actor
		then   []cue
		swap   []operators.Carry // at 2 s
		want   []string
	}{
		{
			name:   "a hundred events while it rests lead to one run, and hold back what is behind",
			actors: []*actor{rests(10 * s), {name: "b"}},
			then:   append(storm(), wake(5*s, 1)),
			want:   []string{"0s a ok", "0s a starts", "0s b ok", "0s b starts", "0s idle", "10s a ok", "10s a starts", "10s b ok", "10s b starts", "10s idle"},
		},
		{
			name:   "without an event nothing waits for its end",
			actors: []*actor{rests(time.Hour), {name: "b"}},
			then:   []cue{wake(s, 1)},
			want:   []string{"0s a ok", "0s a starts", "0s b ok", "0s b starts", "0s idle", "1s b ok", "1s b starts", "1s idle"},
		},
		{
			name:   "an event after its end runs at once",
			actors: []*actor{rests(s)},
			then:   []cue{wake(3*s, 0), wake(3500*ms, 0)},
			want:   []string{"0s a ok", "0s a starts", "0s idle", "3s a ok", "3s a starts", "3s idle", "4s a ok", "4s a starts", "4s idle"},
		},
		{
			name:   "an event during the run waits for the rest that follows it",
			actors: []*actor{{name: "a", takes: 2 * s, outcomes: []operators.Outcome{{Rest: 5 * s}, {}}}},
			then:   []cue{wake(s, 0)},
			want:   []string{"0s a starts", "2s a ok", "7s a starts", "9s a ok", "9s idle"},
		},
		{
			name:   "a failure can rest, too",
			actors: []*actor{{name: "a", outcomes: []operators.Outcome{{Err: errBoom, Rest: 5 * s}, {}}}, {name: "b"}},
			then:   []cue{wake(s, 0), wake(2*s, 1)},
			want:   []string{"0s a failed: boom", "0s a starts", "0s b blocked by a", "0s idle", "5s a ok", "5s a starts", "5s b ok", "5s b starts", "5s idle"},
		},
		{
			name:   "a retry does not",
			actors: []*actor{{name: "a", outcomes: []operators.Outcome{{Err: errBoom, Rest: 5 * s, Retry: true, RetryAfter: s}, {}}}},
			want:   []string{"0s a failed: boom", "0s a starts", "1s a ok", "1s a starts", "1s idle"},
		},
		{
			name:   "a swap that keeps the vertex keeps its rest, with and without an event",
			actors: []*actor{rests(5 * s), {name: "b", outcomes: []operators.Outcome{{Rest: 5 * s}, {}}}},
			then:   []cue{wake(s, 0), wake(3*s, 1)},
			swap:   []operators.Carry{{Old: 0, Same: true}, {Old: 1, Same: true}},
			want:   []string{"0s a ok", "0s a starts", "0s b ok", "0s b starts", "0s idle", "5s a ok", "5s a starts", "5s b ok", "5s b starts", "5s idle"},
		},
		{
			name:   "a swap that changes the vertex ends its rest",
			actors: []*actor{rests(5 * s), {name: "b", outcomes: []operators.Outcome{{Rest: 5 * s}, {}}}},
			then:   []cue{wake(s, 0)},
			swap:   []operators.Carry{{Old: 0}, {Old: 1}},
			want:   []string{"0s a ok", "0s a starts", "0s b ok", "0s b starts", "0s idle", "2s a ok", "2s a starts", "2s b ok", "2s b starts", "2s idle"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var edges []operators.Edge
				if len(tt.actors) > 1 {
					edges = append(edges, edge)
				}
				list := append([]cue{{0, operators.Input{Graph: newGraph(t, cast(tt.actors...), edges...)}}}, tt.then...)
				if tt.swap != nil {
					list = append(list, cue{2 * s, operators.Input{Graph: newGraph(t, cast(tt.actors...)), Carry: tt.swap}})
					slices.SortStableFunc(list, func(a, b cue) int { return int(a.at - b.at) })
				}
				diff(t, timeline(t, operators.SequenceOptions{}, list), tt.want...)
			})
		})
	}
	t.Run("a cancel does not wait for its end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 2*s, errBoom)
			defer cancel()
			began := time.Now()
			in := cues([]cue{{0, operators.Input{Graph: newGraph(t, cast(rests(time.Hour)))}}, wake(s, 0), wake(time.Hour)})
			_, err := collect(ctx, operators.Sequence(in, operators.SequenceOptions{}), 0)
			if !errors.Is(err, errBoom) || time.Since(began) != 2*s {
				t.Errorf("ended after %v with %v", time.Since(began), err)
			}
		})
	})
}

func TestSent(t *testing.T) {
	const s = time.Second
	notify := operators.Edge{From: 0, To: 1, Notify: true}
	for _, tt := range []struct {
		name    string
		outcome operators.Outcome
		want    []string // after the second run of a
		refresh bool
	}{
		{"nothing sent runs nothing", operators.Outcome{}, []string{"a ok"}, false},
		{"only those that are sent something run, and are not notified", operators.Outcome{Sent: make([]operators.Sink, 1)}, []string{"a ok", "b ok"}, false},
		{"a change runs all", operators.Outcome{Changed: true, Sent: make([]operators.Sink, 1)}, []string{"a ok", "b ok", "c ok"}, true},
		{"a failure sends nothing", operators.Outcome{Err: errBoom, Sent: make([]operators.Sink, 1)}, []string{"a failed: boom"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, c, d := &actor{name: "a"}, &actor{name: "b"}, &actor{name: "c"}, &actor{name: "d"}
				if len(tt.outcome.Sent) > 0 {
					tt.outcome.Sent = cast(b, d) // d is not a successor
				}
				a.outcomes = []operators.Outcome{{}, tt.outcome}
				got := timeline(t, operators.SequenceOptions{}, []cue{
					{0, operators.Input{Graph: newGraph(t, cast(a, b, c, d), notify, operators.Edge{From: 0, To: 2}, operators.Edge{From: 2, To: 3})}},
					{s, operators.Input{Wake: []int32{0}}},
				})
				var ran []string
				for _, line := range got {
					if what, second := strings.CutPrefix(line, "1s "); second && !strings.HasSuffix(what, "starts") && what != "idle" {
						ran = append(ran, what)
					}
				}
				if slices.Contains(tt.want, "c ok") && slices.Contains(ran, "d ok") {
					t.Error("d runs though c has changed nothing")
				}
				diff(t, ran, tt.want...)
				if told := b.told[len(b.told)-1]; told != tt.refresh {
					t.Errorf("b is told refresh %v, want %v", told, tt.refresh)
				}
			})
		})
	}
}

func TestCarriedRefresh(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		same, added, plain := &actor{name: "same"}, &actor{name: "added"}, &actor{name: "plain"}
		got := timeline(t, operators.SequenceOptions{}, []cue{
			{0, operators.Input{Graph: newGraph(t, cast(same))}},
			{s, operators.Input{
				Graph: newGraph(t, cast(same, added, plain)),
				Carry: []operators.Carry{{Old: 0, Same: true, Refresh: true}, {Old: -1, Refresh: true}, {Old: -1}},
			}},
			{2 * s, operators.Input{Wake: []int32{0}}},
			{3 * s, operators.Input{Wake: []int32{0}}},
		})
		diff(t, got,
			"0s idle", "0s same ok", "0s same starts", "1s added ok", "1s added starts", "1s idle", "1s plain ok", "1s plain starts",
			"2s idle", "2s same ok", "2s same starts", "3s idle", "3s same ok", "3s same starts")
		for _, c := range []struct {
			a    *actor
			want []bool
		}{{same, []bool{false, true, false}}, {added, []bool{true}}, {plain, []bool{false}}} {
			if !slices.Equal(c.a.told, c.want) {
				t.Errorf("%v was told %v, want %v", c.a, c.a.told, c.want)
			}
		}
	})
}
