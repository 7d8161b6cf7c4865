package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// Source serves watches of a Store as events. A watch also fires when the store is reached,
// at first and again: something may have changed before. After the subscription of Events
// has ended it has forgotten its watches and can be used anew.
type Source struct {
	store Store
	wake  chan struct{} // holds an item when there is something to emit

	adding  sync.Mutex     // held by Add, and while all is forgotten
	running sync.WaitGroup // a task for each target

	mu      sync.Mutex
	watches map[Watch]*target
	pending []*target
}

// target is a watch that somebody has added.
type target struct {
	watch  Watch
	count  int
	stop   context.CancelFunc
	failed bool   // it is not served any more, until it is added again
	what   string // "" while nothing is pending
	err    error  // pending, too
}

var _ sources.Source = (*Source)(nil)

// NewSource returns a source that does not touch store until the first Add. With a nil
// store there is nothing to watch: Add says so.
func NewSource(store Store) *Source {
	return &Source{store: store, wake: make(chan struct{}, 1), watches: make(map[Watch]*target)}
}

// Name implements sources.Source.
func (*Source) Name() string { return SourceName }

// Add implements sources.Source. It does not wait for the mesh.
func (s *Source) Add(added sources.Watch) error {
	w, ok := added.(Watch)
	switch {
	case !ok:
		return fmt.Errorf("%T is not a watch of the source %s", added, SourceName)
	case w.Key == "":
		return errors.New("a watch of the mesh has no key")
	case s.store == nil:
		return errors.New("this run takes part in no mesh")
	}
	s.adding.Lock()
	defer s.adding.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.watches[w]
	if t == nil {
		t = &target{watch: w, failed: true}
		s.watches[w] = t
	}
	if t.count++; t.failed {
		var ctx context.Context
		ctx, t.stop = context.WithCancel(context.Background())
		t.failed = false
		s.running.Go(func() { s.follow(ctx, t) })
	}
	return nil
}

// Remove implements sources.Source.
func (s *Source) Remove(removed sources.Watch) {
	w, ok := removed.(Watch)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.watches[w]; t != nil {
		if t.count--; t.count == 0 {
			s.drop(t)
		}
	}
}

// drop forgets t.
func (s *Source) drop(t *target) {
	t.stop()
	delete(s.watches, t.watch)
	s.pending = slices.DeleteFunc(s.pending, func(p *target) bool { return p == t })
}

// follow marks t whenever it has changed.
func (s *Source) follow(ctx context.Context, t *target) {
	err := s.store.Changes(t.watch).Subscribe(ctx, func(c Change) bool {
		switch {
		case c.Reset:
			s.mark(t, "reset", nil)
		case len(c.Put) > 0:
			s.mark(t, "put", nil)
		case len(c.Deleted) > 0:
			s.mark(t, "delete", nil)
		}
		return true
	})
	if ctx.Err() == nil {
		if err == nil {
			err = errors.New("the mesh has ended the watch")
		}
		s.mark(t, "", err)
	}
}

// mark has an event of t emitted, unless one is on its way.
func (s *Source) mark(t *target, what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watches[t.watch] != t {
		return // dropped
	}
	if t.what == "" && t.err == nil {
		s.pending = append(s.pending, t)
	}
	t.what, t.err, t.failed = what, err, err != nil
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
			for _, e := range s.take() {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if !emit(e) {
					return nil
				}
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-s.wake:
			}
		}
	})
}

// take returns what is to be emitted now.
func (s *Source) take() []sources.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []sources.Event
	pending := s.pending
	s.pending = nil
	for _, t := range pending {
		events = append(events, sources.Event{Source: SourceName, Watch: t.watch, What: t.what, Err: t.err})
		t.what, t.err = "", nil
	}
	return events
}

// forget drops all watches.
func (s *Source) forget() {
	s.adding.Lock()
	defer s.adding.Unlock()
	s.mu.Lock()
	for _, t := range s.watches {
		s.drop(t)
	}
	s.mu.Unlock()
	s.running.Wait()
}
