package sinks

import (
	"context"
	"io"
	"sync"
)

// Type is the type of a value that a resource sends on. It stands for one Go type, which
// Outcome.Values holds.
type Type string

// The types, and the Go types that they stand for.
const (
	TypeString  Type = "string"  // string
	TypeInt     Type = "int"     // int64
	TypeFloat   Type = "float"   // float64
	TypeBool    Type = "bool"    // bool
	TypeStrings Type = "strings" // []string
	TypeMap     Type = "map"     // map[string]string
)

// Output describes one value that a resource sends on.
type Output struct {
	// Name is what a graph file calls it: "stdout".
	Name string

	// Type is the type of the value.
	Type Type

	// Secret hides the value from everything that prints, wherever it is sent to.
	Secret bool

	// Doc says in a sentence what the value is.
	Doc string
}

// Sender is a Config whose resource sends values on, in Outcome.Values.
type Sender interface {
	Config

	// Outputs describes the values, those that this resource may send. It is called when a
	// graph is compiled, and on a Config with defaults to document the kind.
	Outputs() []Output
}

// Space names what a Fact is about.
type Space string

// The spaces in use. Names are clean absolute paths, but for users, groups, units,
// packages, network interfaces and servers.
const (
	SpaceDir     Space = "dir"     // a directory that is made to exist
	SpaceFile    Space = "file"    // a file that is made to exist, or a symbolic link
	SpaceMount   Space = "mount"   // a file system that is mounted there
	SpaceUser    Space = "user"    // an account, by name
	SpaceGroup   Space = "group"   // a group, by name
	SpaceUnit    Space = "unit"    // a unit of systemd
	SpacePackage Space = "package" // a package, by name
	SpaceOwned   Space = "owned"   // a path that a package brings
	SpaceEdits   Space = "edits"   // a file in which a part is managed, such as a line
	SpaceGone    Space = "gone"    // a path at which nothing is left
	SpaceFreed   Space = "freed"   // a group, by name, of which a user is no longer
	SpaceLink    Space = "link"    // a network interface, by name, as it shall be

	SpaceHTTPServer Space = "http_server" // a server of files, by name
)

// Fact is something that a resource brings about and others may need.
type Fact struct {
	Space Space
	Name  string
}

// Need is a Fact that a resource can't do without, if some resource of the graph
// provides it. What nobody provides is expected to be on the host.
type Need struct {
	Fact

	// Above asks for the nearest proper ancestor of the path Name that is provided in
	// Space, instead of for Name itself.
	Above bool

	// Below asks for all paths below the path Name that are provided in Space, instead of
	// for Name itself.
	Below bool

	// Why says what for, to follow "after": "which holds it", "its owner".
	Why string
}

// Provider is a Resource on which others may automatically depend.
type Provider interface {
	Resource

	// Provides lists what the resource brings about. It is called when a graph is compiled
	// and touches nothing.
	Provides() []Fact
}

// Needer is a Resource that automatically depends on others.
type Needer interface {
	Resource

	// Needs lists what has to be there first. It is called when a graph is compiled and
	// touches nothing.
	Needs() []Need
}

// Grouper is a Resource that can be applied together with others of its kind at less
// expense than one by one. Those that are ready at the same time are.
type Grouper interface {
	Resource

	// Group says with which ones: with those of its kind that return the same. Empty is on
	// its own. It is called when a graph is compiled.
	Group() string

	// CheckApplyGroup is called on one of the members, with all of them, and does for each
	// what CheckApply does. It returns a result for each, in their order. The engine takes
	// care that no member is called elsewhere at the same time.
	CheckApplyGroup(ctx context.Context, apply bool, members []Resource) []GroupResult
}

// GroupResult is what came of one member of a group.
type GroupResult struct {
	Outcome
	Err error
}

// Reverser is a Config whose effect can be undone when the resource leaves the graph.
type Reverser interface {
	Config

	// Reverse returns the desired state that undoes what the resource has done. It is
	// given what the resource found before its first change, by the Field of each Change
	// (the From), and no secrets. It is built with the same name. Nil means that there is
	// nothing to undo; an error, that it can't be undone. With a nil map it is called when
	// a graph is compiled, to find out whether the kind can do it at all with these
	// parameters: only the error counts then.
	Reverse(was map[string]string) (Config, error)
}

// Closer is a Resource that holds something open, such as a listener.
type Closer interface {
	Resource

	// Close is called once, after the last CheckApply: when the resource has left the graph
	// or was changed, before its successor runs for the first time, or when the run ends.
	// It returns within a few seconds.
	io.Closer
}

// Planner is a Resource whose CheckApply does something even when it only checks, such as
// running a command that looks.
type Planner interface {
	Resource

	// Plan is called in place of CheckApply with apply unset, to foretell what a run would
	// do. It runs nothing, unless safe says that what it would run to look has no effect.
	// Refresh says that the resource would be notified.
	Plan(ctx context.Context, safe, refresh bool) (Outcome, error)
}

// Announcer is a Resource that calls BeforeChange right before it begins to change
// something. The engine checks any other one first, to know the same.
type Announcer interface {
	Resource

	// Announces does nothing.
	Announces()
}

type beforeChangeKey struct{}

// WithBeforeChange returns a context that carries f for BeforeChange.
func WithBeforeChange(ctx context.Context, f func() error) context.Context {
	return context.WithValue(ctx, beforeChangeKey{}, f)
}

// BeforeChange is called by an Announcer right before it changes something: the engine
// notes durably what follows from that. With an error nothing may be changed.
func BeforeChange(ctx context.Context) error {
	if f, ok := ctx.Value(beforeChangeKey{}).(func() error); ok {
		return f()
	}
	return nil
}

// Shared holds what the resources of one run share, such as a server that others serve
// files through. The zero value is ready.
type Shared struct{ values sync.Map }

// Value returns what is shared under a key, which has a type of its own so that packages
// don't collide, and makes it if it is not there.
func (s *Shared) Value(key any, make func() any) any {
	if v, ok := s.values.Load(key); ok {
		return v
	}
	v, _ := s.values.LoadOrStore(key, make())
	return v
}
