package pipeline

import (
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// Kind says what a Result tells.
type Kind string

// The kinds of results, and which fields of a Result they use beside Kind and Time.
const (
	GraphSwapped  Kind = "graph"     // Graph is in force; Swap
	GraphRejected Kind = "rejected"  // Err: why an update changes nothing
	Woken         Kind = "event"     // Vertex, Cause, Event: an event reached a resource (only with Trace)
	Started       Kind = "start"     // Vertex, Cause, Refresh: a CheckApply begins (only with Trace)
	Finished      Kind = "end"       // Vertex, Cause, Refresh, Outcome, Noop, Err, WillRetry, RetryAfter, Took, Left
	Blocked       Kind = "blocked"   // Vertex, By: it has to run, but its ancestor By has failed
	Waiting       Kind = "waiting"   // Vertex, By, Output: it has to run, but By has not sent it Output
	Flapping      Kind = "flapping"  // Vertex, Cause, Count, RetryAfter: something keeps undoing it
	Steady        Kind = "steady"    // Vertex: it is not flapping any more
	SwapDelayed   Kind = "delayed"   // Vertex: an update waits until it has run, by meta.realize
	Converged     Kind = "converged" // nothing has been pending for the timeout
	Answered      Kind = "answered"  // Count: the Ask of an Update
)

// Result is one thing that happened in a run. See Kind for the fields in use.
type Result struct {
	Kind Kind

	// Time is when it happened; for Finished, when the CheckApply began.
	Time time.Time

	Vertex  *Vertex
	Cause   Cause
	Event   sources.Event
	Refresh bool // a notification was pending

	// Outcome of a Finished: what was changed or, with Noop, what would have been.
	Outcome sinks.Outcome
	Noop    bool

	// Err is the failure, without the resource's name: Failure has it. After
	// RetryAfter the resource is tried again if WillRetry says so.
	Err        error
	WillRetry  bool
	RetryAfter time.Duration
	Took       time.Duration

	// Left says that the resource left the graph, or was changed, while it ran: what
	// came of it counts for nothing.
	Left bool

	// Batch is how many resources a Finished one was applied together with, itself
	// included; 0 for one that was applied by itself.
	Batch int

	// Count is how often a Flapping one was repaired within the window, RetryAfter how
	// long it is left alone. For Answered it is the Ask of the Update.
	Count int

	By     *Vertex
	Output string
	Graph  *Graph
	Swap   Swap
}

// Failure is Err with the name of the resource before it, as people are shown it:
// "file[/etc/motd]: open /etc/motd: permission denied".
func (r Result) Failure() error {
	if r.Err == nil || r.Vertex == nil {
		return r.Err
	}
	return fmt.Errorf("%s: %w", r.Vertex, r.Err)
}

// Swap counts what a swap did to the resources.
type Swap struct{ Added, Changed, Removed, Kept int }

// Cause says why a resource ran: the last of perhaps several reasons.
type Cause struct {
	// Kind is "swap" (new or changed in the graph), "event", "predecessor", "retry" or
	// "resync".
	Kind string

	// Watch is what fired, for an event; nil if its Source lost track of all it watches.
	Watch  sources.Watch
	Source string

	// Vertex is the predecessor that changed something or recovered.
	Vertex *Vertex
}

// String is the cause as logs show it: "event inotify /etc/motd".
func (c Cause) String() string {
	switch {
	case c.Vertex != nil:
		return c.Kind + " " + c.Vertex.String()
	case c.Watch != nil:
		return c.Kind + " " + c.Source + " " + c.Watch.String()
	case c.Source != "":
		return c.Kind + " " + c.Source + " all"
	}
	return c.Kind
}
