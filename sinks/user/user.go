// Package user manages one user of this host: that there is the account, with what number,
// groups, home directory and shell, or that there is none.
package user

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/accounts/local"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "user".
var Spec = sinks.Spec{Kind: "user", New: func() sinks.Config { return &Config{State: exists} }}

// Config is the desired state of a user. Its name is that of the resource.
//
// The user is one of this host, in /etc/passwd: who comes from elsewhere, such as LDAP, is
// neither seen nor changed. The tools of the system make the changes (useradd, usermod,
// userdel), which needs root. While another process has the databases of accounts locked,
// the resource waits, and says so.
//
// What is not given is left alone, and for a new user it is what useradd chooses. A new
// user has no password, so nobody can log in with one.
//
// The home directory is neither made nor moved nor removed: a resource file can make it,
// and a user that is removed keeps it, and all its other files. Where a user exists already
// and gets another uid or primary group, the files in its home directory follow; others keep
// the old number. This, and the removal, is refused while processes of the user run.
type Config struct {
	// State is "exists" or "absent". With the user goes the group of its name, if it was its
	// primary one and nobody else is in it, on systems that make such groups.
	State string `param:"state" oneof:"exists absent"`

	// UID is the number of the user. Without it a new user gets the next free one.
	UID *int64 `param:"uid"`

	// GID is the number of the primary group, which has to exist. Not together with group.
	GID *int64 `param:"gid"`

	// Group is the name of the primary group, which has to exist. Without it and gid, a new
	// user gets the group of its own name, which is made if the system is set up for that.
	Group string `param:"group"`

	// Groups are the names of all groups that the user is in beside its primary one: from
	// others it is taken out. An empty list takes it out of all; without this parameter
	// they are left alone.
	Groups []string `param:"groups"`

	// Homedir is the absolute path of the home directory, as it is noted for the user.
	Homedir string `param:"homedir"`

	// Shell is the absolute path of the program that runs when the user logs in.
	Shell string `param:"shell"`

	// AllowDuplicateUID allows the uid to be that of another user, too.
	AllowDuplicateUID bool `param:"allowduplicateuid"`
}

const (
	exists = "exists"
	absent = "absent"
)

// user is a resource of this kind.
type user struct {
	name   string
	absent bool
	want   Config // groups in order, paths clean
	opts   sinks.Options
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	if err := local.CheckName(name); err != nil {
		return nil, fmt.Errorf("%q can't be the name of a user: %w", name, err)
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	u := &user{name: name, absent: c.State == absent, want: *c, opts: opts}
	if u.absent && len(opts.Sends) > 0 {
		return nil, fmt.Errorf("the user is absent, and has no %s to send", strings.Join(opts.Sends, " and "))
	}
	if c.Groups != nil { // an empty list is another thing than none
		u.want.Groups = slices.Clone(c.Groups)
		slices.Sort(u.want.Groups)
		u.want.Groups = slices.Compact(u.want.Groups)
	}
	for _, path := range []*string{&u.want.Homedir, &u.want.Shell} {
		if *path != "" {
			*path = filepath.Clean(*path)
		}
	}
	return u, nil
}

// validate says what is wrong with the parameters, by themselves and beside each other.
func (c *Config) validate() error {
	wrong := func(param, format string, args ...any) error {
		return &sinks.ParamError{Param: param, Err: fmt.Errorf(format, args...)}
	}
	if c.State != "" && c.State != exists && c.State != absent {
		return wrong(stateField, "%q is neither exists nor absent", c.State)
	}
	for _, id := range []struct {
		param string
		n     *int64
	}{{uidField, c.UID}, {gidField, c.GID}} {
		if id.n != nil && (*id.n < 0 || *id.n > local.MaxID) {
			return wrong(id.param, "%d is not between 0 and %d", *id.n, int64(local.MaxID))
		}
	}
	if c.GID != nil && c.Group != "" {
		return wrong(gidField, "it can't be given together with group: both say which is the primary group")
	}
	if c.Group != "" {
		if err := local.CheckName(c.Group); err != nil {
			return wrong(groupField, "%q can't be the name of a group: %w", c.Group, err)
		}
	}
	for _, name := range c.Groups {
		if err := local.CheckName(name); err != nil {
			return wrong(groupsField, "%q can't be the name of a group: %w", name, err)
		}
	}
	for _, path := range [][2]string{{homedirField, c.Homedir}, {shellField, c.Shell}} {
		switch param, path := path[0], path[1]; {
		case path == "":
		case !filepath.IsAbs(path):
			return wrong(param, "%q is not an absolute path", path)
		case strings.ContainsAny(path, ":\n\r\x00"):
			return wrong(param, "%q has a colon, the end of a line or a zero byte in it, which the database of users can't hold", path)
		}
	}
	if c.AllowDuplicateUID && c.UID == nil {
		return &sinks.ParamError{Param: "allowduplicateuid", Err: errors.New("it is about the uid, which is missing")}
	}
	return nil
}

// Owns implements sinks.Owner.
func (u *user) Owns() []string { return []string{"user " + u.name} }

// Waits implements sinks.Waiter.
func (u *user) Waits() bool { return true }

// Announces implements sinks.Announcer.
func (u *user) Announces() {}

var (
	_ sinks.Owner     = (*user)(nil)
	_ sinks.Waiter    = (*user)(nil)
	_ sinks.Announcer = (*user)(nil)
)

// Watches implements sinks.Resource: also the tool, since it may be missing.
func (u *user) Watches() []sources.Watch {
	ws := []sources.Watch{inotify.Path(local.Passwd), inotify.Path(local.Useradd)}
	if !u.absent && (u.want.Group != "" || u.want.GID != nil || u.want.Groups != nil) {
		ws = append(ws, inotify.Path(local.GroupFile))
	}
	return ws
}
