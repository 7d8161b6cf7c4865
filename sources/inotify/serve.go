package inotify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fsnotify/fsnotify"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// burst is how many events are taken at once, at well below a microsecond each.
const burst = 64

// Events implements sources.Source. The events come on the goroutine of the subscriber,
// which takes them from the kernel's queue itself: if it is slow, they wait there.
func (s *Source) Events() streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		s.mu.Lock()
		if s.serving {
			s.mu.Unlock()
			return errors.New("the events of the inotify source are already subscribed to")
		}
		s.serving = true
		s.mu.Unlock()
		defer s.stopServing()
		signal(s.yield) // a tap may hold the baton
		select {
		case <-s.baton:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		defer func() { s.baton <- struct{}{} }()
		select {
		case <-s.yield:
		default:
		}
		signal(s.wake) // for what came before
		s.pump(ctx, nil, emit)
		return context.Cause(ctx)
	})
}

// stopServing drops the watches of Events. What taps watch stays.
func (s *Source) stopServing() {
	s.mu.Lock()
	s.serving = false
	s.counted, s.pending, s.lost = 0, nil, ""
	if s.taps > 0 {
		for _, n := range slices.Collect(maps.Values(s.nodes)) {
			for _, t := range []*target{n.self, n.tree} {
				if t == nil {
					continue
				}
				t.count, t.queued = 0, false
				for _, tap := range t.taps {
					signal(tap.wake) // the baton is free
				}
				s.prune(t)
			}
		}
	}
	s.closeIdle() // unlocks
}

// A tap is a subscription of Observe.
type tap struct {
	wake  chan struct{}
	fired string // what happened, "" if nothing did
}

// Observe watches w for as long as the result is subscribed, beside Events and whether
// or not that is subscribed. The first event comes at once and says that the watch is
// in place. A change that happens while an event is being handled leads to one more,
// however many there are.
func (s *Source) Observe(w sources.Watch) streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		tap := &tap{wake: make(chan struct{}, 1), fired: "watching"}
		s.mu.Lock()
		t, err := s.target(w)
		if err != nil {
			s.mu.Unlock()
			return fmt.Errorf("watching %s: %w", w, err)
		}
		t.taps = append(t.taps, tap)
		s.taps++
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			i := slices.Index(t.taps, tap)
			t.taps = slices.Delete(t.taps, i, i+1)
			s.taps--
			s.prune(t)
			s.closeIdle() // unlocks
		}()
		for {
			s.mu.Lock()
			what, baton := tap.fired, s.baton
			tap.fired = ""
			if s.serving {
				baton = nil
			}
			s.mu.Unlock()
			if what != "" {
				if !emit(sources.Event{Source: Name, Watch: w, What: what}) {
					return nil
				}
				continue
			}
			select {
			case <-tap.wake:
			case <-baton:
				s.pump(ctx, tap.wake, nil)
				s.baton <- struct{}{}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// pump takes events from the kernel's queue until ctx is done, emit says false or, for
// a tap, it has been woken or Events wants to take over. A tap gives no emit; then what
// is pending for Events stays.
func (s *Source) pump(ctx context.Context, woken <-chan struct{}, emit func(sources.Event) bool) {
	var yield chan struct{}
	s.mu.Lock()
	if emit == nil {
		if s.serving {
			s.mu.Unlock()
			return
		}
		yield = s.yield
	}
	events := s.queue()
	s.mu.Unlock()
	for {
		select {
		case ev := <-events:
			s.mu.Lock()
			s.handleBurst(ev, events)
		case <-s.wake:
			s.mu.Lock()
			events = s.queue()
		case <-ctx.Done():
			return
		case <-woken:
			return
		case <-yield:
			return
		}
		if s.k != nil && s.k.overflow.Swap(false) {
			s.overflow()
		}
		if !s.deliver(emit) {
			return
		}
	}
}

// handleBurst takes ev and what else has arrived already, so that several events of one
// change lead to one firing. It does not wait for any.
func (s *Source) handleBurst(ev fsnotify.Event, events <-chan fsnotify.Event) {
	for range burst {
		s.handle(ev)
		select {
		case ev = <-events:
		default:
			return
		}
	}
	s.handle(ev)
}

// queue returns the channel of the kernel's events, nil if nothing is watched.
func (s *Source) queue() <-chan fsnotify.Event {
	if s.k == nil || s.k.fs == nil {
		return nil
	}
	return s.k.fs.Events
}

// deliver emits what is pending and then lets those go who waited for it. It is called
// with the lock and releases it before it emits.
func (s *Source) deliver(emit func(sources.Event) bool) bool {
	var batch []firing
	var lost string
	if emit != nil {
		batch, s.pending = s.pending, s.spare
		lost, s.lost = s.lost, ""
		for _, f := range batch {
			f.t.queued = false
		}
		s.spare = nil
	}
	ripe := s.ripe
	s.ripe = nil
	s.mu.Unlock()
	defer free(ripe)
	if lost != "" && !emit(sources.Event{Source: Name, What: lost}) {
		return false
	}
	for _, f := range batch {
		if !emit(sources.Event{Source: Name, Watch: f.t.watch, What: f.what}) {
			return false
		}
	}
	clear(batch)
	s.spare = batch[:0] // whoever pumps owns it
	return true
}
