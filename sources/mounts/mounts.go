// Package mounts observes what is mounted where, by the kernel's word that the mount table
// of this process has changed.
package mounts

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mounts/table"
	"github.com/mgmtproject/mgmt/streams"
)

// Name is the name of the source.
const Name = "mounts"

type point string

// Point watches what is mounted at an absolute path, which need not exist. It fires when
// something is mounted there or unmounted, when the options of the mount change, and when
// the same happens to a directory above, since that may hide it.
func Point(path string) sources.Watch { return point(filepath.Clean(path)) }

// Source implements sources.Watch.
func (point) Source() string { return Name }

// String is the path.
func (p point) String() string { return string(p) }

// target is a watch that is served.
type target struct {
	count int
	real  string // the path without symbolic links, as far as it existed when it was added
}

// Source serves the watches of this package. After the subscription of Events has ended
// it has forgotten them and can be used anew.
type Source struct {
	opened chan struct{} // holds one item when there is a table
	wake   chan struct{} // holds one item when the table may have changed or somebody flushes

	mu      sync.Mutex
	table   *table.Table // nil while nothing is watched
	last    map[string]uint64
	targets map[point]*target
	serving bool
	flushes []chan struct{} // closed when what was there before has been emitted
}

var (
	_ sources.Source  = (*Source)(nil)
	_ sources.Flusher = (*Source)(nil)
)

// New returns a source that has nothing open until the first Add.
func New() *Source {
	return &Source{opened: make(chan struct{}, 1), wake: make(chan struct{}, 1), targets: map[point]*target{}}
}

// Name implements sources.Source.
func (s *Source) Name() string { return Name }

// Add implements sources.Source. It fails for a watch that is not one of this package, for
// a path that is not absolute, and where proc is not mounted.
func (s *Source) Add(w sources.Watch) error {
	p, ok := w.(point)
	switch {
	case !ok:
		return fmt.Errorf("%T is not a watch of the source %s", w, Name)
	case !filepath.IsAbs(string(p)):
		return fmt.Errorf("the path %q is not absolute", string(p))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.targets[p]; t != nil {
		t.count++
		return nil
	}
	if err := s.open(); err != nil {
		return err
	}
	s.targets[p] = &target{count: 1, real: real(string(p))}
	return nil
}

// real is path without the symbolic links that there are.
func real(path string) string {
	for dir, rest := path, ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if found, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(found, rest)
		}
		if dir == "/" {
			return path
		}
	}
}

// Remove implements sources.Source.
func (s *Source) Remove(w sources.Watch) {
	s.mu.Lock()
	p, _ := w.(point)
	if t := s.targets[p]; t != nil {
		if t.count--; t.count == 0 {
			delete(s.targets, p)
		}
	}
	var closing *table.Table
	if !s.serving && len(s.targets) == 0 {
		closing, s.table = s.table, nil
	}
	s.mu.Unlock()
	if closing != nil {
		closing.Close()
	}
}

// open opens the table, and takes down what is mounted.
func (s *Source) open() error {
	if s.table != nil {
		return nil
	}
	t, err := table.Open()
	if err != nil {
		return err
	}
	points, err := t.Points()
	if err != nil {
		t.Close()
		return err
	}
	s.table, s.last = t, points
	signal(s.opened)
	return nil
}

// signal sends on a channel of one item without waiting.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Events implements sources.Source. The events come on the goroutine of the subscriber.
func (s *Source) Events() streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		s.mu.Lock()
		if s.serving {
			s.mu.Unlock()
			return errors.New("the events of the mounts source are already subscribed to")
		}
		s.serving = true
		s.mu.Unlock()
		defer s.forget()
		for {
			s.mu.Lock()
			t := s.table
			s.mu.Unlock()
			if t != nil {
				return s.serve(ctx, t, emit)
			}
			select {
			case <-s.opened:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// forget closes everything when the subscription has ended.
func (s *Source) forget() {
	s.mu.Lock()
	t, waiting := s.table, s.flushes
	s.table, s.flushes, s.serving = nil, nil, false
	clear(s.targets)
	s.mu.Unlock()
	if t != nil {
		t.Close()
	}
	for _, done := range waiting {
		close(done)
	}
	select {
	case <-s.opened:
	default:
	}
}

// serve emits the changes of t until ctx is done or nobody wants any more. After a look at
// the table it rests ten times as long as that took, so that a storm of mounts costs a
// bounded share of the time; who flushes need not wait for that.
func (s *Source) serve(ctx context.Context, t *table.Table, emit func(sources.Event) bool) error {
	changed, ended := make(chan struct{}, 1), make(chan error, 1)
	var waiter sync.WaitGroup
	waiter.Go(func() { ended <- t.Wait(func() bool { signal(changed); return false }) })
	defer waiter.Wait()
	defer t.Close()
	var resting <-chan time.Time
	for {
		due := changed
		if resting != nil {
			due = nil
		}
		select {
		case <-due:
		case <-s.wake:
		case <-resting:
			resting = nil
			continue
		case err := <-ended:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		start := time.Now()
		more, err := s.deliver(t, emit)
		if err != nil || !more {
			return err
		}
		resting = time.After(10 * time.Since(start))
	}
}

// deliver looks for changes, emits them, and lets those go who wait for that.
func (s *Source) deliver(t *table.Table, emit func(sources.Event) bool) (more bool, err error) {
	s.mu.Lock()
	waiting := s.flushes
	s.flushes = nil
	var fired []sources.Event
	if t.Changed() {
		now, err := t.Points()
		if err != nil {
			s.mu.Unlock()
			return false, err
		}
		points := table.Differing(s.last, now)
		if fired = s.fire(points); len(points) == 0 {
			// Something was unmounted and something equal mounted, which the table can't tell.
			fired = []sources.Event{{Source: Name, What: "mount"}}
		}
		s.last = now
	}
	s.mu.Unlock()
	defer func() {
		for _, done := range waiting {
			close(done)
		}
	}()
	for _, e := range fired {
		if !emit(e) {
			return false, nil
		}
	}
	return true, nil
}

// fire returns an event for each watch of one of the points, or of something below it.
func (s *Source) fire(points []string) []sources.Event {
	changed := make(map[string]bool, len(points))
	for _, p := range points {
		changed[p] = true
	}
	hit := func(path string) bool {
		for ; ; path = filepath.Dir(path) {
			if changed[path] || path == "/" {
				return changed[path]
			}
		}
	}
	var events []sources.Event
	for p, t := range s.targets {
		if hit(t.real) || t.real != string(p) && hit(string(p)) {
			events = append(events, sources.Event{Source: Name, Watch: p, What: "mount"})
		}
	}
	return events
}

// Flush implements sources.Flusher: the table is up to date when a call that mounts returns.
func (s *Source) Flush(ctx context.Context) error {
	s.mu.Lock()
	if s.table == nil {
		s.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	s.flushes = append(s.flushes, done)
	s.mu.Unlock()
	signal(s.wake)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
