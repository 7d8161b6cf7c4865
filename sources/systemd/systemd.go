// Package systemd is the source of what happens to units of systemd and to other
// services on D-Bus: of the system, and of the user who runs the process. All watches of
// a bus share one connection and one subscription, which package bus holds and kinds of
// resources use for their calls.
//
// Whenever something may have been missed, all watches of the bus fire at once: when the
// bus or systemd was restarted, when it appears that was missing, after a daemon-reload,
// and when unit files were enabled, disabled or masked. Signals that repeat a state that
// was told already are left out.
package systemd

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// Name is the name of the source.
const Name = "systemd"

// watch is what all functions below return.
type watch struct {
	session bool
	service string // "" for a unit
	name    string // of a unit, or the path of an object
	own     bool   // leave out what jobs of this process bring about
}

// Unit watches a unit of the system's systemd, such as nginx.service, whether it exists
// or not: it fires when its state changes.
func Unit(name string) sources.Watch { return watch{name: name} }

// UserUnit watches a unit of the user's systemd as Unit does.
func UserUnit(name string) sources.Watch { return watch{session: true, name: name} }

// Managed watches a unit as Unit does, but for what jobs of this process bring about
// while they run: that is for who starts and stops it, through package bus, and looks at
// it afterwards anyway.
func Managed(name string, session bool) sources.Watch {
	return watch{session: session, name: name, own: true}
}

// Object watches an object of a service on the bus of the system, such as
// /org/freedesktop/hostname1 of org.freedesktop.hostname1: it fires at each of its
// signals, a change of a property above all. That a service comes or goes is no event,
// and it isn't started.
func Object(service, path string) sources.Watch { return watch{service: service, name: path} }

// Source implements sources.Watch.
func (watch) Source() string { return Name }

// String is the unit, or the object.
func (w watch) String() string {
	text := w.name
	if w.service != "" {
		text = w.service + " " + w.name
	}
	if w.session {
		text += " (user)"
	}
	return text
}

// check says why a watch can't be served.
func (w watch) check() error {
	switch {
	case w.service == "" && (w.name == "" || strings.ContainsAny(w.name, "/ \x00")):
		return fmt.Errorf("%q is not the name of a unit", w.name)
	case w.service != "" && (!dbus.ObjectPath(w.name).IsValid() || strings.ContainsAny(w.service, "' ,")):
		return fmt.Errorf("%q of %q is not an object on a bus", w.name, w.service)
	}
	return nil
}

// bus is the one that the watch is served by.
func (w watch) bus() *bus.Bus { return bus.Of(w.session) }

// paths are the objects whose signals are about the watch.
func (w watch) paths() []dbus.ObjectPath {
	if w.service != "" {
		return []dbus.ObjectPath{dbus.ObjectPath(w.name)}
	}
	paths := []dbus.ObjectPath{bus.UnitPath(w.name)}
	if primary := bus.Primary(w.name, w.session); primary != w.name {
		paths = append(paths, bus.UnitPath(primary))
	}
	return paths
}

// Source serves the watches of this package. A bus that can't be reached is no error: its
// watches fire when it can. After the subscription of Events has ended it has forgotten
// its watches and can be used anew.
type Source struct {
	wake   chan struct{} // holds one item when there is something to emit
	adding sync.Mutex    // held by Add and Remove

	mu      sync.Mutex
	watches map[watch]*target
	buses   [2]side // of the system, of the user
	pending []*target
	flushes []chan struct{} // closed when all that was pending has been emitted
}

// side is what the source has of one bus.
type side struct {
	paths map[dbus.ObjectPath][]*target
	count int    // watches
	lost  string // why all of them are suspect, "" if they aren't
	stop  func() // ends listening; nil when nothing is watched
}

// target is a watch that somebody has added.
type target struct {
	watch watch
	paths []dbus.ObjectPath
	count int
	stamp uint64 // of the last state that was told
	what  string // "" while nothing is pending
}

var (
	_ sources.Source  = (*Source)(nil)
	_ sources.Flusher = (*Source)(nil)
)

// New returns a source that has nothing open until the first Add.
func New() *Source {
	return &Source{wake: make(chan struct{}, 1), watches: make(map[watch]*target)}
}

// Name implements sources.Source.
func (s *Source) Name() string { return Name }

// Add implements sources.Source. It fails only for what isn't a watch of this package.
func (s *Source) Add(added sources.Watch) error {
	w, ok := added.(watch)
	if !ok {
		return fmt.Errorf("%T is not a watch of the source %s", added, Name)
	}
	if err := w.check(); err != nil {
		return err
	}
	s.adding.Lock()
	defer s.adding.Unlock()
	if s.count(w) {
		return nil
	}
	ctx := context.Background()
	if w.service != "" {
		w.bus().Match(ctx, w.service, dbus.ObjectPath(w.name))
	} else {
		w.bus().WatchUnits(ctx)
	}
	return nil
}

// count notes that w was added, and reports whether it was there already.
func (s *Source) count(w watch) bool {
	paths := w.paths()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.watches[w]; t != nil {
		t.count++
		return true
	}
	b := s.side(w)
	if b.stop == nil {
		b.paths = make(map[dbus.ObjectPath][]*target)
		b.stop = w.bus().Listen(&listener{s, b})
	}
	t := &target{watch: w, count: 1}
	s.watches[w] = t
	b.count++
	b.place(t, paths)
	return false
}

func (s *Source) side(w watch) *side {
	if w.session {
		return &s.buses[1]
	}
	return &s.buses[0]
}
