package streams_test

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/reactivex/rxgo/v2"
)

// trapVariable names the trap that this process is to fall into.
const trapVariable = "STREAMS_TRAP"

// These are the reasons for how this package uses RxGo, and for what it leaves alone.
// Each runs in a process of its own and a bubble of synctest, which notices what stays
// behind for ever without waiting for it. A trap passes when it is still there: one
// that has gone, with another version of RxGo, may make a rule unnecessary.
var traps = []struct {
	name string
	rule string // what we do because of it
	sees string // what the process prints when the trap is there
	run  func(t *testing.T)
}{
	{
		"Create runs before Observe, and once", "enter by Defer", "ran 1 times before Observe; the second observer got 0 of 1",
		func(t *testing.T) {
			ran, second := 0, 0
			o := rxgo.Create([]rxgo.Producer{func(_ context.Context, next chan<- rxgo.Item) { ran++; next <- rxgo.Of(ran) }})
			synctest.Wait()
			before := ran
			for range o.Observe() {
			}
			for range o.Observe() {
				second++
			}
			t.Logf("ran %d times before Observe; the second observer got %d of 1", before, second)
		},
	},
	{
		"Retry over Create swallows the error", "enter by Defer", "errors that came through: 0 of 1",
		func(t *testing.T) {
			n := 0
			o := rxgo.Create([]rxgo.Producer{func(_ context.Context, next chan<- rxgo.Item) { next <- rxgo.Error(errBoom) }})
			for item := range o.Retry(3, func(error) bool { return true }).Observe() {
				if item.Error() {
					n++
				}
			}
			t.Logf("errors that came through: %d of 1", n)
		},
	},
	{
		"Take leaves its source running", "leave by cancel and drain", stuck,
		func(*testing.T) {
			for range endless().Take(3).Observe() {
			}
		},
	},
	{
		"an error leaves its source running", "leave by cancel and drain", stuck,
		func(*testing.T) {
			for range endless().Map(func(context.Context, any) (any, error) { return nil, errBoom }).Observe() {
			}
		},
	},
	{
		"Merge sends to nobody after its cancel", "leave by cancel and drain", stuck,
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			<-rxgo.Merge([]rx{endless(), endless()}, rxgo.WithContext(ctx)).Observe()
			synctest.Wait()
			cancel()
		},
	},
	{
		"Merge without its own context outlives that of Observe", "give bind to what starts when it is built", stuck,
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			ch := rxgo.Merge([]rx{endless(), endless()}).Observe(rxgo.WithContext(ctx))
			<-ch
			cancel()
		},
	},
	{
		"Merge starts when it is built, and serves one observer", "build a fresh chain for every subscription", "the second observer got 0 of 1",
		func(t *testing.T) {
			o := rxgo.Merge([]rx{rxgo.Defer([]rxgo.Producer{func(_ context.Context, next chan<- rxgo.Item) { next <- rxgo.Of(1) }})})
			n := 0
			for range o.Observe() {
			}
			for range o.Observe() {
				n++
			}
			t.Logf("the second observer got %d of 1", n)
		},
	},
	{
		"a panic in a user's function ends the process", "a PanicError covers our own stages only", "panic: bug",
		func(*testing.T) {
			for range endless().Map(func(context.Context, any) (any, error) { panic("bug") }).Observe() {
			}
		},
	},
	{
		"FromEventSource leaves a slow observer open when it is cancelled", "never FromEventSource", stuck,
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			events := make(chan rxgo.Item)
			o := rxgo.FromEventSource(events, rxgo.WithContext(ctx))
			slow := o.Observe()
			events <- rxgo.Of(1)
			synctest.Wait()
			cancel()
			synctest.Wait()
			for range slow {
			}
		},
	},
	{
		"FromEventSource has no unsubscribe", "never FromEventSource", "got 0 of 1 after another observer had left",
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			events := make(chan rxgo.Item)
			o := rxgo.FromEventSource(events, rxgo.WithContext(ctx))
			leaver, leave := context.WithCancel(t.Context())
			o.Observe(rxgo.WithContext(leaver))
			leave()
			stays, n := o.Observe(), 0
			events <- rxgo.Of(1)
			synctest.Wait()
			select {
			case <-stays:
				n++
			default:
			}
			t.Logf("got %d of 1 after another observer had left", n)
		},
	},
	{
		"Debounce drops what waits when its source completes", "operators.Debounce", "got 0 of 1",
		func(t *testing.T) {
			n := 0
			for range rxgo.Just(1)().Debounce(rxgo.WithDuration(time.Second)).Observe() {
				n++
			}
			t.Logf("got %d of 1", n)
		},
	},
	{
		"Debounce polls while it is idle", "operators.Debounce", "polls: true",
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			ch := rxgo.Never().Debounce(rxgo.WithDuration(time.Millisecond), rxgo.WithContext(ctx)).Observe(rxgo.WithContext(ctx))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			time.Sleep(10 * time.Second)
			runtime.ReadMemStats(&after)
			cancel()
			for range ch {
			}
			t.Log("polls:", after.Mallocs-before.Mallocs > 10_000)
		},
	},
	{
		"BackOffRetry panics when it is cancelled", "operators.Retry", "panic: close of closed channel",
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			o := rxgo.Never().BackOffRetry(backoff.NewConstantBackOff(time.Second), rxgo.WithContext(ctx))
			synctest.Wait()
			cancel()
			for range o.Observe() {
			}
			synctest.Wait()
		},
	},
	{
		"ForEach ignores its context", "Subscribe, or range over Seq", stuck,
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			done := rxgo.FromChannel(make(chan rxgo.Item)).ForEach(func(any) {}, func(error) {}, func() {}, rxgo.WithContext(ctx))
			cancel()
			<-done
		},
	},
	{
		"Range does not close on a cancel", "streams.Of, or New", stuck,
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			ch := rxgo.Range(0, 1<<30).Observe(rxgo.WithContext(ctx))
			<-ch
			cancel()
			for range ch {
			}
		},
	},
	{
		"WindowWithCount waits for a reader of each window", "never WindowWithCount", stuck,
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			ch := endless().WindowWithCount(3, rxgo.WithContext(ctx)).Observe(rxgo.WithContext(ctx))
			<-ch
			synctest.Wait()
			cancel()
			for range ch {
			}
		},
	},
	{
		"FlatMap serves one inner observable at a time", "Merge", "inner observables that were subscribed: 1 of 3",
		func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			n := 0
			ch := rxgo.Just(1, 2, 3)().FlatMap(func(rxgo.Item) rx { n++; return rxgo.Never() }, rxgo.WithContext(ctx)).Observe()
			synctest.Wait()
			t.Logf("inner observables that were subscribed: %d of 3", n)
			cancel()
			for range ch {
			}
		},
	},
	{
		"CombineLatest hands out the slice that it goes on to change", "copy it", "emitted [1 1], later it was [2 1]",
		func(t *testing.T) {
			a, b := make(chan rxgo.Item), make(chan rxgo.Item)
			keep := func(vs ...any) any { return vs }
			ch := rxgo.CombineLatest(keep, []rx{rxgo.FromChannel(a), rxgo.FromChannel(b)}).Observe()
			a <- rxgo.Of(1)
			synctest.Wait() // or both would emit the first pair
			b <- rxgo.Of(1)
			tuple := (<-ch).V.([]any)
			first := [2]any(tuple)
			a <- rxgo.Of(2)
			<-ch
			close(a)
			close(b)
			t.Logf("emitted %v, later it was %v", first, tuple)
		},
	},
	{
		"Just flattens a slice", "streams.Of", "one []byte became 2 items",
		func(t *testing.T) {
			n := 0
			for range rxgo.Just([]byte("ab"))().Observe() {
				n++
			}
			t.Logf("one []byte became %d items", n)
		},
	},
	{
		"Just can't carry a nil", "streams.Of", "panic: runtime error: invalid memory address",
		func(*testing.T) {
			for range rxgo.Just(nil)().Observe() {
			}
		},
	},
}

// stuck is how synctest says that goroutines wait for what can never come.
const stuck = "panic: deadlock: "

// endless emits until its context is done, as a well-behaved source does.
func endless() rx {
	return rxgo.Defer([]rxgo.Producer{func(ctx context.Context, next chan<- rxgo.Item) {
		for i := 0; rxgo.Of(i).SendContext(ctx, next); i++ {
		}
	}})
}

func TestRxGoTraps(t *testing.T) {
	if name := os.Getenv(trapVariable); name != "" {
		for _, trap := range traps {
			if trap.name == name {
				synctest.Test(t, trap.run)
			}
		}
		return
	}
	for _, trap := range traps {
		t.Run(trap.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestRxGoTraps$", "-test.v")
			cmd.Env = append(os.Environ(), trapVariable+"="+trap.name, "GORACE=atexit_sleep_ms=0")
			out, _ := cmd.CombinedOutput() // most traps end the process with an error
			if !strings.Contains(string(out), trap.sees) {
				t.Errorf("RxGo seems to have changed: %q did not show, so look again at the rule %q.\n%s", trap.sees, trap.rule, out)
			}
		})
	}
}
