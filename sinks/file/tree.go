package file

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// tree is a directory that is managed with what is in it.
type tree struct {
	*file
	spare atomic.Pointer[spared]
}

// spared is what other resources manage: a tree leaves it alone.
type spared struct {
	below []string            // paths below the tree, sorted
	named map[string][]string // all paths, by their last element
}

// Siblings implements sinks.SiblingAware.
func (t *tree) Siblings(names []string) bool {
	s := &spared{named: map[string][]string{}}
	for _, name := range names {
		path, ok := strings.CutPrefix(name, "path ")
		if !ok || path == t.path {
			continue
		}
		if within(path, t.path) {
			s.below = append(s.below, path)
		}
		base := filepath.Base(path)
		s.named[base] = append(s.named[base], path)
	}
	slices.Sort(s.below)
	s.below = slices.Compact(s.below)
	before := t.spare.Swap(s)
	return before == nil && len(s.below) > 0 || before != nil && !slices.Equal(before.below, s.below)
}

// CheckApply implements sinks.Resource.
func (t *tree) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return t.checkApply(ctx, apply, t.spare.Load())
}

// managed reports whether somebody else manages path.
func (s *spared) managed(path string) bool {
	if s == nil {
		return false
	}
	_, ok := slices.BinarySearch(s.below, path)
	return ok
}

// aliased reports whether somebody else manages what is at p under another path that
// leads there through links.
func (s *spared) aliased(p atomicfile.Place, st *unix.Stat_t) bool {
	if s == nil {
		return false
	}
	for _, path := range s.named[filepath.Base(p.Path)] {
		var other unix.Stat_t
		if unix.Lstat(path, &other) == nil && other.Ino == st.Ino && other.Dev == st.Dev {
			return true
		}
	}
	return false
}

// first returns a path below dir that somebody else manages.
func (s *spared) first(dir string) (string, bool) {
	if s == nil {
		return "", false
	}
	i, _ := slices.BinarySearch(s.below, dir+"/")
	if i == len(s.below) || !within(s.below[i], dir) {
		return "", false
	}
	return s.below[i], true
}

// directory has a directory at p, and in it what is asked for.
func (f *file) directory(c *check, p atomicfile.Place, found *unix.Stat_t) error {
	if !f.create && found.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%s is a %s, but a directory is expected: leave out the slash if it is meant", p.Path, kindOf(found.Mode))
	}
	var visit func(dst int, have []string) error
	perm := uint32(0o755)
	switch {
	case f.source != "":
		st, err := statSource(f.source)
		if err != nil {
			return err
		}
		from := atomicfile.At(f.source)
		src, names, err := open(from, true, st.Uid)
		if err != nil {
			return err
		}
		defer atomicfile.Close(src)
		perm = st.Mode & 0o777
		visit = func(dst int, have []string) error {
			return c.copyAll(p, dst, have, from, src, names, f.purge)
		}
	case f.purge:
		visit = func(dst int, have []string) error {
			_, err := c.purgeAll(p, dst, have, nil)
			return err
		}
	case f.recurse:
		visit = func(dst int, have []string) error { return c.settleAll(p, dst, have) }
	}
	return c.enter(p, found, perm, visit)
}

// missing stands for the descriptor of a directory that would have been made.
const missing = -1

// enter has a directory at p and calls visit, unless nil, with its descriptor and the
// sorted names of what it holds. A new one gets perm, less the umask, unless the mode
// is managed.
func (c *check) enter(p atomicfile.Place, found *unix.Stat_t, perm uint32, visit func(dst int, have []string) error) error {
	if found != nil && found.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := c.settle(p, found); err != nil {
			return err
		}
	} else {
		if err := c.place(p, found, unix.S_IFDIR); err != nil {
			return err
		}
		if c.apply {
			if err := c.mkdir(p, perm); err != nil {
				return moved(err)
			}
		}
	}
	switch {
	case visit == nil:
		return nil
	case !c.apply && (found == nil || found.Mode&unix.S_IFMT != unix.S_IFDIR):
		return visit(missing, nil)
	}
	owner := self
	if found != nil {
		owner = found.Uid
	}
	dst, have, err := open(p, false, owner)
	if err != nil {
		return moved(err)
	}
	defer atomicfile.Close(dst)
	c.parents = false
	return moved(visit(dst, have))
}

// mkdir makes a directory at p with the owner, group and mode that are asked for.
func (c *check) mkdir(p atomicfile.Place, perm uint32) error {
	m := atomicfile.Meta{UID: c.uid, GID: c.gid, Mode: c.bits(perm&^umask(), true)}
	if m.Mode >= 0 {
		perm = 0o700 // until it has its owner
	}
	if err := c.did(p.Mkdir(perm, c.parents)); err != nil {
		return err
	}
	if c.durable {
		if err := p.Sync(); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if ok, err := p.Stat(&st); err != nil || !ok || !m.Differs(&st) {
		return err
	}
	return p.Set(m, &st)
}

// copyAll has in the directory p, which is open as dst and holds have, what is in the
// directory from, which is open as src and holds names. With purge it has nothing else.
func (c *check) copyAll(p atomicfile.Place, dst int, have []string, from atomicfile.Place, src int, names []string, purge bool) error {
	for _, name := range names {
		to := p.Entry(dst, name)
		if atomicfile.IsTemp(name) || c.spare.managed(to.Path) {
			continue
		}
		if err := c.copyEntry(to, from.Entry(src, name), purge); err != nil {
			return err
		}
	}
	if !purge {
		return nil
	}
	_, err := c.purgeAll(p, dst, have, names)
	return err
}

func (c *check) copyEntry(to, from atomicfile.Place, purge bool) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	c.at(to)
	var want, st unix.Stat_t
	if ok, err := from.Stat(&want); !ok || err != nil {
		return err
	}
	var found *unix.Stat_t
	if to.Dir != missing {
		switch ok, err := to.Stat(&st); {
		case err != nil:
			return err
		case ok:
			found = &st
		}
	}
	switch want.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.regular(to, found, body{{from: from}}, want.Mode&0o777)
	case unix.S_IFLNK:
		target, err := from.Readlink()
		if err != nil {
			return err
		}
		return c.symlink(to, found, target)
	case unix.S_IFDIR:
		src, names, err := open(from, false, want.Uid)
		if err != nil {
			return err
		}
		defer atomicfile.Close(src)
		return c.enter(to, found, want.Mode&0o777, func(dst int, have []string) error {
			return c.copyAll(to, dst, have, from, src, names, purge)
		})
	}
	return fmt.Errorf("%s is a %s, which can't be copied", from.Path, kindOf(want.Mode))
}

// settleAll gives everything in the directory p its owner, group and mode.
func (c *check) settleAll(p atomicfile.Place, dst int, have []string) error {
	for _, name := range have {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		e := p.Entry(dst, name)
		if atomicfile.IsTemp(name) || c.spare.managed(e.Path) {
			continue
		}
		c.at(e)
		var st unix.Stat_t
		if ok, err := e.Stat(&st); err != nil {
			return err
		} else if !ok {
			continue
		}
		var visit func(int, []string) error
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			visit = func(dst int, have []string) error { return c.settleAll(e, dst, have) }
			if err := c.enter(e, &st, 0, visit); err != nil {
				return err
			}
		} else if err := c.settle(e, &st); err != nil {
			return err
		}
	}
	return nil
}

// purgeAll removes from the directory p, which is open as dst, all of have but keep. It
// reports whether it had to spare something, so that the directory must stay.
func (c *check) purgeAll(p atomicfile.Place, dst int, have, keep []string) (spared bool, err error) {
	for _, name := range have {
		if _, ok := slices.BinarySearch(keep, name); ok && !atomicfile.IsTemp(name) {
			continue
		}
		kept, err := c.purge(p.Entry(dst, name))
		if err != nil {
			return true, err
		}
		spared = spared || kept
	}
	return spared, nil
}

// young says that a temporary file may have been made a moment ago, and not be locked
// yet. To take it from whoever writes it would make both begin again, and again.
func young(st *unix.Stat_t) bool {
	return time.Since(time.Unix(st.Mtim.Unix())) < time.Minute
}

// purge removes what is at p, with everything in it that nobody manages, and reports
// whether something had to stay.
func (c *check) purge(p atomicfile.Place) (bool, error) {
	if c.ctx.Err() != nil {
		return true, context.Cause(c.ctx)
	}
	var st unix.Stat_t
	if ok, err := p.Stat(&st); !ok || err != nil {
		return false, err
	}
	name := filepath.Base(p.Path)
	if c.spare.managed(p.Path) || c.spare.aliased(p, &st) || atomicfile.IsTemp(name) && (young(&st) || !atomicfile.Stale(p)) {
		return true, nil
	}
	remove := p.Unlink
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if mounted, err := p.Mounted(); mounted || err != nil {
			return true, err
		}
		fd, names, err := open(p, false, st.Uid)
		if err != nil {
			return true, err
		}
		kept, err := c.purgeAll(p, fd, names, nil)
		atomicfile.Close(fd)
		if kept || err != nil {
			return true, err
		}
		remove = p.Rmdir
	}
	c.at(p)
	c.change("purge", kindOf(st.Mode), "absent")
	if !c.apply {
		return false, nil
	}
	return false, c.did(remove())
}

// removeAll removes what is at p with everything in it. It follows no link and stops at
// mount points.
func (c *check) removeAll(p atomicfile.Place) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	var st unix.Stat_t
	if ok, err := p.Stat(&st); !ok || err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return c.did(p.Unlink())
	}
	switch mounted, err := p.Mounted(); {
	case err != nil:
		return moved(err)
	case mounted:
		return fmt.Errorf("%s is a mount point, so it is not removed: unmount it", p.Path)
	}
	fd, names, err := open(p, false, st.Uid)
	if err != nil {
		return moved(err)
	}
	for _, name := range names {
		if err = c.removeAll(p.Entry(fd, name)); err != nil {
			break
		}
	}
	atomicfile.Close(fd)
	if err != nil {
		return err
	}
	return moved(c.did(p.Rmdir()))
}

// at says which entry of the tree the next changes concern.
func (c *check) at(p atomicfile.Place) { c.rel = p.Path[len(c.root)+1:] }

// open opens the directory p and returns the sorted names of what it holds.
func open(p atomicfile.Place, follow bool, owner uint32) (int, []string, error) {
	fd, err := p.Open(unix.O_DIRECTORY, follow, owner)
	if err != nil {
		return -1, nil, err
	}
	var names []string
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := unix.ReadDirent(fd, buf[:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			atomicfile.Close(fd)
			return -1, nil, p.Error("readdir", err)
		case n == 0:
			slices.Sort(names)
			return fd, names, nil
		}
		_, _, names = unix.ParseDirent(buf[:max(n, 0)], -1, names)
	}
}
