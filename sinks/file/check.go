package file

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// attempts bounds how often a CheckApply starts again because somebody else removed or
// replaced the file under its hands.
const attempts = 100

// CheckApply implements sinks.Resource.
func (f *file) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	out, err := f.checkApply(ctx, apply, nil)
	if f.sending != nil && err == nil {
		err = f.sending.fill(ctx, f.path, apply, &out)
	}
	return out, err
}

func (f *file) checkApply(ctx context.Context, apply bool, spare *spared) (sinks.Outcome, error) {
	c := &check{
		ctx: ctx, apply: apply,
		mode: &f.mode, inTree: f.recurse, durable: f.durable, force: f.force,
		root: f.path, spare: spare,
	}
	err := f.run(c)
	for range attempts {
		if !errors.Is(err, errMoved) {
			break
		}
		if !c.done {
			c.out, c.unlisted, c.shown = sinks.Outcome{}, 0, 0
		}
		err = f.run(c)
	}
	if err != nil && !c.done {
		return sinks.Outcome{}, err
	}
	return c.out, err
}

func (f *file) run(c *check) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	c.rel, c.parents = "", true
	p := atomicfile.At(f.path)
	there, err := p.Stat(&c.st)
	switch {
	case !f.create && !there && (err == nil || errors.Is(err, unix.ENOTDIR)):
		return nil
	case err != nil:
		return err
	case f.want == wantNothing:
		return c.absent(p, &c.st, f.slash)
	}
	if c.uid, err = f.owner.lookup(); err != nil {
		return err
	}
	if c.gid, err = f.group.lookup(); err != nil {
		return err
	}
	found := &c.st
	if !there {
		found = nil
	}
	switch f.want {
	case wantSymlink:
		return c.symlink(p, found, f.target)
	case wantDir:
		return f.directory(c, p, found)
	case wantSame:
		return c.same(p, found, f.create)
	}
	b, perm, err := f.body(c.ctx)
	if err != nil {
		return err
	}
	return c.regular(p, found, b, perm)
}

// body is the content of a regular file, and the mode of one that is new.
func (f *file) body(ctx context.Context) (body, uint32, error) {
	switch {
	case f.text != nil:
		return f.text, 0o666, nil
	case f.maker != nil:
		text, err := f.maker.make(ctx)
		return body{{text: text}}, 0o666, err
	case f.source == "":
		b, err := fragments(f.fragments)
		return b, 0o666, err
	}
	st, err := statSource(f.source)
	if err != nil {
		return nil, 0, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil, 0, fmt.Errorf("source %s is a directory: to copy it, end the path with a slash and set recurse", f.source)
	}
	return body{{from: atomicfile.At(f.source), follow: true}}, st.Mode & 0o777, nil
}

// check is one CheckApply. Its methods compare one place with what shall be there, and
// make it so if apply is set. They take a description of what is there as found: nil
// for nothing.
type check struct {
	ctx   context.Context
	apply bool
	out   sinks.Outcome
	done  bool // something has been changed

	uid, gid int // -1 is left alone
	mode     *mode
	inTree   bool // mode is for everything in a directory
	durable  bool
	force    bool
	parents  bool // make those that are missing

	root     string  // path of the resource
	rel      string  // where we are below it: "sub/a"
	spare    *spared // what others manage there
	unlisted int     // changes that are not in out
	shown    int     // bytes of text in out

	st unix.Stat_t // of what is at root
}

// bits is the mode that something shall have, or -1. Mode is what it has, or would have
// if it were new.
func (c *check) bits(mode uint32, dir bool) int {
	switch {
	case c.mode.text == "":
		return -1
	case c.inTree:
		return int(c.mode.inTree(mode, dir))
	}
	return int(c.mode.of(mode, dir))
}

// did notes that an action, unless it failed, has changed something.
func (c *check) did(err error) error {
	c.done = c.done || err == nil
	return err
}

// maxChanges is how many changes of a tree are listed, and maxShown how many bytes of
// text they show before they only give sizes.
const (
	maxChanges = 200
	maxShown   = 16 * sinks.MaxText
)

// change notes a difference.
func (c *check) change(field, from, to string) {
	c.out.Changed = true
	if len(c.out.Changes) < maxChanges {
		if c.rel != "" {
			field += " of " + c.rel
		}
		c.out.Changes = append(c.out.Changes, sinks.Change{Field: field, From: from, To: to})
		c.shown += len(from) + len(to)
		return
	}
	if c.unlisted++; c.unlisted == 1 {
		c.out.Changes = append(c.out.Changes, sinks.Change{Field: "more"})
	}
	c.out.Changes[maxChanges].To = fmt.Sprintf("%d changes that are not listed", c.unlisted)
}

// meta is the owner, group and mode that what st describes shall have.
func (c *check) meta(st *unix.Stat_t) atomicfile.Meta {
	m := atomicfile.Meta{UID: c.uid, GID: c.gid, Mode: -1}
	if kind := st.Mode & unix.S_IFMT; kind != unix.S_IFLNK {
		m.Mode = c.bits(st.Mode&permBits, kind == unix.S_IFDIR)
	}
	return m
}

// metaChanges notes how owner, group and mode differ from m.
func (c *check) metaChanges(m atomicfile.Meta, st *unix.Stat_t) {
	if m.UID >= 0 && st.Uid != uint32(m.UID) {
		c.change("owner", users.display(st.Uid), users.display(uint32(m.UID)))
	}
	if m.GID >= 0 && st.Gid != uint32(m.GID) {
		c.change("group", groups.display(st.Gid), groups.display(uint32(m.GID)))
	}
	if m.Mode >= 0 && st.Mode&permBits != uint32(m.Mode) {
		c.change("mode", fmt.Sprintf("%04o", st.Mode&permBits), fmt.Sprintf("%04o", m.Mode))
	}
}

// settle gives what is at p its owner, group and mode.
func (c *check) settle(p atomicfile.Place, st *unix.Stat_t) error {
	m := c.meta(st)
	if !m.Differs(st) {
		return nil
	}
	c.metaChanges(m, st)
	if !c.apply {
		return nil
	}
	return moved(c.did(p.Set(m, st)))
}

// errMoved says that what was found is gone before it could be looked at.
var errMoved = errors.New("it keeps changing")

// moved turns an error that shows this into errMoved.
func moved(err error) error {
	errno, ok := errors.AsType[unix.Errno](err)
	if !ok || errors.Is(err, errMoved) {
		return err
	}
	switch errno {
	case unix.ENOENT, unix.EEXIST, unix.ELOOP, unix.EISDIR, unix.ENOTDIR, unix.ENOTEMPTY:
		return fmt.Errorf("%w (%w)", err, errMoved)
	}
	return err
}

// kindOf names what a mode is that of.
func kindOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "named pipe"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}

// regular has a regular file with the content b at p. A new one gets perm, less the
// umask, unless the mode is managed.
func (c *check) regular(p atomicfile.Place, found *unix.Stat_t, b body, perm uint32) error {
	size, err := b.size()
	if err != nil {
		return err
	}
	if found != nil && found.Mode&unix.S_IFMT == unix.S_IFREG {
		return c.content(p, found, b, size)
	}
	m := atomicfile.Meta{UID: c.uid, GID: c.gid, Mode: c.bits(perm&^umask(), false)}
	if err := c.place(p, found, unix.S_IFREG); err != nil {
		return err
	}
	if size != 0 {
		c.change("content", "", c.show(b, size, m.Mode < 0 && perm&0o004 != 0 || m.Mode >= 0 && m.Mode&0o004 != 0))
	}
	if !c.apply {
		return nil
	}
	o := atomicfile.Options{Meta: m, Perm: perm, Durable: c.durable, Parents: c.parents}
	return moved(c.did(atomicfile.Replace(c.ctx, p, o, b.write)))
}

// content has the regular file at p hold b, which is size bytes long.
func (c *check) content(p atomicfile.Place, found *unix.Stat_t, b body, size int64) error {
	m := c.meta(found)
	same, old, err := c.compare(p, found, b, size, m)
	switch {
	case errors.Is(err, unix.EACCES) && m.Differs(found):
		return c.unreadable(p, found, b, size, m)
	case err != nil:
		return moved(err)
	case same:
		return c.settle(p, found)
	}
	c.change("content", old, c.show(b, size, public(found, m)))
	c.metaChanges(m, found)
	if !c.apply {
		return nil
	}
	o := atomicfile.Options{Meta: m, Found: found, Durable: c.durable}
	return moved(c.did(atomicfile.Replace(c.ctx, p, o, b.write)))
}

// compare reports whether the regular file at p holds b. If not, it returns what it
// holds, as a change shows it.
func (c *check) compare(p atomicfile.Place, found *unix.Stat_t, b body, size int64, m atomicfile.Meta) (bool, string, error) {
	fd, err := p.Open(0, false, found.Uid)
	if err != nil {
		return false, "", err
	}
	defer atomicfile.Close(fd)
	if found.Size == size || size < 0 {
		if same, err := b.same(c.ctx, fd, p); same || err != nil {
			return same, "", err
		}
	}
	if !public(found, m) || found.Size > sinks.MaxText || c.shown >= maxShown {
		return false, bytesOf(found.Size), nil
	}
	return false, showFile(fd, found.Size), nil
}

// show is a new content as a change shows it.
func (c *check) show(b body, size int64, public bool) string {
	if !public || size > sinks.MaxText || c.shown >= maxShown {
		return bytesOf(size)
	}
	return b.show(size)
}

// public reports whether the content may be shown: everybody may read it, both as it is
// and as it will be.
func public(found *unix.Stat_t, m atomicfile.Meta) bool {
	return found.Mode&0o004 != 0 && (m.Mode < 0 || m.Mode&0o004 != 0)
}

// unreadable has the file at p hold b although we may not read it as it is now: with
// the owner and mode that it shall have, we may.
func (c *check) unreadable(p atomicfile.Place, found *unix.Stat_t, b body, size int64, m atomicfile.Meta) error {
	if err := c.settle(p, found); err != nil || !c.apply {
		return err
	}
	var st unix.Stat_t
	if ok, err := p.Stat(&st); err != nil {
		return err
	} else if !ok || m.Differs(&st) || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errMoved
	}
	return c.content(p, &st, b, size)
}

// same keeps the owner, group and mode of what is at p. If nothing is, an empty file is
// made.
func (c *check) same(p atomicfile.Place, found *unix.Stat_t, create bool) error {
	if found == nil {
		return c.regular(p, nil, body{}, 0o666)
	}
	switch found.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFLNK:
		if c.mode.text != "" {
			return fmt.Errorf("%s is a symbolic link, and those have no mode: manage the file that it points to", p.Path)
		}
	case unix.S_IFDIR:
		if create && c.force {
			return c.regular(p, found, body{}, 0o666)
		}
		return fmt.Errorf("%s is a directory, but a file is expected: end the path with a slash if a directory is meant", p.Path)
	default:
		if create {
			return c.regular(p, found, body{}, 0o666)
		}
	}
	return c.settle(p, found)
}

// symlink has a link to target at p.
func (c *check) symlink(p atomicfile.Place, found *unix.Stat_t, target string) error {
	m := atomicfile.Meta{UID: c.uid, GID: c.gid, Mode: -1}
	old := ""
	if found != nil && found.Mode&unix.S_IFMT == unix.S_IFLNK {
		var err error
		switch old, err = p.Readlink(); {
		case errors.Is(err, unix.EINVAL): // it is no link any more
			return errMoved
		case err != nil:
			return moved(err)
		case old == target:
			return c.settle(p, found)
		}
	} else if err := c.place(p, found, unix.S_IFLNK); err != nil {
		return err
	}
	c.change("symlink", old, target)
	if !c.apply {
		return nil
	}
	o := atomicfile.Options{Meta: m, Durable: c.durable, Parents: c.parents}
	return moved(c.did(atomicfile.Symlink(p, target, o)))
}

// place prepares p for a new file, directory or link. What is there, if anything, is of
// another kind. Files and links give way to each other as they are renamed over;
// anything else needs force.
func (c *check) place(p atomicfile.Place, found *unix.Stat_t, kind uint32) error {
	if found == nil {
		to := "exists"
		if c.rel != "" {
			to = kindOf(kind)
		}
		c.change("state", "absent", to)
		return nil
	}
	is := found.Mode & unix.S_IFMT
	gentle := kind != unix.S_IFDIR && (is == unix.S_IFREG || is == unix.S_IFLNK)
	if !gentle && !c.force {
		return fmt.Errorf("%s is a %s, but a %s is expected: set force to replace it", p.Path, kindOf(is), kindOf(kind))
	}
	if path, ok := c.spare.first(p.Path); ok && is == unix.S_IFDIR {
		return fmt.Errorf("%s is a directory, but a %s is expected, and the graph manages %s in it", p.Path, kindOf(kind), path)
	}
	c.change("state", kindOf(is), kindOf(kind))
	if !c.apply {
		return nil
	}
	switch {
	case is == unix.S_IFDIR:
		return c.removeAll(p)
	case kind == unix.S_IFDIR:
		return c.did(p.Unlink())
	}
	return nil
}

// absent has nothing at p. Slash says that a directory is meant.
func (c *check) absent(p atomicfile.Place, found *unix.Stat_t, slash bool) error {
	if found.Mode&unix.S_IFMT != unix.S_IFDIR {
		if slash && !c.force {
			return fmt.Errorf("%s is a %s, but a directory is expected: leave out the slash, or set force, to remove it", p.Path, kindOf(found.Mode))
		}
		c.change("state", "exists", "absent")
		if !c.apply {
			return nil
		}
		if err := c.did(p.Unlink()); err != nil || !c.durable {
			return err
		}
		return p.Sync()
	}
	if !c.force {
		if !slash {
			return fmt.Errorf("%s is a directory, but a file is expected: end the path with a slash, or set force, to remove it", p.Path)
		}
		fd, names, err := open(p, false, found.Uid)
		if err != nil {
			return moved(err)
		}
		atomicfile.Close(fd)
		if len(names) > 0 {
			return fmt.Errorf("%s is not empty (%s is in it): set force to remove it with everything in it", p.Path, names[0])
		}
	}
	c.change("state", "exists", "absent")
	if !c.apply {
		return nil
	}
	remove := p.Rmdir
	if c.force {
		remove = func() error { return c.removeAll(p) }
	}
	if err := c.did(remove()); err != nil || !c.durable {
		return err
	}
	return p.Sync()
}
