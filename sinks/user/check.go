package user

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/accounts/local"
)

// found is what there is of a user.
type found struct {
	local.User
	there  bool
	groups *local.Groups
	users  *local.Users
}

// look reads the databases.
func (u *user) look() (f found, err error) {
	if f.users, err = local.ReadUsers(); err != nil {
		return f, err
	}
	if f.groups, err = local.ReadGroups(); err != nil {
		return f, err
	}
	f.User, f.there = f.users.Named(u.name)
	return f, nil
}

// CheckApply implements sinks.Resource.
func (u *user) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	var f found
	var changes []sinks.Change
	look := func() (_ []sinks.Change, err error) {
		if f, err = u.look(); err != nil {
			return nil, err
		}
		changes = u.differences(f)
		return changes, nil
	}
	out, err := local.Converge(apply, look, func() error { return u.change(ctx, f, changes) })
	if err == nil && f.there && (apply || !out.Changed) {
		out.Values = u.values(f.User)
	}
	return out, err
}

// The parameters that can differ.
const (
	stateField   = "state"
	uidField     = "uid"
	gidField     = "gid"
	groupField   = "group"
	groupsField  = "groups"
	homedirField = "homedir"
	shellField   = "shell"
)

// differences are those between the user that was found and the desired one. Of a user
// that is not there, nothing is as desired.
func (u *user) differences(f found) []sinks.Change {
	switch {
	case u.absent && f.there:
		return []sinks.Change{{Field: stateField, From: exists, To: absent}}
	case u.absent:
		return nil
	}
	var changes []sinks.Change
	differs := func(field, from, to string) {
		if !f.there {
			from = ""
		} else if from == to {
			return
		}
		changes = append(changes, sinks.Change{Field: field, From: from, To: to})
	}
	if !f.there {
		changes = append(changes, sinks.Change{Field: stateField, From: absent, To: exists})
	}
	if u.want.UID != nil {
		differs(uidField, number(f.UID), number(*u.want.UID))
	}
	if u.want.GID != nil {
		differs(gidField, number(f.GID), number(*u.want.GID))
	}
	if u.want.Group != "" {
		differs(groupField, u.primary(f), u.want.Group)
	}
	if u.want.Groups != nil {
		differs(groupsField, strings.Join(f.groups.Of(u.name), ","), strings.Join(u.want.Groups, ","))
	}
	if u.want.Homedir != "" {
		differs(homedirField, clean(f.Home), u.want.Homedir)
	}
	if u.want.Shell != "" {
		differs(shellField, clean(f.Shell), u.want.Shell)
	}
	return changes
}

// primary is the name of the primary group that was found, or its number if it has no name.
func (u *user) primary(f found) string {
	if g, ok := f.groups.Named(u.want.Group); ok && g.GID == f.GID {
		return g.Name // of several with that number
	}
	if name := f.groups.Holder(f.GID); name != "" {
		return name
	}
	return number(f.GID)
}

// clean is a path as it is compared.
func clean(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Clean(path)
}

// change runs the tool that makes the differences.
func (u *user) change(ctx context.Context, f found, changes []sinks.Change) error {
	tool, args, err := u.command(f, changes)
	if err != nil {
		return err
	}
	if err := sinks.BeforeChange(ctx); err != nil {
		return err
	}
	return local.Elsewhere(local.Run(ctx, u.opts.Logger(), tool, args...), local.Passwd)
}

// command is the tool that makes the differences, and its arguments. What it would refuse
// for a reason that is seen here is an error.
func (u *user) command(f found, changes []sinks.Change) (tool string, args []string, err error) {
	tool = local.Usermod
	switch {
	case u.absent:
		return local.Userdel, []string{"--", u.name}, nil
	case !f.there:
		tool = local.Useradd
		args = append(args, "--no-create-home") // whatever the system is set up for
		if u.want.GID == nil && u.want.Group == "" {
			if _, own := f.groups.Named(u.name); own {
				args = append(args, "--gid", u.name) // or it refuses to make it
			}
		}
	}
	for _, c := range changes {
		switch c.Field {
		case uidField:
			holder := f.users.Holder(*u.want.UID)
			if holder != "" && !u.want.AllowDuplicateUID {
				return "", nil, fmt.Errorf("the uid %s is that of the user %s already: choose another one, or set allowduplicateuid", c.To, holder)
			}
			args = append(args, "--uid", c.To)
			if holder != "" {
				args = append(args, "--non-unique")
			}
		case gidField:
			if f.groups.Holder(*u.want.GID) == "" {
				return "", nil, fmt.Errorf("there is no group with the gid %s on this host: make it first, by a resource group", c.To)
			}
			args = append(args, "--gid", c.To)
		case groupField:
			if err := u.known(f, u.want.Group); err != nil {
				return "", nil, err
			}
			args = append(args, "--gid", c.To)
		case groupsField:
			if err := u.known(f, u.want.Groups...); err != nil {
				return "", nil, err
			}
			args = append(args, "--groups", c.To)
		case homedirField:
			args = append(args, homeFlag(tool), c.To)
		case shellField:
			args = append(args, "--shell", c.To)
		}
	}
	return tool, append(args, "--", u.name), nil
}

// homeFlag differs between the tools.
func homeFlag(tool string) string {
	if tool == local.Usermod {
		return "--home"
	}
	return "--home-dir"
}

// known is an error if there is no such group.
func (u *user) known(f found, groups ...string) error {
	missing := slices.DeleteFunc(slices.Clone(groups), func(name string) bool {
		_, there := f.groups.Named(name)
		return there
	})
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("there is no group %s on this host: make it first, by a resource group", strings.Join(missing, " and no group "))
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
