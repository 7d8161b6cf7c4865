// Package mount manages a file system that is mounted, and its entry in /etc/fstab.
package mount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/sources/mounts"
)

// Spec is the kind "mount".
var Spec = sinks.Spec{Kind: "mount", New: func() sinks.Config { return &Config{State: exists} }}

// Config is the desired state of a mount point, whose path is the name of the resource.
//
// All other lines of /etc/fstab are left as they are, and whoever reads it sees it before
// or after a change and never in between. The mount point is made if it is missing. What
// is busy is not unmounted by force: that is an error.
//
// Of the options, ro and rw are compared with what is mounted, and so are those that every
// file system knows (nosuid, noexec, noatime …) and the usual ones of tmpfs, if they are
// given. Others take effect when something is mounted or its entry is changed.
type Config struct {
	// State is "exists" (in fstab and mounted), "absent" (neither), "mounted" or
	// "unmounted" (whatever fstab says), "listed" or "unlisted" (in fstab, whatever is
	// mounted).
	State string `param:"state" oneof:"exists absent mounted unmounted listed unlisted"`

	// Device is what to mount, as mount(8) takes it: /dev/sdb1, UUID=…, LABEL=…,
	// server:/export, an image, for a bind mount a directory, and a mere name for tmpfs
	// and the like.
	Device string `param:"device"`

	// Type is the type of the file system. If it is not given, mount(8) finds it out.
	Type string `param:"type"`

	// Options are the options of the mount by name; the value is empty for those that have
	// none, such as ro.
	Options map[string]string `param:"options"`

	// Freq is how often dump(8) backs it up, in days; 0 is never.
	Freq int `param:"freq"`

	// PassNo is when fsck(8) checks it at boot: 1 for the root, 2 for others, 0 for never.
	PassNo int `param:"passno"`
}

const (
	exists    = "exists"
	absent    = "absent"
	mounted   = "mounted"
	unmounted = "unmounted"
	listed    = "listed"
	unlisted  = "unlisted"

	fstab = "/etc/fstab"
)

// want is what shall be of one half of a state: the entry in fstab, or the mount.
type want int8

const (
	either want = iota
	yes
	no
)

// halves are what the states stand for.
var halves = map[string]struct{ entry, live want }{
	exists:    {yes, yes},
	absent:    {no, no},
	mounted:   {either, yes},
	unmounted: {either, no},
	listed:    {yes, either},
	unlisted:  {no, either},
}

// mount is a resource of this kind.
type mount struct {
	path    string
	entry   want
	live    want
	is      entry // as fstab has it
	options map[string]string
}

// Build implements sinks.Config.
func (c *Config) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	state := c.State
	if state == "" {
		state = exists
	}
	path, err := atomicfile.Clean(name)
	if err != nil {
		return nil, fmt.Errorf("the name is that of the mount point: %w", err)
	}
	half, known := halves[state]
	m := &mount{path: path, entry: half.entry, live: half.live, options: c.Options}
	switch {
	case !known:
		return nil, &sinks.ParamError{Param: "state", Err: fmt.Errorf("%q is not a state", c.State)}
	case path == "/" && m.live == no:
		return nil, &sinks.ParamError{Param: "state", Err: errors.New("the root can't be unmounted")}
	case !m.present():
		return m, nil
	case c.Device == "":
		return nil, &sinks.ParamError{Param: "device", Err: errors.New("it is missing: give what to mount")}
	case strings.ContainsAny(c.Device+c.Type+path, "\n\x00"):
		return nil, &sinks.ParamError{Param: "device", Err: errors.New("neither it, nor the type or the mount point can have a line break")}
	case strings.ContainsAny(c.Type, " \t,"):
		return nil, &sinks.ParamError{Param: "type", Err: fmt.Errorf("%q is not a type of file system", c.Type)}
	case c.Freq < 0:
		return nil, &sinks.ParamError{Param: "freq", Err: errors.New("it is negative")}
	case c.PassNo < 0:
		return nil, &sinks.ParamError{Param: "passno", Err: errors.New("it is negative")}
	}
	m.is = entry{device: c.Device, point: path, kind: c.Type, freq: c.Freq, passno: c.PassNo}
	if m.is.options, err = join(c.Options); err != nil {
		return nil, &sinks.ParamError{Param: "options", Err: err}
	}
	switch {
	case m.bind():
		m.is.kind = "none"
	case m.is.kind == "":
		m.is.kind = "auto"
	}
	return m, nil
}

// present says that something shall be there.
func (m *mount) present() bool { return m.entry == yes || m.live == yes }

// has says whether an option is given.
func (m *mount) has(option string) bool { _, ok := m.options[option]; return ok }

// bind says that the device is a directory or file that is shown elsewhere.
func (m *mount) bind() bool { return m.has("bind") || m.has("rbind") }

// Owns implements sinks.Owner.
func (m *mount) Owns() []string { return []string{"mount point " + m.path} }

// Keeps implements sinks.Keeper.
func (m *mount) Keeps() []string {
	if m.entry == either {
		return nil
	}
	return []string{"path " + fstab}
}

// Waits implements sinks.Waiter: mounting may wait for a disk or a server.
func (m *mount) Waits() bool { return m.live != either }

// Watches implements sinks.Resource.
func (m *mount) Watches() []sources.Watch {
	var watches []sources.Watch
	if m.live != either {
		watches = append(watches, mounts.Point(m.path))
	}
	if m.entry != either {
		watches = append(watches, inotify.Path(fstab))
	}
	if node := m.is.node(); m.live == yes && node != "" {
		watches = append(watches, inotify.Path(node)) // a disk that comes later
	}
	return watches
}

var (
	_ sinks.Owner  = (*mount)(nil)
	_ sinks.Keeper = (*mount)(nil)
	_ sinks.Waiter = (*mount)(nil)
)

// CheckApply implements sinks.Resource. What comes is listed first and then mounted; what
// goes is unmounted first.
func (m *mount) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	now, err := m.look()
	if err != nil {
		return sinks.Outcome{}, err
	}
	out := sinks.Outcome{Changes: m.changes(now)}
	if out.Changed = len(out.Changes) > 0; !out.Changed || !apply {
		return out, nil
	}
	steps := []func(context.Context, *found) (acted bool, err error){m.edit, m.mend}
	if !m.present() {
		slices.Reverse(steps)
	}
	some := false
	for _, step := range steps {
		acted, err := step(ctx, now)
		some = some || acted
		switch {
		case err != nil && some:
			return out, err
		case err != nil:
			return sinks.Outcome{}, err
		}
	}
	return out, nil
}

// changes lists how what was found differs. A parameter that differs in fstab is not listed
// again for what is mounted.
func (m *mount) changes(now *found) []sinks.Change {
	var changes []sinks.Change
	note := func(c sinks.Change) {
		if !slices.ContainsFunc(changes, func(o sinks.Change) bool { return o.Field == c.Field }) {
			changes = append(changes, c)
		}
	}
	then := presence{m.entry == yes || m.entry == either && now.listed, m.live == yes || m.live == either && now.mounted}
	if then != now.presence {
		note(sinks.Change{Field: "state", From: m.word(now.presence), To: m.word(then)})
	}
	if m.entry != either && now.listed {
		for _, c := range m.is.differences(now.entry, m.entry == no) {
			note(c)
		}
	}
	for _, c := range now.wrong {
		note(c)
	}
	return changes
}
