package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Prefix begins the name of every temporary file; sixteen hexadecimal digits follow.
const Prefix = ".mgmt-"

// chunk is how many bytes move between two looks at the context.
const chunk = 1 << 20

// Options say what a new file is like beside its content.
type Options struct {
	// Meta is the owner, group and mode. What it leaves alone is taken over from
	// Found, or is as for any file that this process creates.
	Meta

	// Found describes the regular file that is replaced; nil if there is none, or if
	// nothing of it shall be kept. Extended attributes are kept as well: access control
	// lists, labels, capabilities.
	Found *unix.Stat_t

	// Only has Replace fail with ErrChanged if the file is not the one any more that
	// Found describes, or, without Found, if there is one. So an edit does not undo one
	// that somebody else has made since the file was read, except by writing into the
	// old file later than the rename. Without support by the filesystem (NFS, FAT) the
	// other edit may also fall into the instant before the rename.
	Only bool

	// Perm is the mode, less the umask, of a file where none was. 0 stands for 0666.
	Perm uint32

	// Durable makes file and directory survive a power cut, which takes a while.
	Durable bool

	// Parents makes the directories that lead to the file if they are missing, with
	// mode 0755 less the umask. It needs a Place with an absolute path.
	Parents bool
}

// ErrChanged says that somebody else was quicker.
var ErrChanged = errors.New("the file has changed meanwhile")

// Replace puts a file at p whose content fill writes. The file is written under a
// temporary name in the same directory and renamed when it is complete: until then, and
// if anything fails or ctx ends, what was at p stays. A link at p is replaced, not
// followed. A temporary file that a killed process left behind is reused.
func Replace(ctx context.Context, p Place, o Options, fill func(*Temp) error) error {
	return withParents(p, o.Parents, func() error { return replace(ctx, p, o, fill) })
}

// Symlink puts a symbolic link to target at p, in place of any file or link there.
// Owner and group are those of meta.
func Symlink(p Place, target string, o Options) error {
	return withParents(p, o.Parents, func() error { return symlink(p, target, o) })
}

// withParents calls make again after it has made the missing parents of p. Since
// somebody may be removing them right now, it tries three times.
func withParents(p Place, parents bool, put func() error) error {
	err := put()
	for range 3 {
		if !parents || !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err := os.MkdirAll(filepath.Dir(p.Path), 0o755); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		err = put()
	}
	return err
}

// Mkdir makes a directory at p with mode perm less the umask, and with parents those
// that lead to it, as Options.Parents says.
func (p Place) Mkdir(perm uint32, parents bool) error {
	return withParents(p, parents, func() error { return p.Error("mkdir", unix.Mkdirat(p.Dir, p.Name, perm)) })
}

func replace(ctx context.Context, p Place, o Options, fill func(*Temp) error) error {
	perm := o.Perm
	switch {
	case o.Found != nil || o.Mode >= 0:
		perm = 0o600 // nobody may read it before it has its owner and mode
	case perm == 0:
		perm = 0o666
	}
	name := tempName(p, "file ")
	if o.Only {
		name = tempName(p, "edit ") // only touched by those who hold the lock
		fd, err := lockDir(ctx, p)
		if err != nil {
			return err
		}
		defer Close(fd)
	}
	t, err := create(ctx, p, name, perm)
	if err != nil {
		return err
	}
	defer t.close()
	if err := fill(t); err != nil {
		return err
	}
	if o.Found != nil || o.Meta != Keep {
		if err := t.dress(o); err != nil {
			return err
		}
	}
	if o.Durable {
		if err := unix.Fsync(t.fd); err != nil {
			return p.Error("fsync", err)
		}
	}
	// A network filesystem tells at close that it could not store the data. The
	// descriptor itself stays open, since it holds the lock until the rename is done.
	if fd, err := unix.FcntlInt(uintptr(t.fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		if err := unix.Close(fd); err != nil && err != unix.EINTR {
			return p.Error("write", err)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	put := t.rename
	if o.Only {
		put = func() error { return t.exchange(o.Found) }
	}
	if err := put(); err != nil {
		return err
	}
	if o.Durable {
		return p.Sync()
	}
	return nil
}

// A Temp is the temporary file that will be the new one.
type Temp struct {
	ctx  context.Context
	to   Place
	name string // relative to to.Dir; empty after the rename
	fd   int
	st   unix.Stat_t // as it was created
}

// create makes the temporary file of p. Its name follows from that of p, so that a
// later attempt finds what a killed process has left. The lock tells such a leftover
// from a file that another process is writing.
func create(ctx context.Context, p Place, name string, perm uint32) (*Temp, error) {
	for {
		fd, err := unix.Openat(p.Dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EEXIST:
			if !removeStale(p.Dir, name) {
				name = randomName(p)
			}
			continue
		case err != nil:
			return nil, fmt.Errorf("creating a temporary file in %s: %w", filepath.Dir(p.Path), err)
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK {
			Close(fd) // somebody took it for stale in this instant, and removes it
			name = randomName(p)
			continue
		}
		t := &Temp{ctx: ctx, to: p, name: name, fd: fd}
		if err := unix.Fstat(fd, &t.st); err != nil {
			t.close()
			return nil, p.Error("fstat", err)
		}
		if t.st.Nlink == 0 { // or has removed it already
			Close(fd)
			continue
		}
		return t, nil
	}
}

// tempName is the temporary name that belongs to p, and to what: since links can't be
// locked, they have names of their own.
func tempName(p Place, what string) string {
	dir, base := split(p.Name)
	h := fnv.New64a()
	h.Write([]byte(what + base))
	return fmt.Sprintf("%s%s%016x", dir, Prefix, h.Sum64())
}

func randomName(p Place) string {
	dir, _ := split(p.Name)
	return fmt.Sprintf("%s%s%016x", dir, Prefix, rand.Uint64())
}

func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/') + 1
	return name[:i], name[i:]
}

// IsTemp reports whether name, without directory, is that of a temporary file.
func IsTemp(name string) bool {
	digits, ok := strings.CutPrefix(name, Prefix)
	return ok && len(digits) == 16 && strings.Trim(digits, "0123456789abcdef") == ""
}

// Stale reports whether the temporary file at p belongs to nobody any more. It says so
// of every link, since whoever makes one can stand its loss.
func Stale(p Place) bool {
	if linked(p.Dir, p.Name) {
		return true
	}
	fd, s := lock(p.Dir, p.Name)
	if fd >= 0 {
		Close(fd)
	}
	return s != busy
}

// linked reports whether name is a symbolic link.
func linked(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// removeStale removes the temporary file of that name if no process holds it, and
// reports whether the name is free.
func removeStale(dir int, name string) bool {
	fd, s := lock(dir, name)
	if fd >= 0 {
		defer Close(fd)
	}
	if s == left {
		_ = unix.Unlinkat(dir, name, 0)
	}
	return s != busy
}

// state is what can be said of a temporary file.
type state int

const (
	busy state = iota // somebody writes it, or may do so
	left              // nobody does, and nobody will as long as we hold its lock
	gone              // the name is free, or was for a moment: it must not be removed
)

// lock looks at the temporary file of that name, and returns the descriptor that holds
// its lock, or -1.
func lock(dir int, name string) (int, state) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case err == unix.ENOENT:
		return -1, gone
	case err != nil:
		return -1, busy
	}
	var held, named unix.Stat_t
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil ||
		unix.Fstat(fd, &held) != nil || held.Mode&unix.S_IFMT != unix.S_IFREG {
		return fd, busy
	}
	switch err := unix.Fstatat(dir, name, &named, unix.AT_SYMLINK_NOFOLLOW); {
	case err == unix.ENOENT || err == nil && (held.Ino != named.Ino || held.Dev != named.Dev):
		return fd, gone // it has been renamed
	case err != nil:
		return fd, busy
	}
	return fd, left
}

// close ends t, and removes the file unless it has been renamed.
func (t *Temp) close() {
	if t.name != "" {
		_ = unix.Unlinkat(t.to.Dir, t.name, 0)
	}
	Close(t.fd)
}

func (t *Temp) rename() error {
	if err := unix.Renameat(t.to.Dir, t.name, t.to.Dir, t.to.Name); err != nil {
		return renameError(t.to, err)
	}
	t.name = ""
	return nil
}

// lockWait is how long an edit waits for others in the same directory.
const lockWait = 10 * time.Second

// lockDir waits until no other edit goes on in the directory of p, in any process, and
// returns the descriptor that holds the lock. Where there are no locks, it needs none.
func lockDir(ctx context.Context, p Place) (int, error) {
	fd, err := p.openDir()
	if err != nil {
		return -1, err
	}
	for wait, waited := time.Millisecond, time.Duration(0); ; wait = min(2*wait, 50*time.Millisecond) {
		if !errors.Is(unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
			return fd, nil
		}
		select {
		case <-time.After(wait):
			waited += wait
		case <-ctx.Done():
			Close(fd)
			return -1, context.Cause(ctx)
		}
		if waited > lockWait {
			Close(fd)
			return -1, fmt.Errorf("another process has locked the directory of %s for more than %v", p.Path, lockWait)
		}
	}
}

// exchange puts the file in place of the one that found describes, and of no other: the
// two swap their names, so that what has been replaced can be looked at and, if need
// be, put back. The lock keeps out those who would take what is there in between for
// the truth, and swap it with theirs.
func (t *Temp) exchange(found *unix.Stat_t) error {
	p := t.to
	if found == nil {
		switch err := unix.Renameat2(p.Dir, t.name, p.Dir, p.Name, unix.RENAME_NOREPLACE); {
		case err == nil:
			t.name = ""
			return nil
		case errors.Is(err, unix.EEXIST):
			return ErrChanged
		case !unsupported(err):
			return renameError(p, err)
		}
		return t.renameIf(nil)
	}
	swap := func() error { return unix.Renameat2(p.Dir, t.name, p.Dir, p.Name, unix.RENAME_EXCHANGE) }
	switch err := swap(); {
	case err == nil:
	case errors.Is(err, unix.ENOENT):
		return ErrChanged
	case unsupported(err):
		return t.renameIf(found)
	default:
		return renameError(p, err)
	}
	var old unix.Stat_t
	if there, err := p.sibling(t.name).Stat(&old); err != nil || there && !same(found, &old) {
		if err := swap(); err != nil {
			return renameError(p, err)
		}
		return ErrChanged
	}
	return nil // close removes the old file
}

// unsupported reports whether the system or filesystem knows no kinds of rename.
func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)
}

// renameIf is exchange where the filesystem can't do it: it looks, and then renames.
func (t *Temp) renameIf(found *unix.Stat_t) error {
	var now unix.Stat_t
	switch there, err := t.to.Stat(&now); {
	case err != nil:
		return err
	case there != (found != nil) || there && !same(found, &now):
		return ErrChanged
	}
	return t.rename()
}

// same reports whether both describe the same file with the same content. A rename
// changes the time of the last change of status, so that one is left out.
func same(a, b *unix.Stat_t) bool {
	return a.Ino == b.Ino && a.Dev == b.Dev && a.Size == b.Size && a.Mtim == b.Mtim &&
		a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid
}

func renameError(p Place, err error) error {
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%s is a mount point, so it can't be replaced: %w", p.Path, err)
	}
	return p.Error("rename to", err)
}

// Write appends b. It fails with the cause of the context when that is done.
func (t *Temp) Write(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		if t.ctx.Err() != nil {
			return n, context.Cause(t.ctx)
		}
		m, err := unix.Write(t.fd, b[n:min(len(b), n+chunk)])
		if err != nil && err != unix.EINTR {
			return n, t.to.Error("write", err)
		}
		n += max(m, 0)
	}
	return n, nil
}

// Copy appends what is left to read of the file fd, which path names in errors. The
// kernel moves the data where it can, and shares it where the filesystem can.
func (t *Temp) Copy(fd int, path string) error {
	for moved := false; ; moved = true {
		if t.ctx.Err() != nil {
			return context.Cause(t.ctx)
		}
		n, err := unix.CopyFileRange(fd, nil, t.fd, nil, chunk, 0)
		switch {
		case err == unix.EINTR:
		case n == 0 && err == nil && moved:
			return nil
		case err != nil || n == 0: // not supported here, or a file of /proc that seems empty
			return t.copyPlain(fd, path)
		}
	}
}

func (t *Temp) copyPlain(fd int, path string) error {
	b := make([]byte, 64<<10)
	for {
		n, err := Read(fd, b)
		if err != nil {
			return &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return nil
		}
		if _, err := t.Write(b[:n]); err != nil {
			return err
		}
	}
}

func symlink(p Place, target string, o Options) error {
	err := putLink(p, tempName(p, "link "), target, o)
	for range 3 { // somebody who makes the same link may take ours for left over
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		err = putLink(p, randomName(p), target, o)
	}
	if err == nil && o.Durable {
		err = p.Sync()
	}
	return err
}

// putLink makes a link of the temporary name and renames it.
func putLink(p Place, name, target string, o Options) error {
	err := unix.Symlinkat(target, p.Dir, name)
	if errors.Is(err, unix.EEXIST) {
		if linked(p.Dir, name) { // left over, or of somebody who then tries again
			_ = unix.Unlinkat(p.Dir, name, 0)
		}
		name = randomName(p)
		err = unix.Symlinkat(target, p.Dir, name)
	}
	if err != nil {
		return fmt.Errorf("creating a temporary link in %s: %w", filepath.Dir(p.Path), err)
	}
	err = p.sibling(name).chown(o.Meta)
	if err == nil {
		if err = unix.Renameat(p.Dir, name, p.Dir, p.Name); err == nil {
			return nil
		}
		err = renameError(p, err)
	}
	_ = unix.Unlinkat(p.Dir, name, 0)
	return err
}

// sibling is the place of another name in the directory of p.
func (p Place) sibling(name string) Place {
	_, base := split(name)
	return Place{p.Dir, name, filepath.Dir(p.Path) + "/" + base}
}

// Sync makes the last change in the directory of p survive a power cut.
func (p Place) Sync() error {
	fd, err := p.openDir()
	if err != nil {
		return err
	}
	defer Close(fd)
	return p.Error("fsync directory of", unix.Fsync(fd))
}

func (p Place) openDir() (int, error) {
	dir, _ := split(p.Name)
	if dir == "" {
		dir = "."
	}
	fd, err := unix.Openat(p.Dir, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, p.Error("open directory of", err)
}
