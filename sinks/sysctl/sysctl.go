// Package sysctl manages a parameter of the kernel: the value that is in force, and the
// one that a file sets at the next boot.
package sysctl

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "sysctl".
var Spec = sinks.Spec{Kind: "sysctl", New: func() sinks.Config {
	return &Config{State: exists, Runtime: true, Persist: true}
}}

// Config is the desired state of a kernel parameter, whose name is that of the resource:
// net.ipv4.ip_forward, net/ipv4/ip_forward or /proc/sys/net/ipv4/ip_forward. As in
// sysctl.d(5), a slash stands for a dot in a name with dots, as that of the interface in
// net.ipv4.conf.eth0/100.forwarding.
//
// A value that another program writes is noticed at once. One that the kernel changes by
// itself, or because of another parameter, is noticed within a second, since all that can
// be done is to look.
type Config struct {
	// Value is the value, as the kernel shows it. Space between several numbers does not
	// matter.
	Value *string `param:"value"`

	// State is "exists" or "absent". Absent removes the parameter from the file. If there
	// is a value, it is put into force all the same: there is no kernel without one.
	State string `param:"state" oneof:"exists absent"`

	// Runtime puts the value into force.
	Runtime bool `param:"runtime"`

	// Persist sets the value in a file, for the next boot. The rest of the file is left
	// as it is.
	Persist bool `param:"persist"`

	// Path is that file: its path, or its name in /etc/sysctl.d. If it is not given, each
	// parameter has one of its own, such as /etc/sysctl.d/99-net.ipv4.ip_forward.conf.
	Path string `param:"path"`
}

const (
	exists = "exists"
	absent = "absent"

	// Where parameters are.
	root = "/proc/sys/"
	// Where files are that set parameters at boot.
	conf = "/etc/sysctl.d/"
)

// sysctl is a resource of this kind.
type sysctl struct {
	name   string // as it is called in the file
	key    string // below root
	value  string
	absent bool   // from the file
	live   bool   // the value is to be in force
	file   string // "" if no file is managed
}

// Build implements sinks.Config.
func (c *Config) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	name = strings.TrimPrefix(name, root)
	r := &sysctl{name: name, key: below(name), absent: c.State == absent, live: c.Runtime}
	switch {
	case strings.ContainsAny(name, "*?[]\n=# \t\x00") || r.key != filepath.Clean(r.key) || !filepath.IsLocal(r.key):
		return nil, fmt.Errorf("%q is not the name of a kernel parameter, such as net.ipv4.ip_forward", name)
	case c.State != "" && c.State != exists && c.State != absent:
		return nil, &sinks.ParamError{Param: "state", Err: fmt.Errorf("%q is neither exists nor absent", c.State)}
	case c.Value == nil && !r.absent:
		return nil, &sinks.ParamError{Param: "value", Err: errors.New("it is missing")}
	case !c.Runtime && !c.Persist:
		return nil, &sinks.ParamError{Param: "persist", Err: errors.New("without runtime and persist there is nothing to do")}
	case c.Value == nil && !c.Persist:
		return nil, &sinks.ParamError{Param: "persist", Err: errors.New("without it and a value there is nothing to do")}
	}
	if c.Value == nil {
		r.live = false
	} else if r.value = plain(*c.Value); strings.ContainsAny(strings.TrimSpace(*c.Value), "\n\x00") {
		return nil, &sinks.ParamError{Param: "value", Err: fmt.Errorf("%q is more than one line", *c.Value)}
	}
	if !c.Persist {
		return r, nil
	}
	path, err := c.path(r.key)
	if err != nil {
		return nil, &sinks.ParamError{Param: "path", Err: err}
	}
	r.file = path
	return r, nil
}

// path is the file that the parameter is set in.
func (c *Config) path(key string) (string, error) {
	path := c.Path
	if path == "" {
		path = "99-" + strings.ReplaceAll(key, "/", ".") + ".conf"
	}
	if !strings.HasPrefix(path, "/") {
		path = conf + path
	}
	if !strings.HasSuffix(path, ".conf") {
		return "", fmt.Errorf("the name of %s does not end in .conf, so nobody would read it at boot", path)
	}
	return atomicfile.Clean(path)
}

// below turns the name of a parameter into its path below root: the first separator tells
// whether dots or slashes are separators, as sysctl.d(5) says.
func below(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '/' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}

// plain is a value with single spaces where the kernel shows tabs.
func plain(value string) string { return strings.Join(strings.Fields(value), " ") }

// Owns implements sinks.Owner: a parameter has one value.
func (r *sysctl) Owns() []string { return []string{"kernel parameter " + r.key} }

// Keeps implements sinks.Keeper.
func (r *sysctl) Keeps() []string {
	if r.file == "" {
		return nil
	}
	return []string{"path " + r.file}
}

// Watches implements sinks.Resource. The source inotify reports at once what others write
// to a parameter, and looks beside that.
func (r *sysctl) Watches() []sources.Watch {
	var watches []sources.Watch
	if r.live {
		watches = append(watches, inotify.Path(root+r.key))
	}
	if r.file != "" {
		watches = append(watches, inotify.Path(r.file))
	}
	return watches
}

var (
	_ sinks.Owner  = (*sysctl)(nil)
	_ sinks.Keeper = (*sysctl)(nil)
)

// CheckApply implements sinks.Resource.
func (r *sysctl) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	result := r.CheckApplyGroup(ctx, apply, []sinks.Resource{r})[0]
	return result.Outcome, result.Err
}

// enforce compares the value in force, and sets it.
func (r *sysctl) enforce(apply bool) (sinks.Outcome, error) {
	now, err := r.read()
	if err != nil || now == r.value {
		return sinks.Outcome{}, err
	}
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "value", From: now, To: r.value}}}
	if !apply {
		return out, nil
	}
	if err := r.write(); err != nil {
		return sinks.Outcome{}, err
	}
	if now, err = r.read(); err == nil && now != r.value {
		err = fmt.Errorf("the kernel has made %q of the value %q of %s: ask for it in the form that it shows", now, r.value, r.name)
	}
	return out, err
}
