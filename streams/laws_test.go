package streams_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/reactivex/rxgo/v2"
	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/streams"
)

type ints = streams.Observable[int]

// stages are the ways an Observable can be wrapped without a change of its values. Each
// law below holds for all of them.
var stages = []struct {
	name string
	wrap func(ints) ints
}{
	{"bare", func(o ints) ints { return o }},
	{"Map", func(o ints) ints { return streams.Map(o, func(v int) int { return v }) }},
	{"Filter", func(o ints) ints { return streams.Filter(o, func(int) bool { return true }) }},
	{"Do", func(o ints) ints { return streams.Do(o, func(int) {}) }},
	{"a producer that subscribes", nested},
	{"a producer that ranges", func(o ints) ints {
		return streams.New(func(ctx context.Context, emit func(int) bool) error {
			for v, err := range o.Seq(ctx) {
				if err != nil {
					return err
				}
				if !emit(v) {
					break
				}
			}
			return nil
		})
	}},
	{"Merge", func(o ints) ints { return streams.Merge(2, o) }},
	{"Merge beside another", func(o ints) ints { return streams.Merge(0, o, streams.Of[int]()) }},
	{"Rx and FromRx", throughRx},
	{"Via", func(o ints) ints {
		return streams.Via[int, int](o, 1, func(o rxgo.Observable, bind rxgo.Option) rxgo.Observable {
			return o.Map(func(_ context.Context, v any) (any, error) { return v, nil }, bind)
		})
	}},
	{"all of them", func(o ints) ints {
		return streams.Map(streams.Via[int, int](streams.Merge(1, streams.Do(o, func(int) {})), 1,
			func(o rxgo.Observable, _ rxgo.Option) rxgo.Observable { return o }), func(v int) int { return v })
	}},
}

func throughRx(o ints) ints {
	return streams.FromRx[int](4, func(rxgo.Option) rxgo.Observable { return o.Rx(0) })
}

func nested(o ints) ints {
	return streams.New(func(ctx context.Context, emit func(int) bool) error { return o.Subscribe(ctx, emit) })
}

func eachStage(t *testing.T, law func(t *testing.T, wrap func(ints) ints)) {
	t.Helper()
	for _, s := range stages {
		t.Run(s.name, func(t *testing.T) { law(t, s.wrap) })
	}
}

func TestNothingRunsBeforeSubscribeAndEachSubscriptionIsARunOfItsOwn(t *testing.T) {
	eachStage(t, func(t *testing.T, wrap func(ints) ints) {
		var runs atomic.Int32
		o := wrap(streams.New(func(_ context.Context, emit func(int) bool) error {
			emit(int(runs.Add(1)))
			return nil
		}))
		if n := runs.Load(); n != 0 {
			t.Fatalf("ran %d times before Subscribe", n)
		}
		for want := range 3 {
			if got, err := collect(t.Context(), o, 0); err != nil || !slices.Equal(got, []int{want + 1}) {
				t.Errorf("subscription %d got %v, %v; want its own run", want+1, got, err)
			}
		}
	})
}

func TestAllValuesComeInOrderAndThenTheEnd(t *testing.T) {
	for _, s := range stages {
		t.Run(s.name, rapid.MakeCheck(func(t *rapid.T) {
			values := rapid.SliceOfN(rapid.Int(), 0, 50).Draw(t, "values")
			var end error
			if rapid.Bool().Draw(t, "fails") {
				end = errBoom
			}
			got, err := collect(context.Background(), s.wrap(failing(end, values...)), 0)
			if !slices.Equal(got, values) || !errors.Is(err, end) {
				t.Fatalf("got %v, %v; want %v, %v", got, err, values, end)
			}
		}))
	}
}

func TestFalseEndsTheSubscriptionWithoutAnError(t *testing.T) {
	eachStage(t, func(t *testing.T, wrap func(ints) ints) {
		var running atomic.Int32
		o := wrap(streams.New(func(ctx context.Context, emit func(int) bool) error {
			running.Add(1)
			defer running.Add(-1)
			for i := 0; emit(i) && ctx.Err() == nil; i++ {
			}
			return errors.New("what a producer says after it was stopped does not count")
		}))
		if got, err := collect(t.Context(), o, 3); err != nil || !slices.Equal(got, []int{0, 1, 2}) {
			t.Errorf("got %v, %v; want three values", got, err)
		}
		if n := running.Load(); n != 0 {
			t.Errorf("%d producers run after Subscribe has returned", n)
		}
	})
}

func TestNextIsNotCalledAgainAfterFalse(t *testing.T) {
	eachStage(t, func(t *testing.T, wrap func(ints) ints) {
		o := wrap(streams.New(func(_ context.Context, emit func(int) bool) error {
			for i := range 10 { // a producer that doesn't listen
				emit(i)
			}
			return nil
		}))
		if got, err := collect(t.Context(), o, 2); err != nil || len(got) != 2 {
			t.Errorf("got %v, %v; want two values", got, err)
		}
	})
}

func TestACancelEndsTheSubscriptionWithItsCause(t *testing.T) {
	for _, p := range []struct {
		name     string
		producer streams.Producer[int]
	}{
		{"a producer that emits", func(ctx context.Context, emit func(int) bool) error {
			for i := 0; ctx.Err() == nil; i++ {
				emit(i)
			}
			return context.Cause(ctx)
		}},
		{"a producer that waits", func(ctx context.Context, emit func(int) bool) error {
			emit(0)
			<-ctx.Done()
			return context.Cause(ctx)
		}},
		{"a producer that says nil", func(ctx context.Context, emit func(int) bool) error {
			emit(0)
			<-ctx.Done()
			return nil
		}},
	} {
		t.Run(p.name, func(t *testing.T) {
			eachStage(t, func(t *testing.T, wrap func(ints) ints) {
				ctx, cancel := context.WithCancelCause(t.Context())
				err := wrap(streams.New(p.producer)).Subscribe(ctx, func(int) bool {
					cancel(errBoom)
					return true
				})
				if !errors.Is(err, errBoom) {
					t.Errorf("got %v, want the cause of the cancel", err)
				}
			})
		})
	}
}

func TestAPanicOfTheProducerIsTheErrorOfItsSubscription(t *testing.T) {
	eachStage(t, func(t *testing.T, wrap func(ints) ints) {
		got, err := collect(t.Context(), wrap(streams.New(func(_ context.Context, emit func(int) bool) error {
			emit(1)
			panic("bug")
		})), 0)
		p, ok := errors.AsType[*streams.PanicError](err)
		if !ok || p.Value != "bug" || len(p.Stack) == 0 || len(got) != 1 {
			t.Errorf("got %v, %v; want one value and a PanicError", got, err)
		}
	})
}

func TestAPanicOfAnOperatorFunctionIsTheErrorOfItsSubscription(t *testing.T) {
	for name, o := range map[string]ints{
		"Map":                              streams.Map(count(), func(int) int { panic("bug") }),
		"Filter":                           streams.Filter(count(), func(int) bool { panic("bug") }),
		"Do":                               streams.Do(count(), func(int) { panic("bug") }),
		"Map behind a nested subscription": streams.Map(nested(count()), func(int) int { panic("bug") }),
	} {
		t.Run(name, func(t *testing.T) {
			eachStage(t, func(t *testing.T, wrap func(ints) ints) {
				_, err := collect(t.Context(), wrap(o), 0)
				if p, ok := errors.AsType[*streams.PanicError](err); !ok || p.Value != "bug" {
					t.Errorf("got %v, want a PanicError", err)
				}
			})
		})
	}
}

func TestTheConsumersOwnPanicPassesThrough(t *testing.T) {
	for name, consume := range map[string]func(context.Context, ints){
		"next of Subscribe": func(ctx context.Context, o ints) {
			_ = o.Subscribe(ctx, func(int) bool { panic("mine") })
		},
		"the body of a range over Seq": func(ctx context.Context, o ints) {
			for range o.Seq(ctx) {
				panic("mine")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachStage(t, func(t *testing.T, wrap func(ints) ints) {
				defer func() {
					if r := recover(); r != "mine" {
						t.Errorf("recovered %v, want my own panic", r)
					}
				}()
				consume(t.Context(), wrap(count()))
				t.Error("the panic did not come through")
			})
		})
	}
}

func TestSeq(t *testing.T) {
	eachStage(t, func(t *testing.T, wrap func(ints) ints) {
		t.Run("ends with the failure as its last pair", func(t *testing.T) {
			var got []string
			for v, err := range wrap(failing(errBoom, 7, 8)).Seq(t.Context()) {
				got = append(got, fmt.Sprintf("%d %v", v, err))
			}
			if want := []string{"7 <nil>", "8 <nil>", "0 boom"}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
		t.Run("ends at a break", func(t *testing.T) {
			n := 0
			for _, err := range wrap(count()).Seq(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n == 3 {
					break
				}
			}
			if n != 3 {
				t.Errorf("the body ran %d times, want 3", n)
			}
		})
		t.Run("ends with a return from within", func(t *testing.T) {
			first := func() int {
				for v := range wrap(count()).Seq(t.Context()) {
					return v + 40
				}
				return -1
			}
			if v := first(); v != 40 {
				t.Errorf("got %d, want 40", v)
			}
		})
		t.Run("can be ranged over again", func(t *testing.T) {
			seq := wrap(streams.Of(1, 2)).Seq(t.Context())
			for range 2 {
				sum := 0
				for v := range seq {
					sum += v
				}
				if sum != 3 {
					t.Errorf("got a sum of %d, want 3", sum)
				}
			}
		})
	})
}

func TestZeroObservableCompletes(t *testing.T) {
	var o ints
	if got, err := collect(t.Context(), o, 0); len(got) != 0 || err != nil {
		t.Errorf("got %v, %v; want nothing", got, err)
	}
}

func TestOfStopsOnCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := streams.Of(1, 2, 3).Subscribe(ctx, func(int) bool { n++; cancel(); return true })
	if n != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("got %d values, %v; want one and the cancel", n, err)
	}
}

func TestFromChanLeavesWhatNobodyTook(t *testing.T) {
	ch := make(chan int, 3)
	ch <- 1
	ch <- 2
	ch <- 3
	o := streams.FromChan(ch)
	if got, err := collect(t.Context(), o, 2); err != nil || !slices.Equal(got, []int{1, 2}) {
		t.Errorf("got %v, %v; want 1 and 2", got, err)
	}
	close(ch)
	if got, err := collect(t.Context(), o, 0); err != nil || !slices.Equal(got, []int{3}) {
		t.Errorf("got %v, %v; want 3", got, err)
	}
}

func TestSend(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	ch := make(chan int, 1)
	if !streams.Send(done, ch, 1) {
		t.Error("there was room, so Send should have used it")
	}
	if streams.Send(done, ch, 2) {
		t.Error("there was no room and ctx was done, so Send should have said false")
	}
	go func() { <-ch }()
	if !streams.Send(t.Context(), ch, 3) {
		t.Error("Send should have waited for room")
	}
}
