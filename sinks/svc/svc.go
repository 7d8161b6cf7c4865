// Package svc manages a unit of systemd: whether it runs, and whether it is started with
// the system.
package svc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/sources/systemd"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// Spec describes the kind.
var Spec = sinks.Spec{
	Kind: "svc",
	New:  func() sinks.Config { return &Config{} },
}

// The values of state and startup.
const (
	running  = "running"
	stopped  = "stopped"
	enabled  = "enabled"
	disabled = "disabled"
	masked   = "masked"
)

// Config is the desired state of a unit. The resource's name is that of the unit; without
// a type, as in "nginx", it is a service: "nginx.service". A unit that is not installed
// yet fails until it is. When notified, a unit that runs already reloads its configuration,
// or is restarted if it can't. A unit that was started too often in a short time fails, since
// systemd refuses it (StartLimitBurst=), until its files change or it is notified.
type Config struct {
	// State says whether the unit runs. "running" starts it whenever it does not, "stopped"
	// stops it; if it is empty that is left alone.
	State string `param:"state" oneof:"running stopped"`

	// Startup says whether the unit is started with the system, or with the session:
	// "enabled" and "disabled" are about the [Install] section of its file, "masked" keeps
	// it from being started by anything; if it is empty that is left alone.
	Startup string `param:"startup" oneof:"enabled disabled masked"`

	// Session manages a unit of the systemd of the user who runs this program, instead of
	// one of the system.
	Session bool `param:"session"`
}

// unitTypes are those that systemd can start.
var unitTypes = []string{
	".service", ".socket", ".target", ".timer", ".mount", ".automount", ".swap", ".path", ".slice", ".scope", ".device",
}

var validName = regexp.MustCompile(`^[a-zA-Z0-9:_.\\@-]+$`)

// unitName is the full name of a unit.
func unitName(name string) (string, error) {
	if !slices.Contains(unitTypes, filepath.Ext(name)) {
		name += ".service"
	}
	prefix := strings.TrimSuffix(name, filepath.Ext(name))
	switch {
	case prefix == "" || !validName.MatchString(name) || len(name) > 255:
		return "", fmt.Errorf("%q is not the name of a unit: letters, digits and :_.\\@- only, such as nginx or ssh.socket", name)
	case strings.HasSuffix(prefix, "@"):
		return "", fmt.Errorf("%q is a template: name an instance of it, such as %q", name, prefix+"one"+filepath.Ext(name))
	}
	return name, nil
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	unit, err := unitName(name)
	if err != nil {
		return nil, err
	}
	for param, value := range map[string]string{"state": c.State, "startup": c.Startup} {
		allowed := map[string][]string{"state": {"", running, stopped}, "startup": {"", enabled, disabled, masked}}[param]
		if !slices.Contains(allowed, value) {
			return nil, &sinks.ParamError{Param: param, Err: fmt.Errorf("%q is none of %s", value, strings.Join(allowed[1:], ", "))}
		}
	}
	if c.State == running && c.Startup == masked {
		return nil, &sinks.ParamError{Param: "startup", Err: errors.New("what is masked can't be running")}
	}
	return &svc{unit: unit, state: c.State, startup: c.Startup, session: c.Session, bus: bus.Of(c.Session), opts: opts}, nil
}

// svc is the resource.
type svc struct {
	unit           string
	state, startup string
	session        bool
	bus            *bus.Bus
	opts           sinks.Options
	stale          bool // its files differ from what systemd has read, even after a reload

	failed bool   // it does not run since the last start has failed
	tried  string // its files then
}

var (
	_ sinks.Refresher = (*svc)(nil)
	_ sinks.Announcer = (*svc)(nil)
	_ sinks.Owner     = (*svc)(nil)
	_ sinks.Waiter    = (*svc)(nil)
)

// Owns implements sinks.Owner.
func (s *svc) Owns() []string {
	if s.session {
		return []string{"user unit " + s.unit}
	}
	return []string{"unit " + s.unit}
}

// Waits implements sinks.Waiter: systemd does the work.
func (s *svc) Waits() bool { return true }

// Announces implements sinks.Announcer.
func (s *svc) Announces() {}

// targets are those by which units are usually enabled.
var targets = []string{"multi-user", "graphical", "default", "sockets", "timers"}

// Watches implements sinks.Resource: the unit, and the files that describe it, whether
// they exist or not. Links that enable it are told of by systemd, unless somebody makes
// or removes them by hand: that is seen for the usual ones.
func (s *svc) Watches() []sources.Watch {
	watches := []sources.Watch{systemd.Managed(s.unit, s.session)}
	for _, dir := range bus.UnitDirs(s.session) {
		for _, name := range s.names() {
			watches = append(watches, inotify.Path(filepath.Join(dir, name)), inotify.Tree(filepath.Join(dir, name+".d")))
		}
	}
	if s.startup != "" {
		for _, target := range targets {
			watches = append(watches, inotify.Path(filepath.Join(bus.UnitDirs(s.session)[0], target+".target.wants", s.unit)))
		}
	}
	return watches
}

// names are what the unit's files are called: an instance such as getty@tty1.service is
// described by getty@.service.
func (s *svc) names() []string {
	if name, _, ok := strings.Cut(s.unit, "@"); ok {
		return []string{s.unit, name + "@" + filepath.Ext(s.unit)}
	}
	return []string{s.unit}
}

// CheckApply implements sinks.Resource.
func (s *svc) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return s.run(ctx, apply, false)
}

// Refresh implements sinks.Refresher.
func (s *svc) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return s.run(ctx, apply, true)
}

func (s *svc) run(ctx context.Context, apply, refresh bool) (sinks.Outcome, error) {
	var out sinks.Outcome
	started, err := s.startAtOnce(ctx, apply && !refresh, &out)
	if err != nil {
		return out, err
	}
	u, err := s.bus.Unit(ctx, s.unit)
	if err != nil {
		return out, err
	}
	if u.Running() {
		s.failed = false
	}
	files, err := s.files(ctx, u)
	if err != nil {
		return out, err
	}
	reloaded, err := s.reread(ctx, apply, &u, files, &out)
	if err != nil {
		return out, err
	}
	// What must not start by itself is made so before it is stopped, and what is masked
	// is unmasked before it is started.
	if err := s.install(ctx, apply, files, &out); err != nil {
		return out, err
	}
	switch {
	case started && reloaded: // it runs by its old files
		return out, s.begin(ctx, "restarting", s.bus.Restart, true)
	case refresh && s.state != stopped && u.Running():
		return out, s.reload(ctx, apply, &out)
	}
	return out, s.bring(ctx, apply, u, refresh || reloaded, &out)
}

// startAtOnce starts a unit that a signal has told is down, before anything else is asked
// about it: that is what a service that was killed waits for.
func (s *svc) startAtOnce(ctx context.Context, apply bool, out *sinks.Outcome) (started bool, err error) {
	if !apply || s.state != running || s.failed {
		return false, nil
	}
	told := s.bus.Told(s.unit)
	if told != "failed" && told != "inactive" {
		return false, nil
	}
	if err := s.change(ctx, apply, out, "state", found(bus.Unit{Active: told}), running); err != nil {
		return false, err
	}
	at := now()
	result, err := s.bus.Start(ctx, s.unit)
	u, unread := s.bus.Unit(ctx, s.unit)
	if unread == nil && !u.Running() && (u.Load != "loaded" || u.NeedReload || s.dropInsDiffer(u)) {
		out.Changed, out.Changes = false, nil
		return false, nil // there is more to do first
	}
	return true, s.verify(ctx, "starting", at, result, err)
}

// absent is the state of the files of a unit that has none.
const absent = "absent"

// files is how the unit is installed, asked for only if somebody wants to know.
func (s *svc) files(ctx context.Context, u bus.Unit) (string, error) {
	if s.startup == "" && u.Load == "loaded" {
		return "", nil
	}
	if s.startup == "" && s.state != running {
		return absent, nil // or not: it does not matter
	}
	state, err := s.bus.FileState(ctx, s.unit)
	if errors.Is(err, bus.ErrNoUnit) {
		if u.Load == "loaded" {
			return "transient", nil // it has no file, but exists
		}
		if s.state == running || s.startup == enabled {
			return "", fmt.Errorf("there is no unit %s: waiting until it is installed", s.unit)
		}
		return absent, nil
	}
	return state, err
}

// reread has systemd read the files of the unit if they have changed.
func (s *svc) reread(ctx context.Context, apply bool, u *bus.Unit, files string, out *sinks.Outcome) (reloaded bool, err error) {
	// It has looked for a file in vain that is there now, or could not load the unit then.
	late := (u.Load == "not-found" || u.Load == "error") && files != absent && files != ""
	need := u.NeedReload || late || u.Load == "loaded" && s.dropInsDiffer(*u)
	if !need {
		s.stale = false
	}
	if !need || s.stale || s.state == "" && s.startup == "" {
		return false, nil
	}
	if err := s.change(ctx, apply, out, "unit file", "changed", "read"); err != nil || !apply {
		return false, err
	}
	if err := s.bus.DaemonReload(ctx); err != nil {
		return false, fmt.Errorf("having systemd read its unit files: %w", err)
	}
	*u, err = s.bus.Unit(ctx, s.unit)
	// Do it once: if it doesn't help it never will.
	s.stale = err == nil && (u.NeedReload || u.Load == "error" || s.dropInsDiffer(*u))
	return true, err
}

// dropInsDiffer tells whether there are other drop-ins of the unit than systemd has read.
func (s *svc) dropInsDiffer(u bus.Unit) bool {
	there := make(map[string]string) // by name: one in an earlier directory wins
	read := 0
	for _, name := range s.names() {
		for _, dir := range bus.UnitDirs(s.session) {
			dir = filepath.Join(dir, name+".d")
			entries, err := os.ReadDir(dir)
			if err != nil {
				continue // most don't exist
			}
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ".conf") && there[e.Name()] == "" {
					there[e.Name()] = filepath.Join(dir, e.Name())
				}
			}
		}
	}
	for _, path := range u.DropIns {
		if there[filepath.Base(path)] == path {
			read++
		}
	}
	return read != len(there)
}

// bring makes the unit run or stop. Anew says that there is a reason to hope that a start
// which has failed works now.
func (s *svc) bring(ctx context.Context, apply bool, u bus.Unit, anew bool, out *sinks.Outcome) error {
	switch {
	case s.state == running && !u.Running():
		if err := s.change(ctx, apply, out, "state", found(u), running); err != nil || !apply {
			return err
		}
		return s.begin(ctx, "starting", s.bus.Start, anew || s.failed && s.tried != s.look())
	case s.state == stopped && !u.Stopped():
		if err := s.change(ctx, apply, out, "state", found(u), stopped); err != nil || !apply {
			return err
		}
		return s.stop(ctx)
	}
	return nil
}

// found is the state of a unit as a change shows it.
func found(u bus.Unit) string {
	switch u.Active {
	case "active", "reloading":
		return running
	case "inactive":
		return stopped
	}
	return u.Active
}

// change notes a difference, and that it is about to be changed.
func (s *svc) change(ctx context.Context, apply bool, out *sinks.Outcome, field, from, to string) error {
	if apply {
		if err := sinks.BeforeChange(ctx); err != nil {
			return err
		}
	}
	out.Changed = true
	out.Changes = append(out.Changes, sinks.Change{Field: field, From: from, To: to})
	return nil
}
