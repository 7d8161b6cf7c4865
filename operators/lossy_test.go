package operators_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

// counted stands for n lost values as -n.
func counted(n uint64) int { return -int(n) }

func upTo(n int) []int {
	vs := make([]int, n)
	for i := range vs {
		vs[i] = i
	}
	return vs
}

func TestLossy(t *testing.T) {
	tests := []struct {
		name  string
		in    streams.Observable[int]
		bound int
		takes time.Duration // for each value
		want  []int
		err   error
	}{
		{"a consumer that keeps up gets all", paced(nil, 0, ms, ms, ms), 1, 0, []int{0, 1, 2, 3}, nil},
		{"a short hold-up loses nothing", paced(nil, 0, ms, ms, ms), 3, 10 * ms, []int{0, 1, 2, 3}, nil},
		{"the oldest make room for the newest", paced(nil, 0, ms, ms, ms, ms), 2, 10 * ms, []int{0, -2, 3, 4}, nil},
		{"each gap is where the values are missing", paced(nil, 0, ms, ms, ms, 19*ms, ms, ms, ms), 2, 10 * ms, []int{0, -1, 2, -3, 6, 7}, nil},
		{"a bound below one is one", paced(nil, 0, ms, ms, ms), 0, 10 * ms, []int{0, -2, 3}, nil},
		{"an eighth makes room at once", paced(nil, append(make([]time.Duration, 1, 18), slices.Repeat([]time.Duration{ms}, 17)...)...), 16, time.Second, append([]int{0, -2}, upTo(18)[3:]...), nil},
		{"a failure comes after what waits", paced(errBoom, 0, ms, ms), 4, 10 * ms, []int{0, 1, 2}, errBoom},
		{"an empty stream completes", paced(nil), 4, 0, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []int
				err := operators.Lossy(tt.in, tt.bound, counted).Subscribe(t.Context(), func(v int) bool {
					got = append(got, v)
					time.Sleep(tt.takes)
					return true
				})
				if !errors.Is(err, tt.err) || !slices.Equal(got, tt.want) {
					t.Errorf("got %v, %v; want %v, %v", got, err, tt.want, tt.err)
				}
			})
		})
	}
}

func TestLossyNeverHoldsItsSourceUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		in := streams.New(func(_ context.Context, emit func(int) bool) error {
			for i := range 10000 {
				emit(i)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("the source was held up for %v", d)
			}
			return nil
		})
		err := operators.Lossy(in, 100, counted).Subscribe(t.Context(), func(int) bool { time.Sleep(time.Second); return true })
		if err != nil {
			t.Error(err)
		}
	})
}

func TestLossyEnds(t *testing.T) {
	endless := streams.New(func(ctx context.Context, emit func(int) bool) error {
		for emit(0) {
			time.Sleep(ms)
		}
		return context.Cause(ctx)
	})
	t.Run("when its consumer does", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if got, err := collect(t.Context(), operators.Lossy(endless, 4, counted), 3); len(got) != 3 || err != nil {
				t.Errorf("got %v, %v; want three values", got, err)
			}
		})
	})
	t.Run("on a cancel, with values waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errBoom)
			defer cancel()
			err := operators.Lossy(endless, 4, counted).Subscribe(ctx, func(int) bool { time.Sleep(300 * ms); return true })
			if !errors.Is(err, errBoom) {
				t.Errorf("got %v, want the cause of the cancel", err)
			}
		})
	})
	t.Run("on a cancel, idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errBoom)
			defer cancel()
			if got, err := collect(ctx, operators.Lossy(streams.Never[int](), 4, counted), 0); len(got) != 0 || !errors.Is(err, errBoom) {
				t.Errorf("got %v, %v; want the cause of the cancel", got, err)
			}
		})
	})
}

// With values at random times and a consumer of random slowness, every value comes in
// its place or is counted there, and the last one always comes.
func TestLossyProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bound := rapid.IntRange(1, 40).Draw(rt, "bound")
		var pauses []time.Duration
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 5), 1, 200).Draw(rt, "pauses") {
			pauses = append(pauses, time.Duration(n)*ms)
		}
		takes := rapid.SliceOfN(rapid.IntRange(0, 40), 1, 20).Draw(rt, "takes")
		var got []int
		var err error
		synctest.Test(t, func(t *testing.T) {
			err = operators.Lossy(paced(nil, pauses...), bound, counted).Subscribe(t.Context(), func(v int) bool {
				got = append(got, v)
				time.Sleep(time.Duration(takes[len(got)%len(takes)])*ms + ms/2)
				return true
			})
		})
		if err != nil {
			rt.Fatal(err)
		}
		next := 0
		for _, v := range got {
			if v < 0 {
				next -= v
				continue
			}
			if v != next {
				rt.Fatalf("got %v: %d stands where %d should", got, v, next)
			}
			next++
		}
		if next != len(pauses) || got[len(got)-1] != len(pauses)-1 {
			rt.Fatalf("got %v, want %d values accounted for and the last one among them", got, len(pauses))
		}
	})
}

func BenchmarkLossy(b *testing.B) {
	in := streams.New(func(_ context.Context, emit func(int) bool) error {
		for i := 0; b.Loop(); i++ {
			emit(i)
		}
		return nil
	})
	b.ReportAllocs()
	if err := operators.Lossy(in, 1024, counted).Subscribe(b.Context(), func(int) bool { return true }); err != nil {
		b.Fatal(err)
	}
}

func ExampleLossy() {
	// A reader that looks away for a while: it learns what it has missed, and where.
	gate := make(chan struct{})
	events := streams.New(func(_ context.Context, emit func(string) bool) error {
		emit("event 1")
		<-gate // the reader has taken event 1, and looks away
		for i := 2; i <= 6; i++ {
			emit(fmt.Sprint("event ", i))
		}
		gate <- struct{}{}
		return nil
	})
	log := operators.Lossy(events, 3, func(n uint64) string { return fmt.Sprintf("(%d events dropped)", n) })
	for line := range log.Seq(context.Background()) {
		if line == "event 1" {
			gate <- struct{}{}
			<-gate
		}
		fmt.Println(line)
	}
	// Output:
	// event 1
	// (2 events dropped)
	// event 4
	// event 5
	// event 6
}
