package systemd

import (
	"context"
	"slices"

	"github.com/godbus/dbus/v5"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
	"github.com/mgmtproject/mgmt/streams"
)

// place has t woken by the signals of paths, and no longer by those it had before.
func (b *side) place(t *target, paths []dbus.ObjectPath) {
	for _, p := range t.paths {
		left := slices.DeleteFunc(b.paths[p], func(other *target) bool { return other == t })
		if b.paths[p] = left; len(left) == 0 {
			delete(b.paths, p)
		}
	}
	t.paths = paths
	for _, p := range paths {
		b.paths[p] = append(b.paths[p], t)
	}
}

// Remove implements sources.Source.
func (s *Source) Remove(removed sources.Watch) {
	w, ok := removed.(watch)
	if !ok {
		return
	}
	s.adding.Lock()
	defer s.adding.Unlock()
	s.mu.Lock()
	t := s.watches[w]
	if t == nil {
		s.mu.Unlock()
		return
	}
	if t.count--; t.count > 0 {
		s.mu.Unlock()
		return
	}
	stop := s.drop(t)
	s.mu.Unlock()
	release(w, stop)
}

// drop forgets a target. It returns what ends listening if that was the last of its bus.
func (s *Source) drop(t *target) (stop func()) {
	b := s.side(t.watch)
	b.place(t, nil)
	delete(s.watches, t.watch)
	t.what = ""
	s.pending = slices.DeleteFunc(s.pending, func(p *target) bool { return p == t })
	if b.count--; b.count == 0 {
		stop, b.stop, b.lost = b.stop, nil, ""
	}
	return stop
}

// release gives back what Add took of the bus. It waits for calls of the listener, which
// take the lock of the source.
func release(w watch, stop func()) {
	if w.service != "" {
		w.bus().Unmatch(context.Background(), w.service, dbus.ObjectPath(w.name))
	} else {
		w.bus().UnwatchUnits()
	}
	if stop != nil {
		stop()
	}
}

// forget drops all watches.
func (s *Source) forget() {
	s.adding.Lock()
	defer s.adding.Unlock()
	s.mu.Lock()
	type released struct {
		w    watch
		stop func()
	}
	var all []released
	for w, t := range s.watches {
		all = append(all, released{w, s.drop(t)})
	}
	for _, done := range s.flushes {
		close(done)
	}
	s.flushes = nil
	s.mu.Unlock()
	// The buses last: what is matched is given back before the connection.
	for _, r := range all {
		release(r.w, nil)
	}
	for _, r := range all {
		if r.stop != nil {
			r.stop()
		}
	}
}

// listener is told by one bus.
type listener struct {
	s *Source
	b *side
}

// Changed implements bus.Listener.
func (l *listener) Changed(c bus.Change) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for _, t := range l.b.paths[c.Path] {
		if c.Unit != (t.watch.service == "") {
			continue
		}
		if c.Stamp != 0 {
			told := t.stamp == c.Stamp
			t.stamp = c.Stamp
			if told {
				continue
			}
		}
		if !c.Own || !t.watch.own {
			l.s.mark(t, c.What)
		}
	}
}

// Lost implements bus.Listener.
func (l *listener) Lost(why string) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.b.lost = why
	l.s.signal()
}

// mark has an event of t emitted, unless one is on its way.
func (s *Source) mark(t *target, what string) {
	if t.what == "" {
		s.pending = append(s.pending, t)
	}
	t.what = what
	s.signal()
}

func (s *Source) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Events implements sources.Source.
func (s *Source) Events() streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		defer s.forget()
		for {
			events, flushes := s.take()
			for _, e := range events {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if !emit(e) {
					return nil
				}
			}
			for _, done := range flushes {
				close(done)
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-s.wake:
			}
		}
	})
}

// take returns what is to be emitted now, and whom to tell afterwards.
func (s *Source) take() ([]sources.Event, []chan struct{}) {
	s.relocate()
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []sources.Event
	for i := range s.buses {
		b, other := &s.buses[i], &s.buses[1-i]
		why := b.lost
		b.lost = ""
		switch {
		case why == "" || b.count == 0:
		case other.count == 0:
			events = append(events, sources.Event{Source: Name, What: why})
			s.pending = s.settled()
		default:
			for _, t := range s.watches {
				if s.side(t.watch) == b {
					s.mark(t, why)
				}
			}
		}
	}
	for _, t := range s.pending {
		events = append(events, sources.Event{Source: Name, Watch: t.watch, What: t.what})
	}
	s.pending = s.settled()
	flushes := s.flushes
	s.flushes = nil
	return events, flushes
}

// settled empties pending.
func (s *Source) settled() []*target {
	for _, t := range s.pending {
		t.what = ""
	}
	clear(s.pending)
	return s.pending[:0]
}

// relocate looks anew for aliases where unit files may have changed.
func (s *Source) relocate() {
	s.mu.Lock()
	var moved []*target
	for _, t := range s.watches {
		if t.watch.service == "" && s.side(t.watch).lost != "" {
			moved = append(moved, t)
		}
	}
	s.mu.Unlock()
	for _, t := range moved {
		paths := t.watch.paths()
		s.mu.Lock()
		if s.watches[t.watch] == t {
			s.side(t.watch).place(t, paths)
		}
		s.mu.Unlock()
	}
}

// Flush implements sources.Flusher. It waits for what systemd knows when it is called: a
// process that has just died may be news to it.
func (s *Source) Flush(ctx context.Context) error {
	s.mu.Lock()
	counts := [2]int{s.buses[0].count, s.buses[1].count}
	s.mu.Unlock()
	for i, n := range counts {
		if n == 0 {
			continue
		}
		if err := bus.Of(i == 1).Flush(ctx); err != nil {
			return err
		}
	}
	if counts == [2]int{} {
		return nil
	}
	done := make(chan struct{})
	s.mu.Lock()
	s.flushes = append(s.flushes, done)
	s.signal()
	s.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
