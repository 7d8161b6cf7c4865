package operators_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

// ticks emits 0, 1, 2 … one second apart until it is cancelled, and counts its
// subscriptions: those so far, and those that run.
func ticks(subscribed, running *atomic.Int32) streams.Observable[int] {
	return streams.New(func(ctx context.Context, emit func(int) bool) error {
		subscribed.Add(1)
		if running.Add(1) > 1 {
			return errors.New("two subscriptions at once")
		}
		defer running.Add(-1)
		for i := 0; ; i++ {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				time.Sleep(100 * ms) // an end that takes its time
				return context.Cause(ctx)
			}
			emit(i)
		}
	})
}

func values[T any](of []stamped[T]) []T {
	var vs []T
	for _, s := range of {
		vs = append(vs, s.V)
	}
	return vs
}

func TestShareSubscribesOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var subscribed, running atomic.Int32
		o := operators.Share(ticks(&subscribed, &running), 0)
		var wg sync.WaitGroup
		join := func(after time.Duration, n int, want ...int) {
			wg.Go(func() {
				time.Sleep(after)
				if got, err := collect(t.Context(), o, n); err != nil || !slices.Equal(values(got), want) {
					t.Errorf("who came after %v got %v, %v; want %v", after, got, err, want)
				}
			})
		}
		join(0, 5, 0, 1, 2, 3, 4)
		join(1500*ms, 2, 1, 2)
		join(2500*ms, 5, 2, 3, 4, 5, 6)
		wg.Wait()
		if s, r := subscribed.Load(), running.Load(); s != 1 || r != 0 {
			t.Errorf("%d subscriptions, %d left; want one, ended with its last subscriber", s, r)
		}
	})
}

func TestShareBeginsAnewAfterTheLastHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var subscribed, running atomic.Int32
		o := operators.Share(ticks(&subscribed, &running), 4)
		var wg sync.WaitGroup
		// The second comes while the first subscription is still ending.
		for _, after := range []time.Duration{0, 2050 * ms, 10 * time.Second} {
			wg.Go(func() {
				time.Sleep(after)
				if got, err := collect(t.Context(), o, 2); err != nil || !slices.Equal(values(got), []int{0, 1}) {
					t.Errorf("got %v, %v; want 0 and 1", got, err)
				}
			})
		}
		wg.Wait()
		if s, r := subscribed.Load(), running.Load(); s != 3 || r != 0 {
			t.Errorf("%d subscriptions, %d left; want three, one after the other", s, r)
		}
	})
}

func TestShareHandsTheEndToAll(t *testing.T) {
	panics := streams.New(func(context.Context, func(int) bool) error { panic("bug") })
	for _, tt := range []struct {
		name string
		in   streams.Observable[int]
		want []int
		end  string
	}{
		{"completion", paced(nil, time.Second, time.Second), []int{0, 1}, "<nil>"},
		{"a failure", paced(errBoom, time.Second), []int{0}, "boom"},
		{"a panic", then(paced(nil, time.Second), panics), []int{0}, "stream panicked: bug"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := operators.Share(tt.in, 0)
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						got, err := collect(t.Context(), o, 0)
						if !slices.Equal(values(got), tt.want) || fmt.Sprint(err) != tt.end {
							t.Errorf("got %v, %v; want %v, %v", got, err, tt.want, tt.end)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// The slow subscriber takes one value a minute and has room for two more, so the fast
// one gets ahead by three values and then waits with it. When the slow one leaves, the
// fast one goes on at once.
func TestShareWaitsForASlowSubscriberUntilItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := operators.ShareN(streams.Of(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), 2, 2)
		ctx, leave := context.WithTimeout(t.Context(), 90*time.Second)
		defer leave()
		var slow, fast atomic.Int32
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = o.Subscribe(ctx, func(int) bool {
				if ctx.Err() == nil { // a cancel reaches what is derived from ctx a moment after ctx
					slow.Add(1)
				}
				select {
				case <-time.After(time.Minute):
				case <-ctx.Done():
				}
				return true
			})
		})
		wg.Go(func() {
			if err := o.Subscribe(t.Context(), func(int) bool { fast.Add(1); return true }); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		if s, f := slow.Load(), fast.Load(); s != 1 || f < 3 || f > 4 {
			t.Errorf("after a second: slow %d, fast %d; want 1 and 3 or 4 values", s, f)
		}
		wg.Wait()
		if s, f := slow.Load(), fast.Load(); s != 2 || f != 10 {
			t.Errorf("at the end: slow %d, fast %d; want 2 and all 10 values", s, f)
		}
	})
}

func TestShareThroughLossyNeverHoldsTheOthersUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		o := operators.ShareN(streams.New(func(_ context.Context, emit func(int) bool) error {
			for i := range n {
				emit(i)
			}
			return nil
		}), 2, 0)
		var slow, fast []int
		var wg sync.WaitGroup
		wg.Go(func() {
			lossy := operators.Lossy(o, 4, func(n uint64) int { return -int(n) })
			err := lossy.Subscribe(t.Context(), func(v int) bool {
				time.Sleep(time.Hour)
				slow = append(slow, v)
				return true
			})
			if err != nil {
				t.Error(err)
			}
		})
		start := time.Now()
		wg.Go(func() {
			if err := o.Subscribe(t.Context(), func(v int) bool { fast = append(fast, v); return true }); err != nil {
				t.Error(err)
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("the fast subscriber was held up for %v", d)
			}
		})
		wg.Wait()
		if len(fast) != n {
			t.Errorf("the fast one got %d values, want %d", len(fast), n)
		}
		got, lost := 0, 0
		for _, v := range slow {
			if v < 0 {
				lost -= v
			} else {
				got++
			}
		}
		if got+lost != n || slow[len(slow)-1] != n-1 {
			t.Errorf("the slow one got %v: %d values and %d counted as lost, want %d in all and the last at the end", slow, got, lost, n)
		}
	})
}

func TestShareNBeginsWhenAllAreThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var subscribed, running atomic.Int32
		o := operators.ShareN(ticks(&subscribed, &running), 3, 0)
		var wg sync.WaitGroup
		// One who gives up before the others are there does not count.
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if got, err := collect(ctx, o, 1); len(got) != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("who gave up got %v, %v", got, err)
			}
		})
		for i := range 3 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Minute)
				if got, err := collect(t.Context(), o, 2); err != nil || !slices.Equal(values(got), []int{0, 1}) {
					t.Errorf("got %v, %v; want 0 and 1", got, err)
				}
			})
		}
		time.Sleep(90 * time.Second)
		if n := subscribed.Load(); n != 0 {
			t.Errorf("%d subscriptions with two of three there, want none", n)
		}
		wg.Wait()
		if s, r := subscribed.Load(), running.Load(); s != 1 || r != 0 {
			t.Errorf("%d subscriptions, %d left; want one that has ended", s, r)
		}
	})
}

func TestShareLetsTheConsumersPanicPass(t *testing.T) {
	var subscribed, running atomic.Int32
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if r := recover(); r != "mine" || running.Load() != 0 {
				t.Errorf("recovered %v with %d subscriptions left, want my own panic and none", r, running.Load())
			}
		}()
		_ = operators.Share(ticks(&subscribed, &running), 0).Subscribe(t.Context(), func(int) bool { panic("mine") })
	})
}

// Subscribers come and go at random. Each gets, without a gap, the values of one
// subscription to in, from the first that came after it, and there is never more than
// one such subscription.
func TestShareProperty(t *testing.T) {
	type visit struct{ Come, Stay, Takes int }
	rapid.Check(t, func(rt *rapid.T) {
		visits := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) visit {
			return visit{rapid.IntRange(0, 20).Draw(rt, "come"), rapid.IntRange(0, 20).Draw(rt, "stay"), rapid.IntRange(0, 3000).Draw(rt, "takes")}
		}), 1, 8).Draw(rt, "visits")
		buffer := rapid.IntRange(0, 3).Draw(rt, "buffer")
		var subscribed, running atomic.Int32
		var mu sync.Mutex
		var bad []string
		synctest.Test(t, func(t *testing.T) {
			o := operators.Share(ticks(&subscribed, &running), buffer)
			var wg sync.WaitGroup
			for _, v := range visits {
				wg.Go(func() {
					time.Sleep(time.Duration(v.Come)*time.Second + 500*ms)
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(v.Stay)*time.Second)
					defer cancel()
					last := -1
					err := o.Subscribe(ctx, func(i int) bool {
						if last >= 0 && i != last+1 {
							mu.Lock()
							bad = append(bad, fmt.Sprintf("%+v got %d after %d", v, i, last))
							mu.Unlock()
						}
						last = i
						time.Sleep(time.Duration(v.Takes) * ms)
						return true
					})
					if !errors.Is(err, context.DeadlineExceeded) {
						mu.Lock()
						bad = append(bad, fmt.Sprintf("%+v ended with %v", v, err))
						mu.Unlock()
					}
				})
			}
			wg.Wait()
		})
		if len(bad) > 0 || running.Load() != 0 {
			rt.Fatalf("%q, %d subscriptions left", bad, running.Load())
		}
	})
}

func BenchmarkShare(b *testing.B) {
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("subscribers=%d", n), func(b *testing.B) {
			in := streams.New(func(_ context.Context, emit func(int) bool) error {
				for i := 0; b.Loop(); i++ {
					emit(i)
				}
				return nil
			})
			o := operators.ShareN(in, n, 256)
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					if err := o.Subscribe(b.Context(), func(int) bool { return true }); err != nil {
						b.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

func ExampleShareN() {
	// Two readers of one stream, which is subscribed once.
	temperatures := streams.New(func(_ context.Context, emit func(int) bool) error {
		fmt.Println("opening the sensor")
		emit(20)
		emit(25)
		return nil
	})
	shared := operators.ShareN(temperatures, 2, 8)

	var wg sync.WaitGroup
	var sum, highest int
	wg.Go(func() {
		for t := range shared.Seq(context.Background()) {
			sum += t
		}
	})
	wg.Go(func() {
		for t := range shared.Seq(context.Background()) {
			highest = max(highest, t)
		}
	})
	wg.Wait()
	fmt.Println("sum", sum, "highest", highest)
	// Output:
	// opening the sensor
	// sum 45 highest 25
}

func ExampleShare() {
	shared := operators.Share(streams.Of("a", "b"), 8)
	for v := range shared.Seq(context.Background()) {
		fmt.Println(v)
	}
	// Output:
	// a
	// b
}
