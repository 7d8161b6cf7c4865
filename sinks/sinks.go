// Package sinks defines what a resource is: a part of the host with a desired state
// that can be checked and applied. Each kind lives in its own package below this one
// and is listed in package all.
package sinks

import (
	"context"
	"log/slog"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// Spec describes one kind of resource. It is a plain value: a program supports the
// kinds whose Specs it lists.
type Spec struct {
	// Kind is the name in a graph file and the first part of file[/etc/motd].
	Kind string

	// New returns a pointer to a Config that holds the defaults of the kind.
	New func() Config
}

// Config is the desired state of one resource: a pointer to a struct whose exported
// fields are the parameters, as package params describes. Two Configs stand for the
// same desired state when reflect.DeepEqual says so, so what changes while a resource
// runs belongs in the Resource.
type Config interface {
	// Build checks the parameters and returns the resource. It is called when a graph
	// is compiled, for every resource of the graph, perhaps of a graph that is never
	// run: it touches nothing on the host, starts nothing and keeps no reference to
	// the Config that it later changes. Its error needs no resource name and no
	// position: "path "motd" is not absolute". A *ParamError names the parameter.
	Build(name string, opts Options) (Resource, error)
}

// ParamError is an error of Build that concerns one parameter, so that the graph
// file's reader can point at its line.
type ParamError struct {
	Param string // as in the graph file
	Err   error
}

// Error implements error.
func (e *ParamError) Error() string { return e.Param + ": " + e.Err.Error() }

// Unwrap gives the cause to errors.Is and errors.As.
func (e *ParamError) Unwrap() error { return e.Err }

// Options are handed to Build by the engine. The zero value works.
type Options struct {
	// Log is where the resource logs; nil discards. Use Logger to get at it.
	Log *slog.Logger

	// Ref is the resource as users write it, file[/etc/motd]; empty outside an engine.
	Ref string

	// Shared is what the resources of a run share; nil is shared by the whole process.
	Shared *Shared

	// Dir is the directory in which kinds keep what has to survive a restart, each below
	// its own name. It may not exist yet. Empty means that there is no such place: what
	// needs one fails when it runs, not when it is built.
	Dir string

	// Mesh is what this host shares with others; nil in a run that has no mesh. It is reached
	// when it is first used.
	Mesh mesh.Store

	// Sends lists the outputs that somebody receives, in alphabetical order. A resource
	// need not send others, so that a value that nobody wants costs nothing.
	Sends []string
}

// everybody is shared by resources that were built without Options.Shared.
var everybody Shared

// Space returns Shared, or what the whole process shares.
func (o Options) Space() *Shared {
	if o.Shared == nil {
		return &everybody
	}
	return o.Shared
}

// Logger returns a logger that carries the resource, never nil. It is made on demand,
// so that resources that never log cost nothing.
func (o Options) Logger() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	if o.Ref == "" {
		return o.Log
	}
	return o.Log.With("res", o.Ref)
}

// Resource keeps one part of the host in its desired state.
type Resource interface {
	// Watches declares what wakes the resource. It is called once, before the first
	// CheckApply, and again after a watch has failed or the outcome of a CheckApply asks
	// for it. Nil is right for a resource that acts only when what it depends on has
	// changed.
	Watches() []sources.Watch

	// CheckApply compares the state with what is desired and, if they differ and apply
	// is set, makes them equal. With apply unset it changes nothing at all. The engine
	// calls it from one goroutine at a time, beside those of other resources, and
	// again after every event: it must be cheap when nothing is wrong. When ctx is
	// done it returns soon, with an error, and leaves nothing half done behind.
	CheckApply(ctx context.Context, apply bool) (Outcome, error)
}

// Outcome is what a CheckApply found. The zero value says that all was right.
type Outcome struct {
	// Changed says that the state was not as desired: it is now, if apply was set. It
	// may be true beside an error, when a part was done before the failure.
	Changed bool

	// Changes lists the differences, in a sensible order for reading. It may be
	// empty although Changed is true (a command ran).
	Changes []Change

	// Values are what the resource sends on, by output name: all that it knows, whether
	// changed or not, as the Outputs of a Sender describe them. The engine owns them from
	// then on.
	Values map[string]any

	// Rewatch asks for Watches to be called again, since the resource now wants to watch
	// something else, or to begin anew.
	Rewatch bool
}

// Refresher is a resource that does something more when it is notified: a service
// reloads, a command runs again.
type Refresher interface {
	Resource

	// Refresh is called in place of CheckApply when a notification is pending. It does
	// what CheckApply does and, beyond it, what a notification asks for. The
	// notification is kept until Refresh has succeeded.
	Refresh(ctx context.Context, apply bool) (Outcome, error)
}

// Owner is a resource that must be the only one to manage something.
type Owner interface {
	// Owns names what it manages, qualified: "path /etc/motd", "unit nginx.service".
	// It is called when a graph is compiled and touches nothing.
	Owns() []string
}

// Waiter is a resource whose CheckApply mostly waits for something outside this
// process, such as a command: it does not take one of the workers that are sized for
// work in this process.
type Waiter interface {
	// Waits is called when a graph is compiled.
	Waits() bool
}

// Actor is a resource that has no state which could drift: CheckApply acts every time
// it is called (an unguarded command, a message). A resync leaves it alone.
type Actor interface {
	// Acts is called when a graph is compiled.
	Acts() bool
}
