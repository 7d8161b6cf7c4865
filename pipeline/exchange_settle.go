package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// settling is a source without watches. What is not yet on its way to a run is what the
// mesh has for it.
type settling struct {
	x     *Exchange
	limit time.Duration
}

var _ sources.Flusher = settling{}

// Settled returns a source for Options.Sources. With it, a run has converged only when the
// mesh has all that its graph exports, and the graph has all that it collects; so one that
// ends then has not left before it was there. It waits for the mesh, from the first time
// that nothing else is pending, no longer than limit.
func (x *Exchange) Settled(limit time.Duration) sources.Source { return settling{x, limit} }

// Name implements sources.Source.
func (settling) Name() string { return "exchange" }

// Events implements sources.Source: there are none.
func (settling) Events() streams.Observable[sources.Event] { return streams.Never[sources.Event]() }

// Add implements sources.Source: there are no watches.
func (settling) Add(w sources.Watch) error { return fmt.Errorf("%v can't be watched", w) }

// Remove implements sources.Source.
func (settling) Remove(sources.Watch) {}

// Flush implements sources.Flusher.
func (s settling) Flush(ctx context.Context) error {
	done := make(chan struct{})
	s.x.later(func() { s.x.wait(done, s.limit) })
	select {
	case <-done:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

// wait has done closed when all is exchanged.
func (x *Exchange) wait(done chan struct{}, limit time.Duration) {
	if x.patience.IsZero() {
		x.patience = time.Now().Add(limit)
	}
	x.waiting = append(x.waiting, done)
}

// answer lets those go who wait, when all is exchanged, or they have waited for too long.
func (x *Exchange) answer(now time.Time) time.Time {
	if len(x.waiting) == 0 {
		return time.Time{}
	}
	if !x.exchanged() {
		if now.Before(x.patience) {
			return x.patience
		}
		if !x.complained {
			x.complained = true
			x.opts.Log.Warn("not exchanged", "why", "the mesh was not there in time; what is known of it stays in force, and the next run publishes what this one exports")
		}
	}
	for _, done := range x.waiting {
		close(done)
	}
	x.waiting = nil
	return time.Time{}
}

// exchanged says that the mesh has all that this host exports, and the run all that it
// collects.
func (x *Exchange) exchanged() bool {
	switch {
	case x.store == nil || x.opts.Noop:
		return true
	case x.fresh || x.in.changed || x.in.busy > 0 || !x.out.settled():
		return false
	}
	return x.shares != everything || x.in.revision > 0
}
