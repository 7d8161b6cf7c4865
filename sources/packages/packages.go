// Package packages observes which packages are installed, and which could be.
//
// Where there is dpkg it watches the folder of the database: dpkg replaces the file
// status there whenever it has changed something, before it exits, whoever has called
// it. The source compares the file with what it was and wakes only those whose package
// has changed. Elsewhere it listens to the signals of PackageKit on the system bus, which
// say only that something has changed, perhaps seconds later, and only of what was done
// by means of PackageKit or the package manager that it knows of.
package packages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/packages/dpkg"
	"github.com/mgmtproject/mgmt/streams"
)

// Name is the name of the source.
const Name = "packages"

type watch struct {
	what string // any, named or offers
	name string
}

const (
	anyPackage = "any"
	named      = "named"
	offers     = "offers"
)

// Any returns the watch that fires when some package was installed, removed or changed.
func Any() sources.Watch { return watch{what: anyPackage} }

// Named returns the watch that fires when the package of that name was installed,
// removed or changed, of whatever architecture. An architecture after a colon is left out.
func Named(name string) sources.Watch {
	name, _, _ = strings.Cut(name, ":")
	return watch{named, name}
}

// Offers returns the watch that fires when the lists of what can be installed were
// refreshed.
func Offers() sources.Watch { return watch{what: offers} }

// Source implements sources.Watch.
func (watch) Source() string { return Name }

// String implements sources.Watch.
func (w watch) String() string {
	switch w.what {
	case named:
		return w.name
	case anyPackage:
		return "any package"
	}
	return "package lists"
}

// Options of a Source. The zero value works.
type Options struct {
	// Log is told what a user should know. Nil discards.
	Log *slog.Logger

	// Dpkg is the folder of dpkg's database. Empty stands for dpkg.Dir.
	Dpkg string

	// Lists is the folder of apt's lists. Empty stands for /var/lib/apt/lists.
	Lists string
}

// Source serves Any, Named and Offers. It has one inotify instance, or one connection to
// the system bus where a watch needs it, from the first Add on.
type Source struct {
	opts Options
	wake chan struct{}

	mu       sync.Mutex
	counts   map[watch]int
	notifier *dpkg.Notifier
	seen     *dpkg.Snapshot // what the watches were last told of; nil without dpkg
	pending  pending
	waiters  []chan struct{} // of Flush
	serving  bool
}

// pending is what was noticed and not yet emitted.
type pending struct {
	database bool
	lists    bool
	lost     string
}

var (
	_ sources.Source  = (*Source)(nil)
	_ sources.Flusher = (*Source)(nil)
)

// New returns a source that has nothing open until the first Add.
func New(opts Options) *Source {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Dpkg == "" {
		opts.Dpkg = dpkg.Dir
	}
	if opts.Lists == "" {
		opts.Lists = "/var/lib/apt/lists"
	}
	return &Source{opts: opts, wake: make(chan struct{}, 1), counts: map[watch]int{}}
}

// Name implements sources.Source.
func (s *Source) Name() string { return Name }

// Add implements sources.Source. It fails for a watch of another package, and when the
// kernel gives no inotify instance. Where nothing can tell of packages, neither dpkg nor
// PackageKit, the watch is accepted and quiet until PackageKit comes.
func (s *Source) Add(w sources.Watch) error {
	our, ok := w.(watch)
	if !ok {
		return fmt.Errorf("%T is not a watch of the source %s", w, Name)
	}
	if our.what == named && our.name == "" {
		return errors.New("a package has a name")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notifier == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	s.counts[our]++
	s.signal()
	return nil
}

// open begins to watch, and then looks at what there is.
func (s *Source) open() error {
	n, err := dpkg.NewNotifier()
	if err != nil {
		return err
	}
	err = n.Add(s.opts.Dpkg, unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	if err == nil {
		s.seen, err = dpkg.Read(s.opts.Dpkg)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.Close()
		return fmt.Errorf("watching the package database: %w", err)
	}
	err = n.Add(s.opts.Lists, unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_ONLYDIR)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.Close()
		return err
	}
	s.notifier = n
	return nil
}

// Remove implements sources.Source. The instance stays open until Events ends, or, if
// that isn't subscribed, until nothing is watched.
func (s *Source) Remove(w sources.Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	our, _ := w.(watch)
	if s.counts[our]--; s.counts[our] <= 0 {
		delete(s.counts, our)
	}
	if len(s.counts) == 0 && !s.serving {
		s.close()
	}
}

func (s *Source) close() {
	if s.notifier != nil {
		s.notifier.Close()
	}
	s.notifier, s.seen, s.pending = nil, nil, pending{}
	clear(s.counts)
}

// signal wakes the goroutine of Events.
func (s *Source) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Events implements sources.Source.
func (s *Source) Events() streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		s.mu.Lock()
		if s.serving {
			s.mu.Unlock()
			return errors.New("the events of the source packages are already subscribed to")
		}
		s.serving = true
		s.mu.Unlock()
		ctx, cancel := context.WithCancel(ctx)
		var helpers sync.WaitGroup
		defer func() {
			cancel()
			s.mu.Lock()
			s.serving = false
			s.close()
			waiters := s.waiters
			s.waiters = nil
			s.mu.Unlock()
			for _, w := range waiters {
				close(w)
			}
			helpers.Wait()
		}()
		return s.serve(ctx, &helpers, emit)
	})
}

// serve emits what is noticed until ctx is done. What it starts joins helpers.
func (s *Source) serve(ctx context.Context, helpers *sync.WaitGroup, emit func(sources.Event) bool) error {
	var reading *dpkg.Notifier
	listening := false
	for {
		s.mu.Lock()
		if n := s.notifier; n != nil && n != reading {
			reading = n
			helpers.Go(func() { s.read(n) })
		}
		if !listening && s.wantsBus() {
			listening = true
			helpers.Go(func() { s.listen(ctx) })
		}
		events := s.take()
		waiters := s.waiters
		s.waiters = nil
		s.mu.Unlock()
		for _, e := range events {
			if ctx.Err() != nil {
				break
			}
			if !emit(e) {
				return nil
			}
		}
		for _, w := range waiters {
			close(w)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.wake:
		}
	}
}

// read takes what the kernel reports, until the notifier is closed.
func (s *Source) read(n *dpkg.Notifier) {
	for n.Ready() == nil {
		s.mu.Lock()
		s.drain(n)
		s.mu.Unlock()
		s.signal()
	}
}

// drain sorts what is in the kernel's queue.
func (s *Source) drain(n *dpkg.Notifier) {
	for _, notice := range n.Take() {
		switch {
		case notice.Lost:
			s.pending.lost = "overflow"
		case notice.Path == s.opts.Dpkg && notice.Name == "status":
			s.pending.database = true
		case notice.Path == s.opts.Lists && filepath.Ext(notice.Name) != ".tmp":
			s.pending.lists = true
		}
	}
}

// Flush implements sources.Flusher. Signals of PackageKit can't be waited for. If Events is
// only about to be subscribed to it waits for that.
func (s *Source) Flush(ctx context.Context) error {
	s.mu.Lock()
	if s.notifier == nil {
		s.mu.Unlock()
		return nil
	}
	s.drain(s.notifier)
	done := make(chan struct{})
	s.waiters = append(s.waiters, done)
	s.mu.Unlock()
	s.signal()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take turns what is pending into events.
func (s *Source) take() []sources.Event {
	p := s.pending
	s.pending = pending{}
	if p.lost != "" {
		_ = s.look() // who is woken finds out for himself
		return []sources.Event{{Source: Name, What: p.lost}}
	}
	var events []sources.Event
	fire := func(w watch, what string) {
		if s.counts[w] > 0 {
			events = append(events, sources.Event{Source: Name, Watch: w, What: what})
		}
	}
	if p.database {
		before := s.seen
		switch err := s.look(); {
		case err != nil:
			s.opts.Log.Warn("can't read the package database", "err", err)
			return []sources.Event{{Source: Name, What: "unreadable"}}
		case before == nil:
			return []sources.Event{{Source: Name, What: "write"}}
		}
		names := dpkg.Changed(before, s.seen)
		if len(names) > 0 {
			fire(watch{what: anyPackage}, "write")
		}
		for _, name := range names {
			fire(watch{named, name}, "write")
		}
	}
	if p.lists {
		fire(watch{what: offers}, "write")
	}
	return events
}

// look takes the database as it is now for the one that the watches know.
func (s *Source) look() error {
	seen, err := dpkg.Read(s.opts.Dpkg)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		s.seen = seen
	}
	return err
}

// wantsBus reports whether PackageKit has to be listened to: where there is no dpkg.
func (s *Source) wantsBus() bool { return len(s.counts) > 0 && s.seen == nil }
