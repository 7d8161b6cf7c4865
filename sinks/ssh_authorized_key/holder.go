package sshauthorizedkey

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/accounts"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// passwd is the database of users.
const passwd = "/etc/passwd"

// errNoUser says that the user does not exist.
var errNoUser = errors.New("there is no such user")

// byName looks up a user. Tests have users of their own.
var byName = accounts.Lookup

// holder is whose file it is, and where. Without a user, uid and gid are -1.
type holder struct {
	uid, gid int
	path     string
}

// meta is the owner and mode that something of the holder has; Keep without a user.
func (h holder) meta(mode int) atomicfile.Meta {
	if h.uid < 0 {
		return atomicfile.Keep
	}
	return atomicfile.Meta{UID: h.uid, GID: -1, Mode: mode}
}

// holder looks up the user.
func (k *authorizedKey) holder() (holder, error) {
	h := holder{uid: -1, gid: -1, path: k.file}
	if k.user == "" {
		return h, nil
	}
	find := byName
	if strings.Trim(k.user, "0123456789") == "" { // a number is never taken for a name
		find = accounts.LookupID
	}
	u, err := find(k.user)
	_, unknown := errors.AsType[user.UnknownUserError](err)
	if _, unknownID := errors.AsType[user.UnknownUserIdError](err); unknown || unknownID {
		return h, fmt.Errorf("looking up the user %q: %w on this host", k.user, errNoUser)
	}
	if err != nil {
		return h, fmt.Errorf("looking up the user %q: %w", k.user, err)
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 31)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 31)
	if err := errors.Join(errUID, errGID); err != nil {
		return h, fmt.Errorf("looking up the user %q: %w", k.user, err)
	}
	h.uid, h.gid = int(uid), int(gid)
	if h.path == "" {
		home, err := atomicfile.Clean(u.HomeDir)
		if err != nil {
			return h, fmt.Errorf("the home directory of the user %q: %w", k.user, err)
		}
		h.path = filepath.Join(home, ".ssh", "authorized_keys")
	}
	return h, nil
}

// enter opens the directory at path, which is absolute and clean. It follows links as
// enterNext does.
func enter(path string) (int, error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	defer atomicfile.Close(root)
	return enterNext(root, strings.TrimPrefix(path, "/"), path)
}

// enterNext opens the directory at name, which is relative to the directory from. It
// follows no symbolic link of an owner who could lead us where he may not go himself.
// Whole is the path for messages. From stays open.
func enterNext(from int, name, whole string) (int, error) {
	const flags = unix.O_PATH | unix.O_CLOEXEC
	failed := func(err error) (int, error) { return -1, &fs.PathError{Op: "open", Path: whole, Err: err} }
	dir, err := unix.Openat(from, ".", flags|unix.O_DIRECTORY, 0)
	if err != nil {
		return failed(err)
	}
	defer func() { atomicfile.Close(dir) }()
	links := 0
	for steps := strings.Split(name, "/"); len(steps) > 0; {
		step := steps[0]
		steps = steps[1:]
		if step == "" {
			continue
		}
		next, err := unix.Openat(dir, step, flags|unix.O_NOFOLLOW, 0)
		if err != nil {
			return failed(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(next, &st); err != nil {
			atomicfile.Close(next)
			return failed(err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			atomicfile.Close(dir)
			dir = next
			continue
		}
		target, err := atomicfile.Place{Dir: next, Path: whole}.Readlink()
		atomicfile.Close(next)
		if err != nil {
			return -1, err
		}
		if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return -1, fmt.Errorf("%s: %q is a symbolic link that belongs to user %d, so it is not followed: give the path that it leads to as file", whole, step, st.Uid)
		}
		if links++; links > 40 {
			return failed(unix.ELOOP)
		}
		if strings.HasPrefix(target, "/") {
			top, err := unix.Open("/", flags|unix.O_DIRECTORY, 0)
			if err != nil {
				return failed(err)
			}
			atomicfile.Close(dir)
			dir = top
		}
		steps = append(strings.Split(target, "/"), steps...)
	}
	fd, err := unix.Openat(dir, ".", flags|unix.O_DIRECTORY, 0)
	if err != nil {
		return failed(err)
	}
	return fd, nil
}
