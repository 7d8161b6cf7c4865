package streams_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reactivex/rxgo/v2"
	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/streams"
)

type rx = rxgo.Observable

func id(_ context.Context, v any) (any, error) { return v, nil }

// Every family of RxGo operators that leaves something running when it is used alone.
// Behind FromRx they end: by a consumer that has had enough, by a cancel, by a failure.
func TestRxGoOperatorsEndBehindFromRx(t *testing.T) {
	ms := rxgo.WithDuration(time.Millisecond)
	source := func() rx { return streams.Map(count(), func(v int) any { return v }).Rx(4) }
	fails := func(_ context.Context, v any) (any, error) {
		if v.(int) > 5 {
			return nil, errBoom
		}
		return v, nil
	}
	last := func(vs ...any) any { return vs[len(vs)-1] }
	for name, build := range map[string]func(bind rxgo.Option) rx{
		"Amb":               func(b rxgo.Option) rx { return rxgo.Amb([]rx{source(), source()}, b) },
		"BufferWithCount":   func(rxgo.Option) rx { return source().BufferWithCount(3) },
		"BufferWithTime":    func(b rxgo.Option) rx { return source().BufferWithTime(ms, b) },
		"CombineLatest":     func(b rxgo.Option) rx { return rxgo.CombineLatest(last, []rx{source(), source()}, b) },
		"Concat":            func(b rxgo.Option) rx { return rxgo.Concat([]rx{source(), source()}, b) },
		"Distinct":          func(rxgo.Option) rx { return source().Distinct(id) },
		"Filter":            func(rxgo.Option) rx { return source().Filter(func(v any) bool { return v.(int)%2 == 0 }) },
		"FlatMap":           func(b rxgo.Option) rx { return source().FlatMap(func(i rxgo.Item) rx { return rxgo.Just(i.V)() }, b) },
		"GroupByDynamic":    func(b rxgo.Option) rx { return source().GroupByDynamic(func(rxgo.Item) string { return "all" }, b) },
		"IgnoreElements":    func(rxgo.Option) rx { return source().IgnoreElements() },
		"Interval":          func(b rxgo.Option) rx { return rxgo.Interval(ms, b) },
		"Map that fails":    func(rxgo.Option) rx { return source().Map(fails) },
		"Map with a pool":   func(rxgo.Option) rx { return source().Map(id, rxgo.WithPool(2)) },
		"Merge":             func(b rxgo.Option) rx { return rxgo.Merge([]rx{source(), source()}, b) },
		"OnErrorResumeNext": func(rxgo.Option) rx { return source().Map(fails).OnErrorResumeNext(func(error) rx { return source() }) },
		"OnErrorReturn":     func(rxgo.Option) rx { return source().Map(fails).OnErrorReturn(func(error) any { return 0 }) },
		"Retry":             func(b rxgo.Option) rx { return source().Map(fails).Retry(3, func(error) bool { return true }, b) },
		"Sample":            func(b rxgo.Option) rx { return source().Sample(source(), b) },
		"Scan": func(rxgo.Option) rx {
			return source().Scan(func(_ context.Context, _, v any) (any, error) { return v, nil })
		},
		"Skip":           func(rxgo.Option) rx { return source().Skip(3) },
		"StartWith":      func(b rxgo.Option) rx { return source().StartWith(rxgo.Just(1)(), b) },
		"Take":           func(rxgo.Option) rx { return source().Map(id).Take(3) },
		"TakeUntil":      func(rxgo.Option) rx { return source().TakeUntil(func(any) bool { return true }) },
		"TakeWhile":      func(rxgo.Option) rx { return source().TakeWhile(func(v any) bool { return v.(int) < 3 }) },
		"Timestamp":      func(rxgo.Option) rx { return source().Timestamp() },
		"WindowWithTime": func(b rxgo.Option) rx { return source().WindowWithTime(ms, b) },
		"ZipFromIterable": func(b rxgo.Option) rx {
			return source().ZipFromIterable(source(), func(_ context.Context, v, _ any) (any, error) { return v, nil }, b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			for _, stop := range []struct {
				how   string
				after time.Duration
				limit int
			}{
				{"a consumer that has enough, or a cancel", 20 * time.Millisecond, 10},
				{"a cancel", 10 * time.Millisecond, 0},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), stop.after)
				_, err := collect(ctx, streams.FromRx[any](4, build), stop.limit)
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errBoom) {
					t.Errorf("ended by %s: %v", stop.how, err)
				}
			}
			if err := goleak.Find(before); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFromRxBuildsTheChainForEverySubscription(t *testing.T) {
	built := 0
	o := streams.FromRx[int](0, func(rxgo.Option) rx { built++; return rxgo.Just(1, 2)() })
	for want := range 3 {
		got, err := collect(t.Context(), o, 0)
		if built != want+1 || err != nil || !slices.Equal(got, []int{1, 2}) {
			t.Errorf("subscription %d: built %d times, got %v, %v", want+1, built, got, err)
		}
	}
}

func TestFromRxRefusesItemsOfAnotherType(t *testing.T) {
	got, err := collect(t.Context(), streams.FromRx[int](0, func(rxgo.Option) rx { return rxgo.Just(1, "two", 3)() }), 0)
	if want := "streams: an RxGo chain emitted string, want int"; err == nil || err.Error() != want || !slices.Equal(got, []int{1}) {
		t.Errorf("got %v, %v; want 1 and then %q", got, err, want)
	}
}

func TestANilGoesThroughRxWhereTheTypeHasOne(t *testing.T) {
	o := streams.Of[error](nil, errBoom, nil)
	got, err := collect(t.Context(), streams.FromRx[error](0, func(rxgo.Option) rx { return o.Rx(0) }), 0)
	if err != nil || !slices.Equal(got, []error{nil, errBoom, nil}) {
		t.Errorf("got %v, %v; want the three values", got, err)
	}
	_, err = collect(t.Context(), streams.FromRx[*int](0, func(rxgo.Option) rx {
		return rxgo.Just(1)().Map(func(context.Context, any) (any, error) { return nil, nil })
	}), 0)
	if err == nil || !strings.Contains(err.Error(), "<nil>, want *int") {
		t.Errorf("got %v, want an error for a nil that has no type", err)
	}
}

func TestAnErrorAsAValueIsNoFailure(t *testing.T) {
	o := streams.Of(errBoom)
	got, err := collect(t.Context(), streams.Via[error, error](o, 0, func(o rx, _ rxgo.Option) rx { return o }), 0)
	if err != nil || len(got) != 1 {
		t.Errorf("got %v, %v; want the error as a value", got, err)
	}
}

// A chain that ignores its cancel is told apart from one that ends, after two seconds.
func TestFromRxReportsAChainThatDoesNotClose(t *testing.T) {
	for _, tt := range []struct {
		name string
		stop func(ctx context.Context, o streams.Observable[int]) error
		want string
	}{
		{"when its consumer has enough", func(ctx context.Context, o streams.Observable[int]) error {
			return o.Subscribe(ctx, func(int) bool { return false })
		}, "<nil>"}, // what a producer says after it was stopped does not count
		{"when it fails", func(ctx context.Context, o streams.Observable[int]) error {
			return streams.Map(o, func(int) int { panic("bug") }).Subscribe(ctx, func(int) bool { return true })
		}, "stream panicked: bug"},
		{"when its items are of another type", func(ctx context.Context, o streams.Observable[int]) error {
			return o.Subscribe(ctx, func(int) bool { return true })
		}, "streams: an RxGo chain emitted string, want int"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				deaf := make(chan rxgo.Item, 2)
				deaf <- rxgo.Of(1)
				deaf <- rxgo.Of("one")
				defer close(deaf)
				start := time.Now()
				err := tt.stop(t.Context(), streams.FromRx[int](0, func(rxgo.Option) rx { return rxgo.FromChannel(deaf) }))
				if d := time.Since(start); d != 2*time.Second || fmt.Sprint(err) != tt.want {
					t.Errorf("got %v after %v, want %s after two seconds", err, d, tt.want)
				}
			})
		})
	}
}

// RxGo closes a chain while what feeds it may still be ending. FromRx waits for that,
// however deep in the chain it is, but not for ever.
func TestFromRxWaitsForTheSourcesInsideTheChain(t *testing.T) {
	for _, tt := range []struct {
		name        string
		takes, want time.Duration
		err         string
	}{
		{"a source that takes a second to end", time.Second, time.Second, "stream panicked: bug"},
		{"a source that takes a minute to end", time.Minute, 2 * time.Second, "stream panicked: bug"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := streams.New(func(ctx context.Context, emit func(int) bool) error {
					emit(1)
					<-ctx.Done()
					time.Sleep(tt.takes)
					return nil
				})
				chain := streams.Via[int, int](source, 1, func(o rx, bind rxgo.Option) rx {
					return rxgo.Merge([]rx{o.Map(id), rxgo.Never()}, bind).Map(id)
				})
				start := time.Now()
				_, err := collect(t.Context(), streams.Do(chain, func(int) { panic("bug") }), 0)
				if d := time.Since(start); d != tt.want || fmt.Sprint(err) != tt.err {
					t.Errorf("got %v after %v, want %s after %v", err, d, tt.err, tt.want)
				}
				time.Sleep(tt.takes) // for the bubble, which nothing may outlive
			})
		})
	}
}

// A chain that completes by itself owes an end as well.
func TestFromRxFailsWhenACompletedChainLeavesASourceRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := make(chan struct{})
		deaf := streams.New(func(context.Context, func(int) bool) error {
			close(started)
			time.Sleep(time.Minute)
			return nil
		})
		chain := streams.Via[int, int](deaf, 0, func(o rx, bind rxgo.Option) rx {
			o.Observe(bind) // and nobody waits for it
			<-started
			return rxgo.Just(1)()
		})
		start := time.Now()
		got, err := collect(t.Context(), chain, 0)
		if want := "streams: an RxGo chain did not end within 2s of its cancel"; fmt.Sprint(err) != want || len(got) != 1 || time.Since(start) != 2*time.Second {
			t.Errorf("got %v, %v after %v; want a value and %q after 2s", got, err, time.Since(start), want)
		}
		time.Sleep(time.Minute) // for the bubble, which nothing may outlive
	})
}

func TestRxObservesAnew(t *testing.T) {
	runs := 0
	o := streams.New(func(_ context.Context, emit func(int) bool) error { runs++; emit(runs); return nil }).Rx(1)
	if runs != 0 {
		t.Fatal("ran before Observe")
	}
	for want := range 3 {
		for item := range o.Observe() {
			if item.V != want+1 {
				t.Errorf("observation %d got %v", want+1, item.V)
			}
		}
	}
}

func TestRxHandsFailuresAndPanicsToRxGo(t *testing.T) {
	for name, o := range map[string]ints{
		"boom":                 failing(errBoom, 1),
		"stream panicked: bug": streams.Map(streams.Of(1), func(int) int { panic("bug") }),
	} {
		var got error
		for item := range o.Rx(0).Observe() {
			if item.E != nil {
				got = item.E
			}
		}
		if got == nil || got.Error() != name {
			t.Errorf("got %v, want %s", got, name)
		}
	}
}
