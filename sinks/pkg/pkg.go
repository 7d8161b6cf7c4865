// Package pkg manages packages of the operating system: that one is installed, in which
// version, or that it is not.
package pkg

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/pkg/backend"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/packages"
)

// Spec is the kind "pkg".
var Spec = sinks.Spec{Kind: "pkg", New: func() sinks.Config { return &Config{State: installed} }}

// Config is the desired state of a package. The resource's name is that of the package,
// which may be followed by a colon and an architecture: "libc6:i386".
//
// Packages are changed through PackageKit where the system bus has it and can start it, and
// else by apt itself, which needs root. Where there is neither the resource fails, and tries
// again when it is retried or at the next resync. All that are ready at the same time are
// one transaction; if that fails they are changed one by one, so that only those fail that
// can't be. While another process holds the lock of the package manager the resource waits,
// and says so. What is installed is read from the database of dpkg where there is one; a
// package that is removed by somebody else is noticed at once. To install something nothing
// else is removed, unless a package to be uninstalled is part of the same transaction. Files
// of configuration that were edited are kept.
//
// The lists of what can be installed are refreshed only if they do not know a package or are
// too old to fetch it. What is newest is what they say. Whoever refreshes them, such as the
// timer apt-daily, wakes the resource, also if it has failed for want of a package.
type Config struct {
	// State is "installed", in whatever version; "uninstalled", where the configuration
	// stays; "newest", the version that the package manager prefers; or a version, such
	// as "1.22.1-9", which is kept exactly.
	State string `param:"state"`

	// AllowUntrusted permits a package that nobody has signed, or whose signature can't
	// be checked.
	AllowUntrusted bool `param:"allowuntrusted"`

	// AllowNonFree permits a package that is not free software or needs some that is not,
	// as those of contrib and non-free.
	AllowNonFree bool `param:"allownonfree"`

	// AllowUnsupported permits a package that the distribution does not support itself,
	// as those from an archive of somebody else.
	AllowUnsupported bool `param:"allowunsupported"`

	// AllowDowngrade permits to replace a version by an older one.
	AllowDowngrade bool `param:"allowdowngrade"`
}

const (
	installed   = "installed"
	uninstalled = "uninstalled"
	newest      = "newest"
)

// What names and versions are made of. None can be taken for an option, a pattern or two.
var (
	goodName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._-]*(:[a-z0-9-]+)?$`)
	goodVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+:~^_-]*$`)
)

// pkg is a resource of this kind.
type pkg struct {
	name  string
	state string
	allow backend.Allow
	opts  sinks.Options
}

var (
	_ sinks.Owner  = (*pkg)(nil)
	_ sinks.Waiter = (*pkg)(nil)
)

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	if !goodName.MatchString(name) {
		return nil, fmt.Errorf("%q is no name of a package: it has letters, digits and + - . _, and perhaps a colon and an architecture", name)
	}
	state := c.State
	if state == "" {
		state = installed
	}
	switch state {
	case installed, uninstalled, newest:
	default:
		if !goodVersion.MatchString(state) || !strings.ContainsAny(state, "0123456789") {
			return nil, &sinks.ParamError{Param: "state", Err: fmt.Errorf("%q is none of installed, uninstalled and newest, and no version", c.State)}
		}
	}
	if state == uninstalled && (c.AllowUntrusted || c.AllowNonFree || c.AllowUnsupported || c.AllowDowngrade) {
		return nil, &sinks.ParamError{Param: "state", Err: errors.New("to uninstall a package nothing has to be allowed: leave out what begins with allow")}
	}
	return &pkg{name: name, state: state, opts: opts, allow: backend.Allow{
		Untrusted: c.AllowUntrusted, NonFree: c.AllowNonFree, Unsupported: c.AllowUnsupported, Downgrade: c.AllowDowngrade,
	}}, nil
}

// Owns implements sinks.Owner.
func (p *pkg) Owns() []string { return []string{"package " + p.name} }

// Waits implements sinks.Waiter: for the package manager.
func (p *pkg) Waits() bool { return true }

// Watches implements sinks.Resource.
func (p *pkg) Watches() []sources.Watch {
	watches := []sources.Watch{packages.Named(p.name)}
	if p.state != uninstalled { // there may be a newer one, or one at last
		watches = append(watches, packages.Offers())
	}
	return watches
}

// CheckApply implements sinks.Resource.
func (p *pkg) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	result := p.CheckApplyGroup(ctx, apply, []sinks.Resource{p})[0]
	return result.Outcome, result.Err
}

// wish is what has to be done to get from now to the desired state, and whether there is
// anything. The newest version is given for a resource that wants it.
func (p *pkg) wish(now backend.Status, offered string) (backend.Action, bool) {
	act := backend.Action{Name: p.name, Now: now}
	switch p.state {
	case uninstalled:
		act.Remove = true
	case installed:
	case newest:
		act.Version = offered // nothing, if it is not known
	default:
		act.Version = p.state
	}
	return act, !reached(act, now)
}

// reached reports whether an action has nothing more to do.
func reached(act backend.Action, now backend.Status) bool {
	switch {
	case now.Broken != "":
		return false
	case act.Remove:
		return now.Version == ""
	case act.Version != "":
		return now.Version == act.Version
	}
	return now.Version != ""
}

// change is the difference that an action makes.
func (p *pkg) change(act backend.Action) sinks.Change {
	c := sinks.Change{Field: "state", From: act.Now.Version, To: p.state}
	switch {
	case act.Now.Broken != "":
		c.From = act.Now.Broken
	case act.Now.Version == "":
		c.From = uninstalled
	}
	if act.Version != "" {
		c.To = act.Version
	}
	return c
}
