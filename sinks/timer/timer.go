// Package timer makes time a resource: it changes at an interval, so that what depends on
// it runs again.
package timer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// Spec is the timer resource.
var Spec = sinks.Spec{
	Kind: "timer",
	New:  func() sinks.Config { return &Config{} },
}

// Config is an interval. Each tick counts as a change; ticks that pass while nobody
// looks count as one. A notification restarts the interval: the next tick comes a whole
// interval later.
type Config struct {
	// Interval is the time between two ticks, which must be positive.
	Interval time.Duration `param:"interval" unit:"s"`
}

// Build implements sinks.Config.
func (c *Config) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	if c.Interval <= 0 {
		return nil, &sinks.ParamError{Param: "interval", Err: fmt.Errorf("must be positive, such as 60 (seconds) or 5m, and is %v", c.Interval)}
	}
	return &timer{every: c.Interval, name: name}, nil
}

type timer struct {
	every time.Duration
	name  string

	mu      sync.Mutex // Watches may be called while CheckApply runs
	start   time.Time  // of the ticks; zero before Watches and CheckApply
	seen    int64      // ticks that have been reported, or were not a change
	running bool       // the first CheckApply was there
}

var _ sinks.Refresher = (*timer)(nil)

// Watches implements sinks.Resource. It notes the time, since the source begins to tick
// right afterwards: counted from later on, every tick would come a moment too early.
func (t *timer) Watches() []sources.Watch {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start, t.seen = time.Now(), 0
	return []sources.Watch{sources.Interval{Every: t.every, ID: t.name}}
}

// CheckApply implements sinks.Resource. The first one starts the interval and is no
// change. Without apply a tick is reported, and stays to be reported.
func (t *timer) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ticks := t.ticks()
	if !t.running {
		t.running, t.seen = true, ticks
	}
	changed := ticks > t.seen
	if apply {
		t.seen = ticks
	}
	return sinks.Outcome{Changed: changed}, nil
}

// Refresh implements sinks.Refresher: it restarts the interval, here for a tick of the old
// one that is on its way, and in the source by the watch that begins anew.
func (t *timer) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	out, err := t.CheckApply(ctx, apply)
	if err == nil && apply {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.start, t.seen = time.Now(), 0
		out.Rewatch = true
	}
	return out, err
}

// ticks is the number of intervals since the start, which is now if there was none.
func (t *timer) ticks() int64 {
	if t.start.IsZero() {
		t.start = time.Now()
	}
	return int64(time.Since(t.start) / t.every)
}
