package timer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/timer"
	"github.com/mgmtproject/mgmt/sources"
	timersource "github.com/mgmtproject/mgmt/sources/timer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const s = time.Second

func build(t *testing.T, every time.Duration) sinks.Resource {
	t.Helper()
	r, err := (&timer.Config{Interval: every}).Build("tick", sinks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// expect checks whether a CheckApply is a change.
func expect(t *testing.T, r sinks.Resource, apply, want bool) {
	t.Helper()
	if out, err := r.CheckApply(t.Context(), apply); err != nil || out.Changed != want {
		t.Errorf("CheckApply(%v): got %+v, %v; want changed=%v", apply, out, err, want)
	}
}

func refresh(t *testing.T, r sinks.Resource, apply, want bool) {
	t.Helper()
	if out, err := r.(sinks.Refresher).Refresh(t.Context(), apply); err != nil || out.Changed != want || out.Rewatch != apply {
		t.Errorf("Refresh(%v): got %+v, %v; want changed=%v, and to watch anew if applied", apply, out, err, want)
	}
}

func TestTicks(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, r sinks.Resource) // the interval is 10 s
	}{
		{"the first look is no change", func(t *testing.T, r sinks.Resource) {
			time.Sleep(100 * s)
			expect(t, r, true, false)
		}},
		{"each tick is a change once", func(t *testing.T, r sinks.Resource) {
			expect(t, r, true, false)
			for range 3 {
				time.Sleep(10 * s)
				expect(t, r, true, true)
				expect(t, r, true, false)
			}
		}},
		{"who looks for another cause sees no change", func(t *testing.T, r sinks.Resource) {
			expect(t, r, true, false)
			time.Sleep(10*s - time.Nanosecond)
			expect(t, r, true, false)
			time.Sleep(time.Nanosecond)
			expect(t, r, true, true)
			time.Sleep(5 * s)
			expect(t, r, true, false)
		}},
		{"ticks that nobody saw are one change", func(t *testing.T, r sinks.Resource) {
			expect(t, r, true, false)
			time.Sleep(35 * s)
			expect(t, r, true, true)
			expect(t, r, true, false)
			time.Sleep(5 * s)
			expect(t, r, true, true)
		}},
		{"a check does not use the tick up", func(t *testing.T, r sinks.Resource) {
			expect(t, r, false, false)
			time.Sleep(10 * s)
			expect(t, r, false, true)
			expect(t, r, false, true)
			expect(t, r, true, true)
			expect(t, r, false, false)
		}},
		{"the interval begins when watches are asked for", func(t *testing.T, r sinks.Resource) {
			r.Watches()
			time.Sleep(12 * s)
			expect(t, r, true, false)
			time.Sleep(8 * s)
			expect(t, r, true, true)
		}},
		{"it begins again when watches are asked for again", func(t *testing.T, r sinks.Resource) {
			r.Watches()
			expect(t, r, true, false)
			time.Sleep(9 * s)
			r.Watches()
			time.Sleep(9 * s)
			expect(t, r, true, false)
			time.Sleep(1 * s)
			expect(t, r, true, true)
		}},
		{"a refresh restarts it", func(t *testing.T, r sinks.Resource) {
			expect(t, r, true, false)
			time.Sleep(9 * s)
			refresh(t, r, true, false)
			time.Sleep(9 * s)
			expect(t, r, true, false)
			time.Sleep(1 * s)
			expect(t, r, true, true)
		}},
		{"a refresh reports a tick too", func(t *testing.T, r sinks.Resource) {
			expect(t, r, true, false)
			time.Sleep(11 * s)
			refresh(t, r, true, true)
			time.Sleep(9 * s)
			expect(t, r, true, false)
		}},
		{"a check of a refresh restarts nothing", func(t *testing.T, r sinks.Resource) {
			expect(t, r, true, false)
			time.Sleep(9 * s)
			refresh(t, r, false, false)
			time.Sleep(1 * s)
			expect(t, r, true, true)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { tt.run(t, build(t, 10*s)) })
		})
	}
}

// TestEachTickOfTheSourceIsAChange runs a resource with the source that wakes it.
func TestEachTickOfTheSourceIsAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, source := build(t, 10*s), timersource.New()
		watches := r.Watches()
		time.Sleep(time.Millisecond)
		start := time.Now()
		var changes []time.Duration
		expect(t, r, true, false)
		err := sources.Observe(source, watches...).Subscribe(t.Context(), func(e sources.Event) bool {
			out, err := r.CheckApply(t.Context(), true)
			if err != nil {
				t.Error(err)
			}
			if out.Changed {
				changes = append(changes, time.Since(start))
			}
			return len(changes) < 3 && time.Since(start) < time.Hour
		})
		if got := fmt.Sprint(changes); err != nil || got != "[10s 20s 30s]" {
			t.Errorf("got changes at %v, %v", got, err)
		}
	})
}

// TestRefreshRestartsTheSource does with the watch what the engine does after a refresh.
func TestRefreshRestartsTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, source := build(t, 10*s), timersource.New()
		watch := r.Watches()[0]
		if err := source.Add(watch); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var changes []time.Duration
		expect(t, r, true, false)
		restart := time.AfterFunc(14*s, func() {
			refresh(t, r, true, false)
			source.Remove(watch)
			if err := source.Add(r.Watches()[0]); err != nil {
				t.Error(err)
			}
		})
		defer restart.Stop()
		err := source.Events().Subscribe(t.Context(), func(sources.Event) bool {
			out, err := r.CheckApply(t.Context(), true)
			if err != nil {
				t.Error(err)
			}
			if out.Changed {
				changes = append(changes, time.Since(start))
			}
			return len(changes) < 3 && time.Since(start) < time.Hour
		})
		if got := fmt.Sprint(changes); err != nil || got != "[10s 24s 34s]" {
			t.Errorf("got changes at %v, %v", got, err)
		}
	})
}

func TestTimersOfOneIntervalHaveTheirOwnPhase(t *testing.T) {
	watch := func(name string) sources.Watch {
		r, err := (&timer.Config{Interval: s}).Build(name, sinks.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Watches()[0]
	}
	if watch("a") == watch("b") || watch("a") != watch("a") {
		t.Errorf("got %#v and %#v", watch("a"), watch("b"))
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := build(t, s).CheckApply(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestInvalid(t *testing.T) {
	sinktest.Invalid(t, timer.Spec, "tick", nil, "interval: must be positive, such as 60 (seconds) or 5m, and is 0s")
	sinktest.Invalid(t, timer.Spec, "tick", map[string]any{"interval": -5}, "interval: must be positive, such as 60 (seconds) or 5m, and is -5s")
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, timer.Spec,
		sinktest.Case{Name: "between two ticks there is nothing to do", Resource: "tick", Params: map[string]any{"interval": 3600}},
	)
}
