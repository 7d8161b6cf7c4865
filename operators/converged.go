package operators

import (
	"context"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/streams"
)

// ConvergedOptions tune Converge.
type ConvergedOptions struct {
	// Timeout is how long nothing may be pending. 0 means no longer than an instant.
	Timeout time.Duration

	// Exit completes the stream at the first Converged.
	Exit bool

	// Barrier, if not nil, is asked once Timeout has passed whether something is still
	// on its way to Sequence: it returns at once, and in its own time sends an Input
	// with that Marker behind all events that had happened when it was called. Only
	// when the marker has come out with nothing pending is convergence announced.
	Barrier func(marker uint64)
}

// Converge passes the results of Sequence on and adds a Converged one whenever nothing
// has been pending for the timeout: no vertex is queued, running or waiting to retry,
// and, if there is a barrier, no event is on its way. Failed and blocked vertices do not
// hold it back. It says so again after every time that something was pending.
//
// A result costs a lock; the one timer is armed when Sequence becomes idle.
func Converge(in streams.Observable[Result], opts ConvergedOptions) streams.Observable[Result] {
	return streams.New(func(ctx context.Context, emit func(Result) bool) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		c := &converger{opts: opts, emit: emit, cancel: cancel}
		c.mu.Lock()
		c.timer = time.AfterFunc(time.Hour, c.expired)
		c.timer.Stop()
		c.mu.Unlock()
		err := in.Subscribe(ctx, c.next)
		c.timer.Stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.done {
			return nil
		}
		c.done = true
		return err
	})
}

type converger struct {
	opts   ConvergedOptions
	cancel context.CancelFunc

	mu         sync.Mutex // guards all below, and calls of emit
	emit       func(Result) bool
	timer      *time.Timer
	armed      bool
	busy, idle uint64    // the newest epochs
	since      time.Time // of the newest idle
	said       uint64    // the epoch of the last Converged
	marker     uint64    // the one that is on its way, or 0
	markers    uint64    // how many were sent
	done       bool
}

func (c *converger) next(r Result) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return false
	}
	switch r.Kind {
	case Busy:
		c.busy = max(c.busy, r.Epoch)
	case Idle:
		if r.Epoch > c.idle {
			c.idle, c.since = r.Epoch, time.Now()
		}
	case Marked:
		return c.marked(r.Epoch)
	}
	if !c.pass(r) {
		return false
	}
	if r.Kind == Idle {
		c.check()
	}
	return !c.done
}

func (c *converger) pass(r Result) bool {
	if !c.emit(r) {
		c.done = true
		c.cancel()
	}
	return !c.done
}

func (c *converger) expired() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = false
	if !c.done {
		c.check()
	}
}

// check arms the timer, sends the marker or announces convergence, as the time has come.
func (c *converger) check() {
	if c.idle < c.busy || c.idle == c.said || c.marker != 0 || c.armed {
		return
	}
	if wait := c.opts.Timeout - time.Since(c.since); wait > 0 {
		c.armed = true
		c.timer.Reset(wait)
		return
	}
	if c.opts.Barrier == nil {
		c.announce()
		return
	}
	c.markers++
	c.marker = c.markers
	c.opts.Barrier(c.marker)
}

func (c *converger) marked(marker uint64) bool {
	if marker == c.marker {
		c.marker = 0
		if c.idle >= c.busy && c.idle != c.said && time.Since(c.since) >= c.opts.Timeout {
			c.announce()
		} else {
			c.check()
		}
	}
	return !c.done
}

func (c *converger) announce() {
	c.said = c.idle
	if c.pass(Result{Kind: Converged, Epoch: c.idle}) && c.opts.Exit {
		c.done = true
		c.cancel()
	}
}
