// Package cron manages a timer of systemd, which starts another unit at certain times: its
// file, whether it runs, and whether it is started with the system.
package cron

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/svc"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// Spec describes the kind.
var Spec = sinks.Spec{
	Kind: "cron",
	New:  func() sinks.Config { return &Config{Trigger: onCalendar} },
}

const (
	exists     = "exists"
	absent     = "absent"
	onCalendar = "OnCalendar"
)

// Config is the desired state of a timer. The resource's name is that of the timer,
// without ".timer". A timer that exists runs: what it starts has to be there first. See
// systemd.timer(5) for what the parameters mean to systemd.
type Config struct {
	// Unit is what the timer starts; the default is the service of the timer's name.
	// Without a type it is a service.
	Unit string `param:"unit"`

	// State is "exists" or "absent"; empty is "exists". A timer that shall be absent is
	// stopped and disabled first.
	State string `param:"state" oneof:"exists absent"`

	// Trigger says what time is about: a calendar, or how long it is since something
	// happened.
	Trigger string `param:"trigger" oneof:"OnCalendar OnActiveSec OnBootSec OnStartupSec OnUnitActiveSec OnUnitInactiveSec"`

	// Time is when the timer elapses: "daily", "Mon *-*-* 03:30:00" for OnCalendar, see
	// systemd.time(7) and "systemd-analyze calendar", or "15min" for the others.
	Time string `param:"time"`

	// Startup says whether the timer is started with the system, or with the session; if
	// it is empty that is left alone.
	Startup string `param:"startup" oneof:"enabled disabled"`

	// Session makes it a timer of the user who runs this program.
	Session bool `param:"session"`

	// AccuracySec is how late the timer may elapse, so that several do at once: "1us",
	// "10min". Systemd's default is a minute.
	AccuracySec string `param:"accuracysec"`

	// RandomizedDelaySec is the most that is added to each time by chance: "1h".
	RandomizedDelaySec string `param:"randomizeddelaysec"`

	// Persistent makes up for a time that has passed while the machine was off, with
	// OnCalendar.
	Persistent *bool `param:"persistent"`

	// WakeSystem wakes a machine that sleeps.
	WakeSystem *bool `param:"wakesystem"`

	// RemainAfterElapse keeps a timer that will not elapse again. If it is false such a
	// timer ends, and begins anew here, since it shall run.
	RemainAfterElapse *bool `param:"remainafterelapse"`

	// Description is a line for people.
	Description string `param:"description"`
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	name = strings.TrimSuffix(name, ".timer") + ".timer"
	if !slices.Contains([]string{"", exists, absent}, c.State) {
		return nil, &sinks.ParamError{Param: "state", Err: fmt.Errorf("%q is neither exists nor absent", c.State)}
	}
	r := &cron{name: name, session: c.Session, absent: c.State == absent, bus: bus.Of(c.Session), startup: c.Startup}
	dir, err := unitDir(c.Session)
	if err != nil {
		return nil, err
	}
	timer := svc.Config{State: "running", Startup: c.Startup, Session: c.Session}
	description := file.Config{State: absent}
	if r.absent {
		timer.State, timer.Startup = "stopped", "disabled"
	} else {
		text, err := c.text(name)
		if err != nil {
			return nil, err
		}
		description = file.Config{Content: &text, Mode: "0644"}
		r.starts = c.starts(name)
		if r.started, err = (&svc.Config{Session: c.Session}).Build(r.starts, opts); err != nil {
			return nil, &sinks.ParamError{Param: "unit", Err: err}
		}
	}
	// The name is checked here, before it is part of a path.
	if r.timer, err = timer.Build(name, opts); err != nil {
		return nil, err
	}
	r.path = filepath.Join(dir, name)
	r.file, err = description.Build(r.path, opts)
	return r, err
}

// unitDir is where units of the administrator, or of the user, are described.
func unitDir(session bool) (string, error) {
	if !session {
		return "/etc/systemd/system", nil
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("finding the directory of the user's units: %w", err)
	}
	return filepath.Join(config, "systemd/user"), nil
}

// starts is the full name of the unit that the timer starts.
func (c *Config) starts(timer string) string {
	switch {
	case c.Unit == "":
		return strings.TrimSuffix(timer, ".timer") + ".service"
	case filepath.Ext(c.Unit) == "":
		return c.Unit + ".service"
	}
	return c.Unit
}

// text is the timer's file.
func (c *Config) text(timer string) (string, error) {
	if c.Time == "" {
		return "", &sinks.ParamError{Param: "time", Err: errors.New(`it is missing: say when the timer elapses, as in "daily"`)}
	}
	description := c.Description
	if description == "" {
		description = "Timer " + strings.TrimSuffix(timer, ".timer")
	}
	options := []*unit.UnitOption{{Section: "Unit", Name: "Description", Value: description}}
	for _, o := range []struct{ param, name, value string }{
		{"trigger", c.Trigger, c.Time},
		{"unit", "Unit", c.starts(timer)},
		{"accuracysec", "AccuracySec", c.AccuracySec},
		{"randomizeddelaysec", "RandomizedDelaySec", c.RandomizedDelaySec},
		{"persistent", "Persistent", yesNo(c.Persistent)},
		{"wakesystem", "WakeSystem", yesNo(c.WakeSystem)},
		{"remainafterelapse", "RemainAfterElapse", yesNo(c.RemainAfterElapse)},
	} {
		if o.value != "" {
			options = append(options, &unit.UnitOption{Section: "Timer", Name: o.name, Value: o.value})
		}
	}
	options = append(options, &unit.UnitOption{Section: "Install", Name: "WantedBy", Value: "timers.target"})
	for _, o := range options {
		if strings.ContainsAny(o.Value, "\n\r\x00") || strings.HasSuffix(o.Value, `\`) {
			return "", fmt.Errorf("%s=%q is more than one line", o.Name, o.Value)
		}
	}
	b, err := io.ReadAll(unit.Serialize(options))
	return string(b), err
}

func yesNo(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}

// cron is the resource. It is made of a file and a unit.
type cron struct {
	name, path string
	session    bool
	absent     bool
	startup    string
	bus        *bus.Bus
	file       sinks.Resource
	timer      sinks.Resource
	starts     string         // the unit that the timer starts
	started    sinks.Resource // that unit, to know where its files would be
}

var (
	_ sinks.Owner    = (*cron)(nil)
	_ sinks.Waiter   = (*cron)(nil)
	_ sinks.Provider = (*cron)(nil)
	_ sinks.Needer   = (*cron)(nil)
	_ sinks.Reverser = (*Config)(nil)
)

// Owns implements sinks.Owner.
func (r *cron) Owns() []string {
	return append(r.file.(sinks.Owner).Owns(), r.timer.(sinks.Owner).Owns()...)
}

// Waits implements sinks.Waiter: systemd does the work.
func (r *cron) Waits() bool { return true }

// Watches implements sinks.Resource: the timer and its file, and the files of what it
// starts, without which it does not run.
func (r *cron) Watches() []sources.Watch {
	watches := r.file.Watches()
	for _, w := range r.timer.Watches() {
		if !slices.Contains(watches, w) {
			watches = append(watches, w)
		}
	}
	if r.started != nil {
		for _, w := range r.started.Watches() {
			if w.Source() == "inotify" && !slices.Contains(watches, w) {
				watches = append(watches, w)
			}
		}
	}
	return watches
}

// CheckApply implements sinks.Resource.
func (r *cron) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if r.absent {
		return r.remove(ctx, apply)
	}
	if apply && r.session {
		if err := os.MkdirAll(filepath.Dir(r.path), 0o755); err != nil {
			return sinks.Outcome{}, err
		}
	}
	out, err := r.file.CheckApply(ctx, apply)
	if err != nil {
		return out, err
	}
	if !apply && out.Changed {
		if _, err := r.bus.FileState(ctx, r.name); errors.Is(err, bus.ErrNoUnit) {
			return r.foretell(out), nil // there is nothing to ask about yet
		}
	}
	timer, err := r.timer.CheckApply(ctx, apply)
	if err != nil {
		err = r.explain(ctx, err)
	}
	return merge(out, timer), err
}

// remove stops the timer before its file goes.
func (r *cron) remove(ctx context.Context, apply bool) (sinks.Outcome, error) {
	timer, err := r.timer.CheckApply(ctx, apply)
	if err != nil {
		return merge(sinks.Outcome{}, timer), err
	}
	out, err := r.file.CheckApply(ctx, apply)
	if err == nil && apply && out.Changed {
		if err = r.bus.DaemonReload(ctx); err != nil {
			err = fmt.Errorf("having systemd forget the timer: %w", err)
		}
	}
	return merge(out, timer), err
}

// foretell adds what will be done once there is a file.
func (r *cron) foretell(out sinks.Outcome) sinks.Outcome {
	if r.startup == "enabled" {
		out.Changes = append(out.Changes, sinks.Change{Field: "startup", From: "disabled", To: r.startup})
	}
	out.Changes = append(out.Changes, sinks.Change{Field: "timer", From: "stopped", To: "running"})
	return out
}

// merge is what was done to the file and to the timer. The state of a resource of this
// kind is whether there is a file.
func merge(out, timer sinks.Outcome) sinks.Outcome {
	out.Changed = out.Changed || timer.Changed
	for _, c := range timer.Changes {
		if c.Field == "state" {
			c.Field = "timer"
		}
		out.Changes = append(out.Changes, c)
	}
	return out
}

// explain says why the timer does not run, where systemd does not.
func (r *cron) explain(ctx context.Context, err error) error {
	if _, missing := r.bus.FileState(ctx, r.starts); errors.Is(missing, bus.ErrNoUnit) {
		return fmt.Errorf("there is no unit %s, which it starts: waiting until it is installed", r.starts)
	}
	if u, unread := r.bus.Unit(ctx, r.name); unread == nil && u.Load == "bad-setting" || strings.Contains(err.Error(), "bad unit file setting") {
		return fmt.Errorf("%w (is its time one that systemd understands? systemd-analyze calendar tells)", err)
	}
	return err
}

// Provides implements sinks.Provider.
func (r *cron) Provides() []sinks.Fact {
	if r.absent {
		return nil
	}
	return []sinks.Fact{{Space: sinks.SpaceFile, Name: r.path}, {Space: sinks.SpaceUnit, Name: r.name}}
}

// Needs implements sinks.Needer: what describes the unit that it starts.
func (r *cron) Needs() []sinks.Need {
	needs := sinks.AddHolders(nil, r.path)
	if r.started != nil {
		for _, n := range r.started.(sinks.Needer).Needs() {
			n.Why = "which describes what it starts"
			needs = append(needs, n)
		}
	}
	return needs
}

// Reverse implements sinks.Reverser: a timer that was not there is removed.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	if c.State == absent {
		return nil, errors.New("a timer that is removed is not kept")
	}
	switch before, changed := was["state"]; {
	case before == absent:
		return &Config{State: absent, Session: c.Session, Trigger: c.Trigger}, nil
	case changed:
		return nil, fmt.Errorf("there was a %s before, which is not kept", before)
	}
	if _, changed := was["content"]; changed {
		return nil, errors.New("the timer that was there before is not kept")
	}
	if before, changed := was["startup"]; changed && (before == "enabled" || before == "disabled") {
		undo := *c
		undo.Startup = before
		return &undo, nil
	}
	return nil, nil
}
