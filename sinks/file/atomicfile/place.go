// Package atomicfile reads and replaces files so that whoever looks at one sees the old
// content or the new, never a part of it, and so that no symbolic link is followed on
// the way to the file itself. It calls the system directly: an os.File costs an attempt
// to register with the network poller each time, which counts when a graph holds ten
// thousand files.
package atomicfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

var euid = uint32(os.Geteuid())

// Place is where a file is or shall be: a name below an open directory. An operation on
// a Place never follows a symbolic link that bears the name itself.
type Place struct {
	Dir  int    // an open directory, or unix.AT_FDCWD
	Name string // relative to Dir
	Path string // the whole path, for messages
}

// Clean returns path without superfluous slashes and dots, or says why a resource can't
// manage it: it must be absolute, and may not go up, since where that leads depends on
// links. It looks at the text only.
func Clean(path string) (string, error) {
	switch {
	case strings.ContainsRune(path, 0):
		return "", fmt.Errorf("path %q contains a zero byte", path)
	case !strings.HasPrefix(path, "/"):
		return "", fmt.Errorf("path %q is not absolute", path)
	case strings.Contains(path+"/", "/../"):
		return "", fmt.Errorf("path %q goes up with .., so where it leads depends on links: write it out", path)
	}
	return filepath.Clean(path), nil
}

// At is the place of an absolute path.
func At(path string) Place { return Place{unix.AT_FDCWD, path, path} }

// Entry is the place of name in the directory p, which is open as dir.
func (p Place) Entry(dir int, name string) Place {
	return Place{dir, name, strings.TrimSuffix(p.Path, "/") + "/" + name}
}

// Error is err as an error of the operation op on p: an *fs.PathError, or nil.
func (p Place) Error(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: p.Path, Err: err}
}

// Stat describes what is at p: a link itself, not what it points to. It reports false
// if nothing is there, as when a parent is missing; a parent that is no directory is an
// error.
func (p Place) Stat(st *unix.Stat_t) (bool, error) {
	for {
		switch err := unix.Fstatat(p.Dir, p.Name, st, unix.AT_SYMLINK_NOFOLLOW); err {
		case nil:
			return true, nil
		case unix.EINTR:
		case unix.ENOENT:
			return false, nil
		default:
			return false, p.Error("lstat", err)
		}
	}
}

// Open opens p for reading and returns a descriptor for the caller to close. Flags are
// added to O_RDONLY, O_NONBLOCK, which keeps a named pipe from blocking, and O_CLOEXEC.
// A link is refused with ELOOP unless follow is set. The access time stays as it is if
// we may ask for that; owner, the file's, spares an attempt that would fail.
func (p Place) Open(flags int, follow bool, owner uint32) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	if euid == 0 || owner == euid {
		flags |= unix.O_NOATIME
	}
	for {
		fd, err := unix.Openat(p.Dir, p.Name, flags, 0)
		switch {
		case err == nil:
			return fd, nil
		case err == unix.EINTR:
		case err == unix.EPERM && flags&unix.O_NOATIME != 0:
			flags &^= unix.O_NOATIME
		default:
			return -1, p.Error("open", err)
		}
	}
}

// Readlink returns the target of the link at p.
func (p Place) Readlink() (string, error) {
	for size := 256; ; size *= 2 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(p.Dir, p.Name, b)
		if err != nil {
			return "", p.Error("readlink", err)
		}
		if n < size {
			return string(b[:n]), nil
		}
	}
}

// Unlink removes what is at p, unless it is a directory. Nothing there is success.
func (p Place) Unlink() error {
	if err := unix.Unlinkat(p.Dir, p.Name, 0); err != nil && err != unix.ENOENT {
		return p.Error("remove", err)
	}
	return nil
}

// Rmdir removes the empty directory at p. Nothing there is success.
func (p Place) Rmdir() error {
	if err := unix.Unlinkat(p.Dir, p.Name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return p.Error("remove", err)
	}
	return nil
}

// Mounted reports whether another filesystem, or another part of this one, is mounted
// at p.
func (p Place) Mounted() (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(p.Dir, p.Name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, p.Error("statx", err)
}

// Close closes a descriptor that was read from, or whose file is given up: then a failure
// means nothing.
func Close(fd int) { _ = unix.Close(fd) }

// Read fills b from fd as far as the file goes, and returns how much that was.
func Read(fd int, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		switch m, err := unix.Read(fd, b[n:]); {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}
