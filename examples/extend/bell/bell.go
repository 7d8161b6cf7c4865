// Package bell is a source of one's own: another part of the program rings a bell, and
// the resources that watch it look again.
package bell

import (
	"context"
	"fmt"
	"sync"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// Name is the name of the source.
const Name = "bell"

type watch string

// Named is the watch on a bell.
func Named(bell string) sources.Watch { return watch(bell) }

// Source implements sources.Watch.
func (watch) Source() string { return Name }

// String implements sources.Watch.
func (w watch) String() string { return string(w) }

// Source serves bells.
type Source struct {
	wake chan struct{} // holds one item when rung is not empty

	mu    sync.Mutex
	count map[sources.Watch]int  // Adds less Removes
	rung  map[sources.Watch]bool // and not yet emitted
}

var _ sources.Source = (*Source)(nil)

// New returns a source without watches.
func New() *Source {
	return &Source{wake: make(chan struct{}, 1), count: map[sources.Watch]int{}, rung: map[sources.Watch]bool{}}
}

// Ring rings a bell. It never waits; a bell that rings before it was heard is heard once.
func (s *Source) Ring(bell string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[watch(bell)] == 0 {
		return
	}
	s.rung[watch(bell)] = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Name implements sources.Source.
func (s *Source) Name() string { return Name }

// Add implements sources.Source.
func (s *Source) Add(w sources.Watch) error {
	if _, ok := w.(watch); !ok {
		return fmt.Errorf("%T is not a watch of the source %s", w, Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[w]++
	return nil
}

// Remove implements sources.Source.
func (s *Source) Remove(w sources.Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[w]--; s.count[w] == 0 {
		delete(s.count, w)
		delete(s.rung, w)
	}
}

// Events implements sources.Source.
func (s *Source) Events() streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-s.wake:
			}
			for w := range s.take() {
				if !emit(sources.Event{Source: Name, Watch: w, What: "ring"}) {
					return nil
				}
			}
		}
	})
}

// take empties rung, so that no lock is held while its bells are emitted.
func (s *Source) take() map[sources.Watch]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	rung := s.rung
	s.rung = map[sources.Watch]bool{}
	return rung
}
