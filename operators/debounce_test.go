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

const ms = time.Millisecond

func TestDebounce(t *testing.T) {
	type at = stamped[int]
	tests := []struct {
		name string
		in   streams.Observable[int]
		want []at
		err  error
	}{
		{name: "an empty stream stays empty", in: paced(nil)},
		{name: "a value waits for silence", in: then(paced(nil, 0), idle(time.Hour)), want: []at{{100 * ms, 0}}},
		{name: "a burst becomes its last value", in: then(paced(nil, 0, 60*ms, 60*ms, 60*ms), idle(time.Hour)), want: []at{{280 * ms, 3}}},
		{name: "values far apart all pass", in: then(paced(nil, 0, time.Second, time.Second), idle(time.Hour)), want: []at{{100 * ms, 0}, {1100 * ms, 1}, {2100 * ms, 2}}},
		{name: "completion emits what waits at once", in: paced(nil, 0, 10*ms), want: []at{{10 * ms, 1}}},
		{name: "a failure comes after what waits", in: paced(errBoom, 0, 10*ms), want: []at{{10 * ms, 1}}, err: errBoom},
		{name: "a failure with nothing waiting comes alone", in: paced(errBoom), err: errBoom},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, err := collect(t.Context(), operators.Debounce(tt.in, 100*ms), 0)
				if !errors.Is(err, tt.err) || !slices.Equal(got, tt.want) {
					t.Errorf("got %v, %v; want %v, %v", got, err, tt.want, tt.err)
				}
			})
		})
	}
}

// idle completes after d without a value.
func idle(d time.Duration) streams.Observable[int] {
	return streams.Filter(paced(nil, d), func(int) bool { return false })
}

func TestDebounceDropsWhatWaitsOnCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 50*ms, errBoom)
		defer cancel()
		got, err := collect(ctx, operators.Debounce(then(paced(nil, 0), streams.Never[int]()), 100*ms), 0)
		if len(got) != 0 || !errors.Is(err, errBoom) {
			t.Errorf("got %v, %v; want no value and the cause of the cancel", got, err)
		}
	})
}

func TestDebounceEndsWhenItsConsumerDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := collect(t.Context(), operators.Debounce(then(paced(nil, 0, time.Second), streams.Never[int]()), 100*ms), 1)
		if len(got) != 1 || err != nil {
			t.Errorf("got %v, %v; want one value and no error", got, err)
		}
	})
}

func TestDebounceWithoutPauseIsTheStreamItself(t *testing.T) {
	got, err := collect(t.Context(), operators.Debounce(streams.Of(1, 2, 3), 0), 0)
	if len(got) != 3 || err != nil {
		t.Errorf("got %v, %v; want all three values", got, err)
	}
}

// Idle, it waits on channels only: in a bubble the clock of which stands still, Sleep
// of a year costs no time if no timer fires again and again.
func TestDebounceIdlesWithoutTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 365*24*time.Hour)
		defer cancel()
		got, _ := collect(ctx, operators.Debounce(then(paced(nil, 0, 0), streams.Never[int]()), time.Microsecond), 0)
		if len(got) != 1 {
			t.Errorf("got %v, want one value", got)
		}
	})
}

// For random pauses, none of them equal to d, what comes out is each value that d of
// silence follows, at the end of that silence, and the last one at completion.
func TestDebounceProperty(t *testing.T) {
	const d = 100 * ms
	rapid.Check(t, func(rt *rapid.T) {
		pause := rapid.IntRange(0, 300).Filter(func(n int) bool { return n != 100 })
		var pauses []time.Duration
		for _, n := range rapid.SliceOfN(pause, 0, 30).Draw(rt, "pauses") {
			pauses = append(pauses, time.Duration(n)*ms)
		}
		var want []stamped[int]
		var now time.Duration
		for i, p := range pauses {
			now += p
			switch {
			case i == len(pauses)-1:
				want = append(want, stamped[int]{now, i})
			case pauses[i+1] > d:
				want = append(want, stamped[int]{now + d, i})
			}
		}
		var got []stamped[int]
		var err error
		synctest.Test(t, func(t *testing.T) {
			got, err = collect(t.Context(), operators.Debounce(paced(nil, pauses...), d), 0)
		})
		if err != nil || !slices.Equal(got, want) {
			rt.Fatalf("got %v, %v; want %v", got, err, want)
		}
	})
}

func BenchmarkDebounce(b *testing.B) {
	in := streams.New(func(_ context.Context, emit func(int) bool) error {
		for i := 0; b.Loop(); i++ {
			emit(i)
		}
		return nil
	})
	b.ReportAllocs()
	if err := operators.Debounce(in, time.Second).Subscribe(b.Context(), func(int) bool { return true }); err != nil {
		b.Fatal(err)
	}
}

func ExampleDebounce() {
	// Three saves in quick succession count as one; the end of the stream ends the wait.
	saves := streams.Of("first draft", "second draft", "final")
	for save := range operators.Debounce(saves, time.Minute).Seq(context.Background()) {
		fmt.Println(save)
	}
	// Output:
	// final
}
