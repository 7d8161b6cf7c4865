package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/instance"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/pipeline/state"
)

// directory is a flag with the path of a directory.
type directory struct{ path string }

// Set implements pflag.Value.
func (d *directory) Set(s string) error {
	if s == "" {
		return errors.New("give a directory")
	}
	d.path = s
	return nil
}

// String implements pflag.Value.
func (d *directory) String() string { return d.path }

// Type implements pflag.Value.
func (*directory) Type() string { return "DIR" }

// prefixFlag adds --prefix to a command, with what it is for.
func prefixFlag(cmd *cobra.Command, d *directory, usage string) {
	cmd.Flags().Var(d, "prefix", usage)
	if err := cmd.MarkFlagDirname("prefix"); err != nil {
		panic(err) // there is no such flag
	}
}

// choose returns the directory below which runs keep what survives them, and whether
// somebody has asked for that one.
func (d directory) choose() (prefix string, asked bool, err error) { return instance.Prefix(d.path) }

// kept is what survives a run, or is left by an earlier one.
type kept struct {
	state  pipeline.State // nil if nothing does
	prefix string         // a directory; "" if nothing does
	dir    string         // what instance.Place.Dir is; "" if nothing does
	kinds  string         // a directory, for sinks.Options.Dir; "" if nothing does
	place  instance.Place // zero if nothing does
	leave  func()         // gives up what is held
}

// keep finds what earlier runs of the same graph file have left, and makes sure that no
// other run uses it. A run that changes nothing only looks.
func (a *agent) keep() (*kept, error) {
	if a.opts.tmpPrefix {
		return a.keepTemporarily()
	}
	prefix, asked, err := a.opts.prefix.choose()
	if err != nil {
		a.keepNothing(err)
		return &kept{leave: func() {}}, nil
	}
	k, err := a.keepBelow(prefix)
	if busy, ok := errors.AsType[*instance.BusyError](err); ok {
		return nil, busy
	}
	switch {
	case err == nil:
		return k, nil
	case asked:
		return nil, fmt.Errorf("the prefix %s can't be used: %w", prefix, err)
	}
	a.keepNothing(err)
	return &kept{leave: func() {}}, nil
}

func (a *agent) keepNothing(err error) {
	a.log.Warn("nothing survives this run", "error", err, "hint", "say where with --prefix DIR, or that it need not with --tmp-prefix")
}

// keepTemporarily keeps what only this run knows of.
func (a *agent) keepTemporarily() (*kept, error) {
	dir, err := os.MkdirTemp("", "mgmt-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary prefix: %w", err)
	}
	a.temporary.Store(&dir)
	k, err := a.keepBelow(dir)
	if err != nil {
		a.discard()
		return nil, err
	}
	leave := k.leave
	k.leave = func() { leave(); a.discard() }
	return k, nil
}

// discard removes the temporary prefix.
func (a *agent) discard() {
	if dir := a.temporary.Swap(nil); dir != nil {
		if err := os.RemoveAll(*dir); err != nil {
			a.log.Warn("not removed", "prefix", *dir, "error", err)
		}
	}
}

func (a *agent) keepBelow(prefix string) (*kept, error) {
	place, err := instance.At(prefix, a.opts.file)
	if err != nil {
		return nil, err
	}
	place = place.For(a.opts.mesh.Host.String())
	k := &kept{prefix: prefix, dir: place.Dir, kinds: place.Kinds(), leave: func() {}}
	if a.opts.noop {
		k.state = a.peek(place)
		return k, nil
	}
	lock, err := place.Take()
	if err != nil {
		return nil, err
	}
	store, err := a.open(place.Dir)
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	k.place, k.state = place, store
	k.leave = func() {
		if err := errors.Join(store.Close(), lock.Release()); err != nil {
			a.log.Warn("state not closed", "error", err)
		}
	}
	return k, nil
}

// open opens the state. One that can't be read would keep the host from being managed at
// all, so it makes way for a new one; but not in silence, since something may be lost.
func (a *agent) open(dir string) (*state.Store, error) {
	store, err := state.Open(dir)
	damaged, ok := errors.AsType[*state.DamagedError](err)
	if !ok {
		return store, err
	}
	to, err := state.SetAside(dir)
	if err != nil {
		return nil, errors.Join(damaged, err)
	}
	a.log.Warn("state lost", "error", damaged, "kept_as", to,
		"why", "notifications that were pending are not delivered, and what was to be undone is not; the run begins without")
	return state.Open(dir)
}

// peek returns what an earlier run has left to do, for one that does nothing. What a run
// that is under way has to do is its own affair.
func (a *agent) peek(place instance.Place) pipeline.State {
	if place.Held() {
		return nil
	}
	saved, err := state.Peek(place.Dir)
	if err != nil {
		a.log.Warn("state not read", "error", err, "why", "what an earlier run has left to do is not shown")
		return nil
	}
	return frozen(saved)
}

// frozen is a state that stays as it is.
type frozen pipeline.Saved

// Load implements pipeline.State.
func (f frozen) Load() (pipeline.Saved, error) { return pipeline.Saved(f), nil }

// Save implements pipeline.State.
func (frozen) Save(pipeline.StateChanges) error { return nil }
