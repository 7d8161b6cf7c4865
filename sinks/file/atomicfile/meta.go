package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Meta is the owner, group and mode of a file. -1 leaves one alone.
type Meta struct {
	UID, GID int
	Mode     int // the twelve permission bits
}

// Keep leaves all three alone.
var Keep = Meta{-1, -1, -1}

// String is m for a message: "0:-1 0644", where -1 is left alone.
func (m Meta) String() string {
	if m.Mode < 0 {
		return fmt.Sprintf("%d:%d", m.UID, m.GID)
	}
	return fmt.Sprintf("%d:%d %04o", m.UID, m.GID, m.Mode)
}

const permBits = 0o7777

// Differs reports whether the file that st describes is not as m wants it.
func (m Meta) Differs(st *unix.Stat_t) bool {
	return m.UID >= 0 && st.Uid != uint32(m.UID) ||
		m.GID >= 0 && st.Gid != uint32(m.GID) ||
		m.Mode >= 0 && st.Mode&permBits != uint32(m.Mode)
}

// Set gives what is at p, which st describes, the owner, group and mode of m. It fails
// if the system says yes but does something else (a set-group-ID bit for a group that
// is not ours, a filesystem without modes), since the event of that change would
// otherwise bring us here again for ever.
func (p Place) Set(m Meta, st *unix.Stat_t) error {
	if err := p.chown(m); err != nil {
		return err
	}
	if m.Mode >= 0 && (m.UID >= 0 || m.GID >= 0 || st.Mode&permBits != uint32(m.Mode)) {
		if err := p.chmod(uint32(m.Mode)); err != nil {
			return err
		}
	}
	var now unix.Stat_t
	if found, err := p.Stat(&now); err != nil || !found {
		return err
	}
	return p.verify(m, &now)
}

func (p Place) verify(m Meta, st *unix.Stat_t) error {
	if m.Differs(st) {
		return fmt.Errorf("%s: owner, group and mode were set to %s, but the system made them %d:%d %04o",
			p.Path, m, st.Uid, st.Gid, st.Mode&permBits)
	}
	return nil
}

func (p Place) chown(m Meta) error {
	if m.UID < 0 && m.GID < 0 {
		return nil
	}
	return p.Error("chown", unix.Fchownat(p.Dir, p.Name, m.UID, m.GID, unix.AT_SYMLINK_NOFOLLOW))
}

// chmod changes the mode but not that of a file which a link at p points to. Before
// Linux 6.6 only the way through /proc can promise that.
func (p Place) chmod(mode uint32) error {
	err := unix.Fchmodat(p.Dir, p.Name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.EOPNOTSUPP {
		return p.Error("chmod", err)
	}
	fd, err := unix.Openat(p.Dir, p.Name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return p.Error("chmod", err)
	}
	defer Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return p.Error("chmod", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return p.Error("chmod", unix.ELOOP)
	}
	return p.Error("chmod", unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode))
}

// dress gives the temporary file its owner, attributes and mode, in this order: a
// change of owner clears set-id bits, an access control list changes the group's bits.
func (t *Temp) dress(o Options) error {
	want := o.Meta
	mode := t.st.Mode & permBits
	if f := o.Found; f != nil {
		mode = f.Mode & permBits
		if want.UID < 0 {
			want.UID = int(f.Uid)
		}
		if want.GID < 0 {
			want.GID = int(f.Gid)
		}
	}
	owner, group, err := t.own(want, o.Meta)
	if err != nil {
		return err
	}
	// Permission bits were meant for the owner and group that they came with.
	if !owner {
		mode &^= unix.S_ISUID
	}
	if !group {
		mode = mode&^(unix.S_ISGID|0o070) | mode&0o007<<3
	}
	if o.Mode >= 0 {
		mode = uint32(o.Mode)
	}
	if o.Found != nil {
		if err := t.copyXattrs(); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(t.fd, mode); err != nil {
		return t.to.Error("chmod", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(t.fd, &st); err != nil {
		return t.to.Error("fstat", err)
	}
	return t.to.verify(o.Meta, &st)
}

// own sets owner and group. Those that are asked for must succeed; those that would
// only be taken over from the file before are given up if that is not permitted. It
// reports which of the two are as wanted.
func (t *Temp) own(want, asked Meta) (owner, group bool, err error) {
	owner = want.UID < 0 || t.st.Uid == uint32(want.UID)
	group = want.GID < 0 || t.st.Gid == uint32(want.GID)
	if !group {
		switch err := unix.Fchown(t.fd, -1, want.GID); {
		case err == nil:
			group = true
		case err != unix.EPERM || asked.GID >= 0:
			return owner, group, t.to.Error("chown", err)
		}
	}
	if !owner {
		switch err := unix.Fchown(t.fd, want.UID, -1); {
		case err == nil:
			owner = true
		case err != unix.EPERM || asked.UID >= 0:
			return owner, group, t.to.Error("chown", err)
		}
	}
	return owner, group, nil
}

const accessACL = "system.posix_acl_access"

// copyXattrs takes over the extended attributes of the file that is replaced, and drops
// an access control list which the directory gave the new file but the old one lacks.
func (t *Temp) copyXattrs() error {
	list := func(dest []byte) (int, error) { return unix.Llistxattr(t.to.Path, dest) }
	old, err := xattr(list)
	if err != nil {
		return t.to.Error("listxattr", err)
	}
	names := strings.Split(strings.TrimSuffix(string(old), "\x00"), "\x00")
	acl := false
	for _, name := range names {
		acl = acl || name == accessACL
		// A checksum of the old content is worse than none.
		if name == "" || name == "security.ima" || name == "security.evm" {
			continue
		}
		value, err := xattr(func(dest []byte) (int, error) { return unix.Lgetxattr(t.to.Path, name, dest) })
		if err == nil {
			err = unix.Fsetxattr(t.fd, name, value, 0)
		}
		// Labels and the like are for root, and the system has set its own already.
		system := !strings.HasPrefix(name, "user.") && name != accessACL
		if err != nil && !errors.Is(err, unix.ENODATA) && !(system && errors.Is(err, fs.ErrPermission)) {
			return t.to.Error("keeping the attribute "+name+" of", err)
		}
	}
	if _, err := unix.Fgetxattr(t.fd, accessACL, nil); err != nil || acl {
		return nil
	}
	return t.to.Error("removing the access control list of", unix.Fremovexattr(t.fd, accessACL))
}

// xattr calls f with a buffer that is large enough. A filesystem without attributes has
// none, and neither has a file that is gone.
func xattr(f func([]byte) (int, error)) ([]byte, error) {
	b := make([]byte, 256)
	for {
		n, err := f(b)
		switch {
		case err == nil:
			return b[:n], nil
		case errors.Is(err, unix.ERANGE):
			b = make([]byte, 2*len(b)+4096)
		case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT):
			return nil, nil
		default:
			return nil, err
		}
	}
}
