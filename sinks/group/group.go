// Package group manages one group of users of this host: that it is there and with which
// number, or that it is not.
package group

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/accounts/local"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "group".
var Spec = sinks.Spec{Kind: "group", New: func() sinks.Config { return &Config{State: exists} }}

// Config is the desired state of a group. Its name is that of the resource.
//
// The group is one of this host, in /etc/group: what comes from elsewhere, such as LDAP, is
// neither seen nor changed. The tools of the system make the changes (groupadd, groupmod,
// groupdel), which needs root. While another process has the databases of accounts locked,
// the resource waits, and says so.
//
// Who is in the group is said by the users: see groups of the kind user.
type Config struct {
	// State is "exists" or "absent". The primary group of a user can't be removed.
	State string `param:"state" oneof:"exists absent"`

	// GID is the number of the group. Without it a new group gets the next free one, and
	// one that is there keeps what it has. When the number changes, users whose primary
	// group it is follow, but files keep the old one.
	GID *int64 `param:"gid"`
}

const (
	exists = "exists"
	absent = "absent"
)

// group is a resource of this kind.
type group struct {
	name   string
	absent bool
	gid    *int64
	sends  []string
	opts   sinks.Options
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	if err := local.CheckName(name); err != nil {
		return nil, fmt.Errorf("%q can't be the name of a group: %w", name, err)
	}
	switch {
	case c.State != "" && c.State != exists && c.State != absent:
		return nil, &sinks.ParamError{Param: "state", Err: fmt.Errorf("%q is neither exists nor absent", c.State)}
	case c.GID != nil && (*c.GID < 0 || *c.GID > local.MaxID):
		return nil, &sinks.ParamError{Param: "gid", Err: fmt.Errorf("%d is not between 0 and %d", *c.GID, int64(local.MaxID))}
	case c.State == absent && len(opts.Sends) > 0:
		return nil, errors.New("the group is absent, and has no gid to send")
	}
	g := &group{name: name, absent: c.State == absent, sends: opts.Sends, opts: opts}
	if !g.absent && c.GID != nil {
		g.gid = new(*c.GID)
	}
	return g, nil
}

// Owns implements sinks.Owner.
func (g *group) Owns() []string { return []string{"group " + g.name} }

// Waits implements sinks.Waiter.
func (g *group) Waits() bool { return true }

// Announces implements sinks.Announcer.
func (g *group) Announces() {}

var (
	_ sinks.Owner     = (*group)(nil)
	_ sinks.Waiter    = (*group)(nil)
	_ sinks.Announcer = (*group)(nil)
)

// Watches implements sinks.Resource: also the tool, since it may be missing, and for a
// group that can't be removed the users, who may leave it.
func (g *group) Watches() []sources.Watch {
	ws := []sources.Watch{inotify.Path(local.GroupFile), inotify.Path(local.Groupadd)}
	if g.absent {
		ws = append(ws, inotify.Path(local.Passwd))
	}
	return ws
}

// CheckApply implements sinks.Resource.
func (g *group) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	var groups *local.Groups
	var found local.Group
	var there bool
	look := func() (_ []sinks.Change, err error) {
		if groups, err = local.ReadGroups(); err != nil {
			return nil, err
		}
		found, there = groups.Named(g.name)
		return g.differences(found, there), nil
	}
	out, err := local.Converge(apply, look, func() error { return g.change(ctx, groups, there) })
	if err == nil && there && (apply || !out.Changed) {
		out.Values = g.values(found)
	}
	return out, err
}

// differences are those between the group that was found and the desired one.
func (g *group) differences(found local.Group, there bool) []sinks.Change {
	var changes []sinks.Change
	switch {
	case g.absent && there:
		return []sinks.Change{{Field: "state", From: exists, To: absent}}
	case g.absent:
		return nil
	case !there:
		changes = append(changes, sinks.Change{Field: "state", From: absent, To: exists})
		if g.gid != nil {
			changes = append(changes, sinks.Change{Field: "gid", To: number(*g.gid)})
		}
	case g.gid != nil && *g.gid != found.GID:
		changes = append(changes, sinks.Change{Field: "gid", From: number(found.GID), To: number(*g.gid)})
	}
	return changes
}

// change runs the tool that makes the difference.
func (g *group) change(ctx context.Context, groups *local.Groups, there bool) error {
	tool, args := local.Groupadd, []string(nil)
	switch {
	case g.absent:
		tool = local.Groupdel
	case there:
		tool = local.Groupmod
	}
	if g.gid != nil {
		if holder := groups.Holder(*g.gid); holder != "" {
			return fmt.Errorf("the gid %d is that of the group %s already: choose another one", *g.gid, holder)
		}
		args = append(args, "--gid", number(*g.gid))
	}
	if err := sinks.BeforeChange(ctx); err != nil {
		return err
	}
	err := local.Run(ctx, g.opts.Logger(), tool, append(args, "--", g.name)...)
	return local.Elsewhere(err, local.GroupFile)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
