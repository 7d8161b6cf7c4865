package process

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// identity is who a command runs as.
type identity struct {
	credential *syscall.Credential // nil is who we are
	env        map[string]string   // what goes with the user
}

// identify looks up the names or numbers of a user and a group, either of which may be
// empty.
func identify(userName, groupName string) (identity, error) {
	var id identity
	if userName == "" && groupName == "" {
		return id, nil
	}
	c := &syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid()), NoSetGroups: true}
	if userName != "" {
		u, err := lookupUser(userName)
		if err != nil {
			return id, err
		}
		if u.Gid == "" && groupName == "" {
			return id, fmt.Errorf("user %s is not in the user database: give a group too", userName)
		}
		if c.Uid, err = number(u.Uid); err != nil {
			return id, err
		}
		c.NoSetGroups = false
		if u.Gid != "" {
			if err := primary(c, u); err != nil {
				return id, err
			}
			id.env = map[string]string{"HOME": u.HomeDir, "USER": u.Username, "LOGNAME": u.Username}
		}
	}
	if groupName != "" {
		gid, err := lookupGroup(groupName)
		if err != nil {
			return id, err
		}
		c.Gid = gid
	}
	if os.Geteuid() != 0 && int(c.Uid) == os.Geteuid() && int(c.Gid) == os.Getegid() {
		return id, nil // nothing to switch, and only root may set groups
	}
	id.credential = c
	return id, nil
}

// primary sets the group of a user who is in the database, and the supplementary ones.
func primary(c *syscall.Credential, u *user.User) (err error) {
	if c.Gid, err = number(u.Gid); err != nil {
		return err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("looking up the groups of user %s: %w", u.Username, err)
	}
	for _, s := range ids {
		gid, err := number(s)
		if err != nil {
			return err
		}
		c.Groups = append(c.Groups, gid)
	}
	return nil
}

// lookupUser finds a user by name or else by number. For a number that nobody has, it
// returns a user who has no more than that.
func lookupUser(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if !errors.As(err, &unknown) {
		return u, err
	}
	if _, e := number(name); e != nil {
		return nil, fmt.Errorf("there is no user %q", name)
	}
	u, err = user.LookupId(name)
	var nobody user.UnknownUserIdError
	if errors.As(err, &nobody) {
		return &user.User{Uid: name}, nil
	}
	return u, err
}

// lookupGroup finds a group by name or else by number, which may be one that no group has.
func lookupGroup(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	var unknown user.UnknownGroupError
	switch {
	case err == nil:
		return number(g.Gid)
	case !errors.As(err, &unknown):
		return 0, err
	}
	gid, e := number(name)
	if e != nil {
		return 0, fmt.Errorf("there is no group %q", name)
	}
	return gid, nil
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
