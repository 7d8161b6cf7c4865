// Package sources says how the outside world reaches the engine. A resource declares
// what it watches as plain data, a Watch; a Source serves all watches of its sort over
// one system interface and says "look again" when one of them may have changed.
package sources

import (
	"context"
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/streams"
)

// A Watch declares something that can change. Its dynamic type is comparable, and
// equal watches are the same watch: a Source serves them once.
type Watch interface {
	// Source is the name of the source that serves the watch.
	Source() string

	// String is the watch as logs and the event stream show it, without the source:
	// "/etc/motd", "every 5s".
	String() string
}

// An Event says that something may have changed. It never says what the state is now:
// whoever is woken reads the world.
type Event struct {
	// Source is the name of the source that emits it.
	Source string

	// Watch is what fired. Nil stands for every watch of the source: it has lost
	// track (an overflow, a reconnect, a remount) and all that it covers is suspect.
	Watch Watch

	// What happened, in a word or two for logs: "write", "delete", "overflow", "tick".
	What string

	// Err tells that the watch has failed and is no longer served. Whoever declared
	// it may Remove it and Add it again.
	Err error
}

// String is the event as a log shows it: "inotify /etc/motd write".
func (e Event) String() string {
	w := "all"
	if e.Watch != nil {
		w = e.Watch.String()
	}
	if e.Err != nil {
		return fmt.Sprintf("%s %s failed: %v", e.Source, w, e.Err)
	}
	return fmt.Sprintf("%s %s %s", e.Source, w, e.What)
}

// A Source serves any number of watches over one instance of a system interface.
//
// Add and Remove may be called from any goroutine, before and while Events is
// subscribed, and also by the goroutine that consumes the events: so a source never
// holds a lock that they need while it emits. It opens what it needs on the first Add.
type Source interface {
	// Name is what Watch.Source of its watches returns.
	Name() string

	// Events emits until its subscription is cancelled, which closes everything
	// that the source has opened. It is subscribed once. An error ends the run, so
	// it is for faults that no retry can mend; a watch that fails is an Event.
	Events() streams.Observable[Event]

	// Add begins to serve w. Every change that happens after it has returned leads to
	// an event, even if Events is subscribed later. Equal watches are counted. The
	// error says why this watch can't be served, and then it is not counted.
	Add(w Watch) error

	// Remove ends what one Add began. Events that are already on their way may still come.
	Remove(w Watch)
}

// A Flusher is a Source behind whose back events can queue, such as inotify.
type Flusher interface {
	Source

	// Flush returns when every change made before the call has been emitted, or ctx is
	// done. It is called while Events is subscribed, and not by its consumer.
	Flush(ctx context.Context) error
}

// Interval is the watch that fires each Every, served by the source "timer". It stands
// in this package because polling (meta.poll) is asked for by the engine itself.
type Interval struct {
	// Every is the time between two events. It is positive.
	Every time.Duration

	// ID tells intervals of the same length apart which shall not share their phase.
	ID string
}

// Source implements Watch.
func (Interval) Source() string { return "timer" }

// String implements Watch.
func (i Interval) String() string { return "every " + i.Every.String() }

// Observe serves watches with source for as long as the result is subscribed: the way
// to use a source without the engine. The source must not be in use elsewhere.
func Observe(source Source, watches ...Watch) streams.Observable[Event] {
	return streams.New(func(ctx context.Context, emit func(Event) bool) error {
		for i, w := range watches {
			if err := source.Add(w); err != nil {
				for _, w := range watches[:i] {
					source.Remove(w)
				}
				return fmt.Errorf("watching %s: %w", w, err)
			}
		}
		defer func() {
			for _, w := range watches {
				source.Remove(w)
			}
		}()
		return source.Events().Subscribe(ctx, emit)
	})
}
