package timer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/timer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const s = time.Second

// tick is an event and when it came after the start of the test.
type tick struct {
	watch sources.Watch
	at    time.Duration
}

// record collects the ticks of a source until the test ends, and calls busy after each.
func record(t *testing.T, source *timer.Source, busy func(tick)) *[]tick {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	start := time.Now()
	ticks, done := new([]tick), make(chan error, 1)
	go func() {
		done <- source.Events().Subscribe(ctx, func(e sources.Event) bool {
			if e.Source != "timer" || e.What != "tick" || e.Err != nil {
				t.Errorf("got event %+v, want a tick of the source timer", e)
			}
			k := tick{e.Watch, time.Since(start)}
			*ticks = append(*ticks, k)
			busy(k)
			return true
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Events ended with %v, want %v", err, context.Canceled)
		}
	})
	return ticks
}

func idle(tick) {}

func add(t *testing.T, source *timer.Source, watches ...sources.Watch) {
	t.Helper()
	for _, w := range watches {
		if err := source.Add(w); err != nil {
			t.Fatal(err)
		}
	}
}

func expect(t *testing.T, ticks *[]tick, want ...tick) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(*ticks, want) {
		t.Errorf("got ticks\n%v\nwant\n%v", *ticks, want)
	}
}

func TestTicks(t *testing.T) {
	two, three := timer.Every(2*s), timer.Every(3*s)
	other := sources.Interval{Every: 2 * s, ID: "other"}
	tests := []struct {
		name string
		run  func(t *testing.T, source *timer.Source)
	}{
		{"intervals tick each at its own rate", func(t *testing.T, source *timer.Source) {
			add(t, source, two, three)
			ticks := record(t, source, idle)
			time.Sleep(5 * s)
			expect(t, ticks, tick{two, 2 * s}, tick{three, 3 * s}, tick{two, 4 * s})
		}},
		{"an interval that is added while events flow is served", func(t *testing.T, source *timer.Source) {
			ticks := record(t, source, idle)
			time.Sleep(10 * s)
			add(t, source, three)
			time.Sleep(1 * s)
			add(t, source, two) // earlier than what the timer is set for, at the same time
			time.Sleep(1 * s)
			add(t, source, timer.Every(s/2))
			time.Sleep(3 * s / 4)
			source.Remove(timer.Every(s / 2))
			time.Sleep(s)
			synctest.Wait()
			got := (*ticks)[0]
			if (got != tick{timer.Every(s / 2), 12*s + s/2}) {
				t.Errorf("got first tick %v", got)
			}
			if rest := (*ticks)[1:]; len(rest) != 2 || rest[0].at != 13*s || rest[1].at != 13*s || rest[0].watch == rest[1].watch {
				t.Errorf("got ticks %v, want one of each interval at 13s", rest)
			}
		}},
		{"equal watches are served once and until the last is removed", func(t *testing.T, source *timer.Source) {
			add(t, source, two, two)
			ticks := record(t, source, idle)
			time.Sleep(3 * s)
			expect(t, ticks, tick{two, 2 * s})
			source.Remove(two)
			time.Sleep(2 * s)
			expect(t, ticks, tick{two, 2 * s}, tick{two, 4 * s})
			source.Remove(two)
			time.Sleep(10 * s)
			expect(t, ticks, tick{two, 2 * s}, tick{two, 4 * s})
		}},
		{"an ID gives an interval its own phase", func(t *testing.T, source *timer.Source) {
			add(t, source, two)
			ticks := record(t, source, idle)
			time.Sleep(s)
			add(t, source, other)
			time.Sleep(2*s + s/2)
			expect(t, ticks, tick{two, 2 * s}, tick{other, 3 * s})
		}},
		{"ticks that a busy consumer misses come as one, and the phase is kept", func(t *testing.T, source *timer.Source) {
			add(t, source, two)
			ticks := record(t, source, func(k tick) {
				if k.at == 2*s {
					time.Sleep(7 * s)
				}
			})
			time.Sleep(11 * s)
			expect(t, ticks, tick{two, 2 * s}, tick{two, 9 * s}, tick{two, 10 * s})
		}},
		{"ticks before the subscription come as one", func(t *testing.T, source *timer.Source) {
			add(t, source, two)
			time.Sleep(7 * s)
			ticks := record(t, source, idle)
			time.Sleep(2 * s)
			expect(t, ticks, tick{two, 0}, tick{two, 1 * s})
		}},
		{"the consumer may add and remove", func(t *testing.T, source *timer.Source) {
			add(t, source, two)
			ticks := record(t, source, func(k tick) {
				if k.watch == two {
					source.Remove(two)
					add(t, source, three)
				}
			})
			time.Sleep(6 * s)
			expect(t, ticks, tick{two, 2 * s}, tick{three, 5 * s})
		}},
		{"removing what was never added does nothing", func(t *testing.T, source *timer.Source) {
			add(t, source, two)
			source.Remove(three)
			ticks := record(t, source, idle)
			time.Sleep(3 * s)
			expect(t, ticks, tick{two, 2 * s})
		}},
		{"many intervals keep their order", func(t *testing.T, source *timer.Source) {
			for i := range 500 {
				add(t, source, sources.Interval{Every: time.Duration(i*7919%500+1) * s, ID: fmt.Sprint(i)})
			}
			for i := range 500 {
				if i%2 == 0 {
					source.Remove(sources.Interval{Every: time.Duration(i*7919%500+1) * s, ID: fmt.Sprint(i)})
				}
			}
			ticks := record(t, source, idle)
			time.Sleep(500*s + s/2)
			synctest.Wait()
			count := make(map[sources.Watch]int)
			for n, k := range *ticks {
				if n > 0 && k.at < (*ticks)[n-1].at {
					t.Fatalf("tick %v came after %v", k, (*ticks)[n-1])
				}
				count[k.watch]++
			}
			if len(count) != 250 {
				t.Errorf("%d intervals ticked, want 250", len(count))
			}
			for w, n := range count {
				if want := int(500 * s / w.(sources.Interval).Every); n != want {
					t.Errorf("%v ticked %d times, want %d", w, n, want)
				}
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { tt.run(t, timer.New()) })
		})
	}
}

func TestConsumerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := timer.New()
		add(t, source, timer.Every(s), sources.Interval{Every: s, ID: "b"})
		n := 0
		err := source.Events().Subscribe(t.Context(), func(sources.Event) bool { n++; return false })
		if n != 1 || err != nil {
			t.Errorf("got %d events and %v, want 1 and no error", n, err)
		}
	})
}

type stranger struct{}

func (stranger) Source() string { return "timer" }
func (stranger) String() string { return "stranger" }

func TestAddRefuses(t *testing.T) {
	tests := []struct {
		name  string
		watch sources.Watch
		want  string
	}{
		{"a watch of another sort", stranger{}, "serves intervals, not a timer_test.stranger"},
		{"an interval of no length", timer.Every(0), "an interval of 0s is not positive"},
		{"a negative interval", timer.Every(-s), "an interval of -1s is not positive"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source := timer.New()
			if err := source.Add(tt.watch); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			source.Remove(tt.watch)
		})
	}
}

func TestName(t *testing.T) {
	if got := timer.New().Name(); got != timer.Every(s).Source() {
		t.Errorf("the source is named %q, its watches name %q", got, timer.Every(s).Source())
	}
}

func BenchmarkTick(b *testing.B) {
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("intervals=%d", n), func(b *testing.B) {
			source := timer.New()
			for i := range n {
				if err := source.Add(sources.Interval{Every: time.Duration(i + 1), ID: fmt.Sprint(i)}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			left := b.N
			if err := source.Events().Subscribe(b.Context(), func(sources.Event) bool { left--; return left > 0 }); err != nil {
				b.Fatal(err)
			}
		})
	}
}
