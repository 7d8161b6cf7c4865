// Package hostname manages the names of this host: the static one, which it has after each
// boot, the transient one, which it has now, and the pretty one, which is for people.
package hostname

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/sources/systemd"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
	"github.com/mgmtproject/mgmt/sources/utsname"
)

// Spec is the kind "hostname".
var Spec = sinks.Spec{Kind: "hostname", New: func() sinks.Config { return &Config{} }}

// Config is the desired state of the names of a host.
//
// It needs the system bus and systemd-hostnamed, which systemd brings, and to change a name
// also root, or a rule of polkit. Where they are missing the resource fails and says so, and
// tries again when the bus appears. What others change is noticed at once, whether they use
// hostnamed, write its files or set the name in the kernel.
//
// A name that is not given is left alone. If none is given, the name of the resource is the
// hostname.
type Config struct {
	// Hostname stands for each of the other three that is not given.
	Hostname string `param:"hostname"`

	// PrettyHostname is a name for people, with any characters: "Eve's laptop".
	PrettyHostname string `param:"pretty_hostname"`

	// StaticHostname is the name that is in /etc/hostname. Setting it sets the transient one
	// to the same.
	StaticHostname string `param:"static_hostname"`

	// TransientHostname is the name that the kernel has, what uname -n prints. It lasts until
	// the next boot, when the static one takes its place.
	TransientHostname string `param:"transient_hostname"`
}

// maxName is the size of the longest name that the kernel can hold, in bytes.
const maxName = 64

// title is one of the three names.
type title struct {
	field    string // the parameter
	property string // of hostnamed
	method   string // of hostnamed, which sets it
	file     string // where hostnamed keeps it; empty for the kernel
}

// In the order in which they are set: the static one changes the transient one.
var (
	static    = title{"static_hostname", "StaticHostname", "SetStaticHostname", "/etc/hostname"}
	pretty    = title{"pretty_hostname", "PrettyHostname", "SetPrettyHostname", "/etc/machine-info"}
	transient = title{"transient_hostname", "Hostname", "SetHostname", ""}
)

// desired is what one of the names shall be.
type desired struct {
	title
	name string
}

// hostname is a resource of this kind.
type hostname struct {
	names []desired
	sends []string
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	all, fallback := c.Hostname, "hostname"
	if c.Hostname == "" && c.PrettyHostname == "" && c.StaticHostname == "" && c.TransientHostname == "" {
		all, fallback = name, ""
	}
	h := &hostname{sends: opts.Sends}
	for _, d := range []desired{{static, c.StaticHostname}, {pretty, c.PrettyHostname}, {transient, c.TransientHostname}} {
		param := d.field
		if d.name == "" {
			d.name, param = all, fallback
		}
		if d.name == "" {
			continue
		}
		check := checkName
		if d.title == pretty {
			check = checkPretty
		}
		switch err := check(d.name); {
		case err != nil && param == "":
			return nil, fmt.Errorf("the name of the resource, %q, can't be a hostname: %w", d.name, err)
		case err != nil:
			return nil, &sinks.ParamError{Param: param, Err: fmt.Errorf("%q can't be one: %w", d.name, err)}
		}
		h.names = append(h.names, d)
	}
	return h, nil
}

// checkName says what is wrong with a name as hostname(7) wants it.
func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("it has %d characters, and %d are the most", len(name), maxName)
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return errors.New("it begins or ends with a dot, or has two in a row")
		case label[0] == '-' || label[len(label)-1] == '-':
			return errors.New("a part of it begins or ends with a hyphen")
		case strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "":
			return errors.New("there may be only letters from a to z, digits, hyphens and dots in it")
		}
	}
	return nil
}

func checkPretty(name string) error {
	switch {
	case !utf8.ValidString(name):
		return errors.New("it is not valid UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("it has a control character in it, or the end of a line")
	}
	return nil
}

// Owns implements sinks.Owner.
func (h *hostname) Owns() []string {
	var owns []string
	for _, d := range h.names {
		owns = append(owns, strings.ReplaceAll(d.field, "_", " "))
	}
	return owns
}

// Keeps implements sinks.Keeper.
func (h *hostname) Keeps() []string {
	var keeps []string
	for _, d := range h.names {
		if d.file != "" {
			keeps = append(keeps, "path "+d.file)
		}
	}
	return keeps
}

var (
	_ sinks.Owner     = (*hostname)(nil)
	_ sinks.Keeper    = (*hostname)(nil)
	_ sinks.Announcer = (*hostname)(nil)
)

// Watches implements sinks.Resource. Hostnamed tells only what is changed through it, and
// it ends when nobody asks it anything.
func (h *hostname) Watches() []sources.Watch {
	ws := []sources.Watch{systemd.Object(service, path)}
	for _, d := range h.names {
		if d.file == "" {
			ws = append(ws, utsname.Nodename())
		} else {
			ws = append(ws, inotify.Path(d.file))
		}
	}
	return ws
}

// Announces implements sinks.Announcer.
func (h *hostname) Announces() {}

// CheckApply implements sinks.Resource.
func (h *hostname) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	found, err := look(ctx, bus.System())
	if err != nil {
		return sinks.Outcome{}, err
	}
	changes := h.differences(found)
	switch {
	case len(changes) == 0:
		return sinks.Outcome{Values: h.values(found)}, nil
	case !apply:
		return sinks.Outcome{Changed: true, Changes: changes}, nil
	}
	if err := sinks.BeforeChange(ctx); err != nil {
		return sinks.Outcome{}, err
	}
	return h.set(ctx, changes)
}

// set sets the names that differ, one after the other, since one may change another. It
// reports the changes if it has set any.
func (h *hostname) set(ctx context.Context, changes []sinks.Change) (out sinks.Outcome, err error) {
	for _, d := range h.names {
		found, err := look(ctx, bus.System())
		if err != nil {
			return out, err
		}
		if found[d.property] == d.name {
			continue
		}
		if err := d.set(ctx, bus.System()); err != nil {
			return out, err
		}
		out = sinks.Outcome{Changed: true, Changes: changes}
	}
	found, err := look(ctx, bus.System())
	if err != nil {
		return out, err
	}
	if rest := h.differences(found); len(rest) > 0 {
		return out, fmt.Errorf("it was set, but this still differs: %v", rest)
	}
	out.Values = h.values(found)
	return out, nil
}

// differences are those between the names that were found and the desired ones.
func (h *hostname) differences(found names) []sinks.Change {
	var changes []sinks.Change
	for _, d := range h.names {
		if from := found[d.property]; from != d.name {
			changes = append(changes, sinks.Change{Field: d.field, From: from, To: d.name})
		}
	}
	return changes
}
