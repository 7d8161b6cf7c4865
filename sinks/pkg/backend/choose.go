package backend

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mgmtproject/mgmt/sources/packages/dpkg"
)

// Names of the backends.
const (
	Apt        = "apt"
	PackageKit = "PackageKit"
)

// Options say how packages are managed. The zero value works.
type Options struct {
	// Log is told of transactions. Nil discards.
	Log *slog.Logger

	// Shared is what all transactions of a process have to know of each other. Nil is for
	// a single one.
	Shared *Shared

	// Only names the backend, whether or not there is a better one. Empty chooses.
	Only string

	// NoDatabase has PackageKit asked what is installed, even where dpkg's database could
	// be read.
	NoDatabase bool
}

func (o Options) filled() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Shared == nil {
		o.Shared = NewShared()
	}
	return o
}

// Shared is what the transactions of a process share: they run one after the other, and
// the lists of packages are not refreshed for each of them.
type Shared struct {
	turn      chan struct{} // holds an item while nobody works
	refreshed time.Time     // when the lists were; of who has the turn
}

// NewShared returns what no transaction has used yet.
func NewShared() *Shared {
	s := &Shared{turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// take waits until no other transaction of this process is at work; the function that it
// returns ends the turn.
func (s *Shared) take(ctx context.Context) (release func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-s.turn:
		return func() { s.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// refreshEvery is how old the lists have to be to be refreshed for want of a package.
const refreshEvery = 10 * time.Minute

// refresh has do refresh the lists, after somebody who asked has not found a package in
// them. It does not if that was done a short while ago and no other archives have been
// configured since. It reports whether the lists are newer than asked, so that it is worth
// while to ask again, be it that somebody else has done it. The caller doesn't have the turn.
func (s *Shared) refresh(ctx context.Context, asked time.Time, do func() error) (newer bool, err error) {
	release, err := s.take(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	if s.refreshed.After(asked) {
		return true, nil
	}
	return s.renew(do)
}

// renew is refresh for who has the turn.
func (s *Shared) renew(do func() error) (newer bool, err error) {
	if !s.due() {
		return false, nil
	}
	err = do()
	s.refreshed = time.Now() // an archive that can't be reached is not asked again and again
	return err == nil, err
}

// due says whether the lists are to be refreshed for want of a package.
func (s *Shared) due() bool {
	if time.Since(s.refreshed) > refreshEvery {
		return true
	}
	for _, path := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/apt/sources.list.d/*", "/etc/yum.repos.d", "/etc/yum.repos.d/*"} {
		files, _ := filepath.Glob(path) // the patterns are sound
		for _, file := range files {
			if info, err := os.Stat(file); err == nil && info.ModTime().After(s.refreshed) {
				return true
			}
		}
	}
	return false
}

// HasDpkg reports whether dpkg keeps the packages of this host.
func HasDpkg() bool {
	_, err := os.Stat(filepath.Join(dpkg.Dir, "status"))
	return err == nil
}

func hasApt() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil && HasDpkg()
}

// ForLooking returns the backend that knows what is installed at the least expense: where
// there is dpkg nothing need be asked. The error is ErrNone if there is none.
func ForLooking(ctx context.Context, o Options) (Backend, error) {
	if o.Only == "" && hasApt() {
		return newApt(o.filled()), nil
	}
	return ForChanging(ctx, o)
}

// ForChanging returns the backend that changes packages: PackageKit if the system bus has
// it or can start it, so that others hear of the change, and else apt. The error is
// ErrNone if there is neither.
func ForChanging(ctx context.Context, o Options) (Backend, error) {
	o = o.filled()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	switch {
	case o.Only == Apt && hasApt():
		return newApt(o), nil
	case o.Only == Apt:
		return nil, ErrNone
	case o.Only == PackageKit:
		return newPackageKit(o), nil
	}
	there, err := findPackageKit(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == nil:
		return newPackageKit(o), nil
	case hasApt():
		level := slog.LevelDebug
		if there {
			level = slog.LevelWarn
		}
		o.Log.Log(ctx, level, "packages are managed by apt itself", "because", err)
		return newApt(o), nil
	case there:
		return nil, err
	}
	return nil, ErrNone
}
