package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/sources/packages/dpkg"
)

// apt manages packages by apt-get, apt-cache and dpkg, and looks into dpkg's database.
type apt struct {
	Options
	dir string
}

var _ Backend = (*apt)(nil)

func newApt(o Options) *apt { return &apt{Options: o, dir: dpkg.Dir} }

// Name implements Backend.
func (a *apt) Name() string { return Apt }

// Look implements Backend. It starts no program.
func (a *apt) Look(ctx context.Context, names []string) ([]Status, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return local(a.dir, names)
}

// Newest implements Backend.
func (a *apt) Newest(ctx context.Context, names []string) ([]string, error) {
	found, err := a.policies(ctx, names, true)
	if err != nil {
		return nil, err
	}
	versions := make([]string, len(names))
	for i, name := range names {
		if p := found[name]; p != nil {
			versions[i] = p.candidate
		}
	}
	return versions, nil
}

func (a *apt) native() (string, error) {
	db, err := dpkg.Read(a.dir)
	if err != nil {
		return "", err
	}
	return db.Native(), nil
}

// Prepare implements Backend. To remove something nothing has to be known of it.
func (a *apt) Prepare(ctx context.Context, actions []Action, allow Allow) []error {
	errs := make([]error, len(actions))
	if err := rootOnly(); err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	var names []string
	for _, act := range actions {
		if !act.Remove {
			names = append(names, act.Name)
		}
	}
	if len(names) == 0 {
		return errs
	}
	found, err := a.known(ctx, actions, names)
	var archives map[string]archive
	if err == nil && !(allow.NonFree && allow.Unsupported) {
		archives, err = a.archives(ctx)
	}
	ours := distribution()
	for i, act := range actions {
		if act.Remove {
			continue
		}
		if errs[i] = err; err == nil {
			errs[i] = a.possible(ctx, act, found[act.Name], archives, ours, allow)
		}
	}
	return errs
}

// known asks for the policies of packages, and refreshes the lists if one is not in them.
func (a *apt) known(ctx context.Context, actions []Action, names []string) (map[string]*policy, error) {
	asked := time.Now()
	found, err := a.policies(ctx, names, false)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(actions, func(act Action) bool { return !act.Remove && !offered(act, found[act.Name]) })
	if i < 0 {
		return found, nil
	}
	again, err := a.Shared.refresh(ctx, asked, func() error { return a.update(ctx, actions[i].Name) })
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		a.Log.Warn("can't refresh the lists of packages", "err", err)
	}
	if !again {
		return found, nil
	}
	return a.policies(ctx, names, false)
}

// offered reports whether apt has what is wished for.
func offered(act Action, p *policy) bool {
	if p == nil {
		return false
	}
	if act.Version == "" {
		return p.candidate != ""
	}
	return len(p.archives[act.Version]) > 0
}

// possible says why an action can't be done.
func (a *apt) possible(ctx context.Context, act Action, p *policy, archives map[string]archive, ours []string, allow Allow) error {
	version := act.Version
	switch {
	case act.Now.Broken != "" && act.Version == "":
		return nil // it is only to be finished
	case p == nil:
		return errors.New("there is no such package in the lists of apt: check the name, and the archives in /etc/apt")
	case version == "" && p.candidate == "":
		return errors.New("apt has nothing to install by that name: it may be a virtual package; name one that provides it")
	case version == "":
		version = p.candidate
	case !offered(act, p):
		return fmt.Errorf("there is no version %s; %s", version, has(p))
	}
	if archives != nil {
		if err := permitted(p.archives[version], archives, ours, allow); err != nil {
			return err
		}
	}
	if act.Now.Version == "" || allow.Downgrade {
		return nil
	}
	return newer(ctx, act.Now.Version, version)
}

// has lists the versions that apt offers.
func has(p *policy) string {
	var versions []string
	for v, from := range p.archives {
		if len(from) > 0 {
			versions = append(versions, v)
		}
	}
	slices.Sort(versions)
	if len(versions) == 0 {
		return "apt has none"
	}
	return "apt has " + strings.Join(versions, ", ")
}

// Apply implements Backend.
func (a *apt) Apply(ctx context.Context, actions []Action, allow Allow) error {
	if err := rootOnly(); err != nil {
		return err
	}
	release, err := a.Shared.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := a.finish(ctx); err != nil {
		return err
	}
	out, err := a.change(ctx, dpkg.Locks(a.dir), "apt-get", transaction(actions, allow)...)
	if err == nil || !stale(out) {
		return err
	}
	// The archive has newer packages than the lists.
	if again, failed := a.Shared.renew(func() error { return a.update(ctx, "what can't be fetched") }); !again || failed != nil {
		return errors.Join(err, failed)
	}
	_, err = a.change(ctx, dpkg.Locks(a.dir), "apt-get", transaction(actions, allow)...)
	return err
}

// rootOnly refuses what only root can do.
func rootOnly() error {
	if os.Geteuid() != 0 {
		return errors.New("only root may change packages: run mgmt as root")
	}
	return nil
}

// noCache has apt look at dpkg's status file each time, and cache only what archives offer:
// see aptCache for what is wrong with the other cache.
var noCache = []string{"-o", "Dir::Cache::pkgcache="}

// transaction is one command line for all actions.
func transaction(actions []Action, allow Allow) []string {
	args := append(slices.Clone(noCache),
		"-y", "-q", "-o", "APT::Status-Fd=3", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=-1", "-o", "Acquire::Retries=3",
		"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
	if allow.Untrusted {
		args = append(args, "--allow-unauthenticated")
	}
	if allow.Downgrade {
		args = append(args, "--allow-downgrades")
	}
	removes := slices.ContainsFunc(actions, func(act Action) bool { return act.Remove })
	installs := slices.ContainsFunc(actions, func(act Action) bool { return !act.Remove })
	switch {
	case !installs:
		args = append(args, "remove", "--")
	case !removes: // nobody has said that something may go for it
		args = append(args, "--no-remove", "install", "--")
	default:
		args = append(args, "install", "--")
	}
	for _, act := range actions {
		switch {
		case act.Remove && installs:
			args = append(args, act.Name+"-")
		case act.Version != "":
			args = append(args, act.Name+"="+act.Version)
		default:
			args = append(args, act.Name)
		}
	}
	return args
}

// stale reports whether a download failed since the archive has gone on.
func stale(out string) bool { return strings.Contains(out, "maybe run apt-get update") }

// finish has dpkg complete what a process before has left half way, by being killed.
func (a *apt) finish(ctx context.Context) error {
	if err := a.free(ctx, dpkg.Locks(a.dir)); err != nil {
		return err
	}
	if len(dpkg.Journal(a.dir)) == 0 {
		return nil
	}
	if h, err := dpkg.Held(dpkg.Locks(a.dir)); err != nil || h != nil {
		return err // somebody is at work again, so nothing was interrupted
	}
	a.Log.Warn("dpkg was interrupted: completing what it had begun")
	// What can't be completed is not ours, perhaps, and apt-get will say so if it is.
	if _, err := a.change(ctx, dpkg.Locks(a.dir), "dpkg", "--force-confdef", "--force-confold", "--configure", "-a"); ctx.Err() != nil {
		return err
	}
	return nil
}

// listsLock is held by who refreshes the lists.
const listsLock = "/var/lib/apt/lists/lock"

// update refreshes the lists of packages.
func (a *apt) update(ctx context.Context, wanted string) error {
	began := time.Now()
	a.Log.Info("refreshing the lists of packages by apt", "for", wanted)
	_, err := a.change(ctx, []string{listsLock}, "apt-get", "-q", "-o", "APT::Status-Fd=3", "-o", "Acquire::Retries=3", "update")
	a.Log.Debug("refreshed the lists of packages", "took", time.Since(began))
	return err
}
