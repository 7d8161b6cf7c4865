// Package backend is how packages are looked at, installed and removed: through
// PackageKit where the system bus has it, and else through apt itself. Another package
// manager joins by a Backend of its own, in choose.go.
package backend

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"
)

// ErrNone is returned where there is no way to manage packages.
var ErrNone = errors.New("there is no way to manage packages here: neither PackageKit on the system bus (install packagekit and dbus) nor apt-get")

// Allow is what a resource permits beyond what is safe.
type Allow struct {
	Untrusted   bool // what nobody has signed
	NonFree     bool // what is not free software
	Unsupported bool // what the distribution does not support itself
	Downgrade   bool // a version older than the one that is installed
}

// Status is what there is of a package.
type Status struct {
	// Version is the one that is installed, empty if none is.
	Version string

	// Broken is how dpkg calls the state of a package that was left half way, such as
	// "half-configured"; else empty.
	Broken string
}

// Action is a wish for one package.
type Action struct {
	// Name may be followed by a colon and an architecture.
	Name string

	// Remove asks for the package to go; its configuration stays.
	Remove bool

	// Version is the one to install. Empty stands for the one that the package manager
	// prefers.
	Version string

	// Now is what there is.
	Now Status
}

// A Backend is a package manager. Its methods may be called by several at once.
type Backend interface {
	// Name is what messages call it: "apt".
	Name() string

	// Look returns what there is of each package, in the order of names. It changes
	// nothing and does not wait for the lock.
	Look(ctx context.Context, names []string) ([]Status, error)

	// Newest returns for each name the version that the package manager would install,
	// as far as it knows of; empty for a name that it does not know. It changes nothing.
	Newest(ctx context.Context, names []string) ([]string, error)

	// Prepare finds out whether each action can be done and is allowed, so that one that
	// can't does not spoil the transaction of the others. It waits for the lock, and
	// refreshes the lists of packages if a package is not known.
	Prepare(ctx context.Context, actions []Action, allow Allow) []error

	// Apply does all actions in one transaction. It waits for the lock, as long as ctx
	// allows. After an error some may have been done. When ctx is done it ends what can be
	// broken off, and waits for the end of what can't.
	Apply(ctx context.Context, actions []Action, allow Allow) error
}

// Forgetter is a Backend that may believe something of the host that is no longer so, and
// then has nothing to do, as it says.
type Forgetter interface {
	// Forget has it look anew.
	Forget() error
}

// Progress logs how a transaction goes on: each step for debugging, and now and then one
// for people when it takes long.
type Progress struct {
	Log  *slog.Logger
	last string
	next time.Time // when people are told
}

// quiet is how long a transaction may take before people are told how it goes on, and
// then how long until the next line.
const quiet = 10 * time.Second

// Step is told of what is done now, and how much of the whole is done, in per cent, or a
// number below 0.
func (p *Progress) Step(what string, percent float64) {
	what = strings.TrimSpace(what)
	if what == "" || what == p.last {
		return
	}
	p.last = what
	attrs := []any{"step", what}
	if percent >= 0 && percent <= 100 {
		attrs = append(attrs, "percent", int(percent))
	}
	switch now := time.Now(); {
	case p.next.IsZero():
		p.next = now.Add(quiet)
	case now.After(p.next):
		p.next = now.Add(quiet)
		p.Log.Info("still changing packages", attrs...)
		return
	}
	p.Log.Debug("changing packages", attrs...)
}
