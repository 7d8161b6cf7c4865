package operators_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

// sinkFunc is a sink made of a function.
type sinkFunc struct {
	name  string
	f     func(ctx context.Context, run operators.Run) operators.Outcome
	waits bool
}

func (s *sinkFunc) CheckApply(ctx context.Context, run operators.Run) operators.Outcome {
	return s.f(ctx, run)
}
func (s *sinkFunc) Schedule() operators.Schedule { return operators.Schedule{Waits: s.waits} }
func (s *sinkFunc) String() string               { return s.name }

func newGraph(t testing.TB, sinks []operators.Sink, edges ...operators.Edge) *operators.Graph {
	t.Helper()
	g, err := operators.NewGraph(sinks, edges)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// script feeds a Sequence step by step inside a synctest bubble.
type script struct {
	t    *testing.T
	in   chan operators.Input
	mu   sync.Mutex
	log  []string
	done chan error

	sorted bool // what happens at once has no order
}

func newScript(t *testing.T, opts operators.SequenceOptions) *script {
	s := &script{t: t, in: make(chan operators.Input), done: make(chan error, 1)}
	go func() {
		s.done <- operators.Sequence(streams.FromChan(s.in), opts).Subscribe(t.Context(), func(r operators.Result) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			switch r.Kind {
			case operators.Started:
				s.log = append(s.log, fmt.Sprintf("%v start (%v)", r.Sink, r.Cause.Kind))
			case operators.Finished:
				end := "ok"
				if r.Outcome.Err != nil {
					end = "failed"
				}
				if r.Left {
					end = "left"
				}
				s.log = append(s.log, fmt.Sprintf("%v %s", r.Sink, end))
			case operators.Blocked:
				s.log = append(s.log, fmt.Sprintf("%v blocked by %v", r.Sink, r.By))
			case operators.Idle:
				s.log = append(s.log, "idle")
			}
			return true
		})
	}()
	return s
}

// step sends an input, lets everything happen that can within a second, and compares.
func (s *script) step(in operators.Input, want ...string) {
	s.t.Helper()
	s.in <- in
	s.expect(want...)
}

func (s *script) expect(want ...string) {
	s.t.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted {
		slices.Sort(s.log)
		slices.Sort(want)
	}
	if !slices.Equal(s.log, want) {
		s.t.Errorf("got  %s\nwant %s", strings.Join(s.log, ", "), strings.Join(want, ", "))
	}
	s.log = nil
}

func (s *script) close() {
	s.t.Helper()
	close(s.in)
	if err := <-s.done; err != nil {
		s.t.Error(err)
	}
}

func TestSequence(t *testing.T) {
	ok := func(context.Context, operators.Run) operators.Outcome { return operators.Outcome{} }
	change := func(context.Context, operators.Run) operators.Outcome { return operators.Outcome{Changed: true} }
	type sinks map[string]func(context.Context, operators.Run) operators.Outcome
	build := func(t *testing.T, fs sinks, names string, edges ...operators.Edge) *operators.Graph {
		var list []operators.Sink
		for _, n := range strings.Fields(names) {
			list = append(list, &sinkFunc{name: n, f: fs[n]})
		}
		return newGraph(t, list, edges...)
	}
	wake := func(v ...int32) operators.Input { return operators.Input{Wake: v} }
	quiet := operators.SequenceOptions{Workers: 1}

	t.Run("only a change makes the successors run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fs := sinks{"a": ok, "b": ok}
			s := newScript(t, quiet)
			defer s.close()
			s.step(operators.Input{Graph: build(t, fs, "a b", operators.Edge{From: 0, To: 1})}, "a ok", "b ok", "idle")
			s.step(wake(0), "a ok", "idle")
			s.step(wake(1), "b ok", "idle")
		})
	})
	t.Run("a diamond settles without running its end twice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fs := sinks{"a": change, "b": change, "c": change, "d": ok}
			s := newScript(t, quiet)
			defer s.close()
			g := build(t, fs, "a b c d", operators.Edge{From: 0, To: 1}, operators.Edge{From: 0, To: 2}, operators.Edge{From: 1, To: 3}, operators.Edge{From: 2, To: 3})
			s.step(operators.Input{Graph: g}, "a ok", "b ok", "c ok", "d ok", "idle")
			s.step(wake(0), "a ok", "b ok", "c ok", "d ok", "idle")
		})
	})
	t.Run("a failure blocks its descendants by name, and the next event tries again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fails := true
			fs := sinks{"a": ok, "c": ok, "d": ok, "b": func(context.Context, operators.Run) (o operators.Outcome) {
				if fails {
					o.Err = errBoom
				}
				return o
			}}
			s := newScript(t, quiet)
			defer s.close()
			g := build(t, fs, "a b c d", operators.Edge{From: 0, To: 1}, operators.Edge{From: 1, To: 2})
			s.step(operators.Input{Graph: g}, "a ok", "b failed", "d ok", "c blocked by b", "idle")
			s.step(wake(3), "d ok", "idle")
			s.step(wake(2))
			s.step(wake(0), "a ok", "b failed", "idle")
			fails = false
			s.step(wake(1), "b ok", "c ok", "idle")
			fails = true
			s.step(wake(1), "b failed", "idle")
			s.step(wake(2), "c blocked by b")
			s.step(wake(2))
		})
	})
	t.Run("what a failed run changed reaches the successors when it succeeds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			fs := sinks{"b": ok, "a": func(context.Context, operators.Run) operators.Outcome {
				n++
				if n == 2 {
					return operators.Outcome{Changed: true, Err: errBoom}
				}
				return operators.Outcome{}
			}}
			s := newScript(t, quiet)
			defer s.close()
			s.step(operators.Input{Graph: build(t, fs, "a b", operators.Edge{From: 0, To: 1})}, "a ok", "b ok", "idle")
			s.step(wake(0), "a failed", "idle")
			s.step(wake(0), "a ok", "b ok", "idle")
		})
	})
	t.Run("a retry holds back descendants, and events during its wait don't hasten it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			fs := sinks{"b": ok, "a": func(context.Context, operators.Run) operators.Outcome {
				if n++; n <= 2 {
					return operators.Outcome{Err: errBoom, Retry: true, RetryAfter: 2500 * time.Millisecond}
				}
				return operators.Outcome{}
			}}
			s := newScript(t, quiet)
			defer s.close()
			s.step(operators.Input{Graph: build(t, fs, "a b", operators.Edge{From: 0, To: 1})}, "a failed")
			s.step(wake(0))
			s.expect("a failed")
			s.expect()
			s.expect("a ok", "b ok", "idle")
		})
	})
	t.Run("a notification is kept until a run that saw it succeeds, also across a swap", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fails := true
			var told []bool
			b := func(_ context.Context, run operators.Run) (o operators.Outcome) {
				told = append(told, run.Refresh)
				if fails {
					o.Err = errBoom
				}
				return o
			}
			fs := sinks{"a": change, "b": b}
			s := newScript(t, quiet)
			defer s.close()
			e := operators.Edge{From: 0, To: 1, Notify: true}
			s.step(operators.Input{Graph: build(t, fs, "a b", e)}, "a ok", "b failed", "idle")
			s.step(wake(1), "b failed", "idle")
			s.step(operators.Input{
				Graph: build(t, sinks{"a": ok, "b": b}, "a b", e),
				Carry: []operators.Carry{{Old: 0}, {Old: 1}},
			}, "a ok", "b failed", "idle")
			fails = false
			s.step(wake(1), "b ok", "idle")
			s.step(wake(1), "b ok", "idle")
			if want := []bool{true, true, true, true, false}; !slices.Equal(told, want) {
				t.Errorf("told %v, want %v", told, want)
			}
		})
	})
	t.Run("events during a run lead to exactly one more", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fs := sinks{"a": func(context.Context, operators.Run) operators.Outcome {
				time.Sleep(1600 * time.Millisecond)
				return operators.Outcome{}
			}}
			s := newScript(t, quiet)
			defer s.close()
			s.step(operators.Input{Graph: build(t, fs, "a")})
			s.in <- wake(0)
			s.in <- wake(0)
			s.in <- wake(operators.All)
			s.expect("a ok")
			s.expect()
			s.expect("a ok", "idle")
		})
	})
	t.Run("a swap runs what is new or changed, and nothing else", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fs := sinks{"a": ok, "b": ok, "c": ok, "d": ok}
			s := newScript(t, quiet)
			defer s.close()
			s.step(operators.Input{Graph: build(t, fs, "a b c")}, "a ok", "b ok", "c ok", "idle")
			g := build(t, fs, "c d a")
			s.step(operators.Input{Graph: g, Carry: []operators.Carry{{Old: 2, Same: true}, {Old: -1}, {Old: 0}}}, "d ok", "a ok", "idle")
			s.step(wake(0), "c ok", "idle")
			s.step(operators.Input{Graph: build(t, fs, "")}, "idle")
		})
	})
	t.Run("a failed vertex tries again when what it had to wait for has left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			fails := func(context.Context, operators.Run) operators.Outcome { return operators.Outcome{Err: errBoom} }
			fs := sinks{"b": fails, "a": func(context.Context, operators.Run) (o operators.Outcome) {
				if n++; n > 1 {
					o.Err = errBoom
				}
				return o
			}}
			s := newScript(t, quiet)
			defer s.close()
			g := build(t, fs, "a b", operators.Edge{From: 0, To: 1})
			s.step(operators.Input{Graph: g}, "a ok", "b failed", "idle")
			s.step(wake(0), "a failed", "idle")
			s.step(operators.Input{Graph: newGraph(t, []operators.Sink{g.Sink(1)}), Carry: []operators.Carry{{Old: 1, Same: true}}}, "b failed", "idle")
		})
	})
	t.Run("a changed vertex waits until its old run has ended, and others go on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			slow := &sinkFunc{name: "slow", waits: true, f: func(ctx context.Context, _ operators.Run) operators.Outcome {
				<-ctx.Done()
				time.Sleep(1500 * time.Millisecond) // it takes its time to end
				return operators.Outcome{Err: ctx.Err()}
			}}
			kept := &sinkFunc{name: "kept", f: ok}
			s := newScript(t, operators.SequenceOptions{Workers: 1, Trace: true})
			s.sorted = true
			defer s.close()
			s.step(operators.Input{Graph: newGraph(t, []operators.Sink{slow, kept})}, "slow start (swap)", "kept start (swap)", "kept ok")
			s.step(operators.Input{
				Graph: newGraph(t, []operators.Sink{&sinkFunc{name: "new", f: ok}, kept}),
				Carry: []operators.Carry{{Old: 0}, {Old: 1, Same: true}},
			})
			s.in <- wake(1)
			s.expect("kept start (event)", "kept ok", "slow left", "new start (swap)", "new ok", "idle")
		})
	})
	t.Run("a waiter takes no worker, and the cap holds for all", func(t *testing.T) {
		for parallel, want := range map[int]time.Duration{0: time.Second, 1: 6 * time.Second, 2: 3 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				var list []operators.Sink
				for i := range 6 {
					list = append(list, &sinkFunc{waits: i > 0, f: func(context.Context, operators.Run) operators.Outcome {
						time.Sleep(time.Second)
						return operators.Outcome{}
					}})
				}
				in := streams.Of(operators.Input{Graph: newGraph(t, list)})
				began := time.Now()
				err := operators.Sequence(in, operators.SequenceOptions{Workers: 1, MaxParallel: parallel}).Subscribe(t.Context(), func(operators.Result) bool { return true })
				if took := time.Since(began); err != nil || took != want {
					t.Errorf("at most %d in parallel: took %v, want %v (error %v)", parallel, took, want, err)
				}
			})
		}
	})
	t.Run("a panic of a sink is its failure", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newScript(t, quiet)
			defer s.close()
			s.step(operators.Input{Graph: build(t, sinks{"a": func(context.Context, operators.Run) operators.Outcome { panic("oh") }}, "a")}, "a failed", "idle")
		})
	})
}

// TestSwapIsNotIdleBeforeItHasStarted swaps a vertex in while one that is kept ends.
func TestSwapIsNotIdleBeforeItHasStarted(t *testing.T) {
	for range 500 {
		begun := make(chan bool, 1)
		kept := &sinkFunc{f: func(context.Context, operators.Run) operators.Outcome {
			begun <- true
			return operators.Outcome{}
		}}
		added := &sinkFunc{f: func(context.Context, operators.Run) operators.Outcome { return operators.Outcome{} }}
		in := streams.New(func(_ context.Context, emit func(operators.Input) bool) error {
			emit(operators.Input{Graph: newGraph(t, []operators.Sink{kept})})
			<-begun
			emit(operators.Input{
				Graph: newGraph(t, []operators.Sink{kept, added}),
				Carry: []operators.Carry{{Old: 0, Same: true}, {Old: -1}},
			})
			return nil
		})
		swaps, done := 0, false
		for r, err := range operators.Sequence(in, operators.SequenceOptions{Workers: 2}).Seq(t.Context()) {
			switch {
			case err != nil:
				t.Fatal(err)
			case r.Kind == operators.Swapped:
				swaps++
			case r.Kind == operators.Finished && r.Sink == added:
				done = true
			case r.Kind == operators.Idle && swaps == 2 && !done:
				t.Fatal("idle is announced before what the swap has added has run")
			}
		}
	}
}

func TestSequenceEnds(t *testing.T) {
	endless := func(t *testing.T, sinks ...operators.Sink) streams.Observable[operators.Input] {
		return streams.New(func(ctx context.Context, emit func(operators.Input) bool) error {
			emit(operators.Input{Graph: newGraph(t, sinks)})
			for ctx.Err() == nil && emit(operators.Input{Wake: []int32{operators.All}}) {
			}
			return context.Cause(ctx)
		})
	}
	ok := &sinkFunc{f: func(context.Context, operators.Run) operators.Outcome { return operators.Outcome{} }}
	t.Run("when the subscriber leaves", func(t *testing.T) {
		n := 0
		for range operators.Sequence(endless(t, ok, ok), operators.SequenceOptions{}).Seq(t.Context()) {
			if n++; n == 50 {
				break
			}
		}
	})
	t.Run("when it is cancelled, and its sinks with it", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		slow := func(waits bool) *sinkFunc {
			return &sinkFunc{waits: waits, f: func(ctx context.Context, _ operators.Run) operators.Outcome {
				cancel(errBoom)
				<-ctx.Done()
				return operators.Outcome{Err: ctx.Err(), Retry: true}
			}}
		}
		err := operators.Sequence(endless(t, slow(true), slow(false)), operators.SequenceOptions{}).Subscribe(ctx, func(operators.Result) bool { return true })
		if !errors.Is(err, errBoom) {
			t.Errorf("got %v, want %v", err, errBoom)
		}
	})
	t.Run("when its input fails", func(t *testing.T) {
		in := streams.New(func(context.Context, func(operators.Input) bool) error { return errBoom })
		if err := operators.Sequence(in, operators.SequenceOptions{}).Subscribe(t.Context(), func(operators.Result) bool { return true }); !errors.Is(err, errBoom) {
			t.Errorf("got %v, want %v", err, errBoom)
		}
	})
	t.Run("when an input wakes what is not in the graph", func(t *testing.T) {
		in := streams.Of(operators.Input{Graph: newGraph(t, []operators.Sink{ok})}, operators.Input{Wake: []int32{1}})
		err := operators.Sequence(in, operators.SequenceOptions{}).Subscribe(t.Context(), func(operators.Result) bool { return true })
		if err == nil || err.Error() != "an input wakes vertex 1 of a graph of 1" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("with the panic of its subscriber", func(t *testing.T) {
		err := operators.Sequence(endless(t, ok), operators.SequenceOptions{}).Subscribe(t.Context(), func(operators.Result) bool { panic("oh") })
		if p, is := errors.AsType[*streams.PanicError](err); !is || p.Value != "oh" {
			t.Errorf("got %v", err)
		}
	})
}

func TestNewGraph(t *testing.T) {
	for _, tt := range []struct {
		name  string
		edges []operators.Edge
		want  string
	}{
		{"an edge needs both ends", []operators.Edge{{From: 0, To: 2}}, "edge 0 -> 2: the graph has vertices 0 to 1"},
		{"a cycle is refused", []operators.Edge{{From: 0, To: 1}, {From: 1, To: 0}}, "the graph has a cycle among 2 of its vertices"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := operators.NewGraph(make([]operators.Sink, 2), tt.edges); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
