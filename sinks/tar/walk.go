package tar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// member is a file, directory or link that is archived.
type member struct {
	name   string // in the archive, without a slash at its end
	path   string // on the host
	st     unix.Stat_t
	target string // of a symbolic link
}

// walk lists what is archived, in order.
type walk struct {
	members []member
	looked  []atomicfile.Stamp // of all that was looked at
	private bool               // not everybody may read all of it
	names   map[string]string
	self    unix.Stat_t // the archive, which must not be a member
}

// walk looks at the inputs.
func (a *archive) walk(ctx context.Context) (*walk, error) {
	w := &walk{names: make(map[string]string)}
	if _, err := atomicfile.At(a.file.Path).Stat(&w.self); err != nil && !errors.Is(err, unix.ENOTDIR) {
		return nil, err
	}
	for _, in := range a.inputs {
		m := member{name: filepath.Base(in.path), path: in.path}
		if err := unix.Lstat(in.path, &m.st); err != nil {
			return nil, atomicfile.At(in.path).Error("lstat", err)
		}
		var err error
		switch directory := m.st.Mode&unix.S_IFMT == unix.S_IFDIR; {
		case in.slash && !directory:
			return nil, fmt.Errorf("%s is not a directory, as the slash at its end in inputs says", in.path)
		case in.slash:
			w.mind(&m.st)
			err = w.entries(ctx, m, "")
		default:
			err = w.add(ctx, m)
		}
		if err != nil {
			return nil, err
		}
	}
	return w, nil
}

// mind takes note of something that was looked at, and of who may read it.
func (w *walk) mind(st *unix.Stat_t) {
	w.looked = append(w.looked, atomicfile.StampOf(st))
	needed := uint32(0o004)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return
	case unix.S_IFDIR:
		needed = 0o005
	}
	w.private = w.private || st.Mode&needed != needed
}

// add appends m and, if it is a directory, everything in it.
func (w *walk) add(ctx context.Context, m member) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	kind := m.st.Mode & unix.S_IFMT
	if kind == unix.S_IFREG && m.st.Ino == w.self.Ino && m.st.Dev == w.self.Dev {
		return fmt.Errorf("%s is the archive itself, which can't be in it: archive something else, or put it elsewhere", m.path)
	}
	if other, twice := w.names[m.name]; twice {
		if other == m.path || kind != unix.S_IFDIR || !w.directory(m.name) {
			return fmt.Errorf("%s and %s would both be %s in the archive", other, m.path, m.name)
		}
		w.mind(&m.st)
		return w.entries(ctx, m, m.name+"/") // two directories become one
	}
	w.names[m.name] = m.path
	switch kind {
	case unix.S_IFDIR, unix.S_IFREG:
	case unix.S_IFLNK:
		target, err := atomicfile.At(m.path).Readlink()
		if err != nil {
			return err
		}
		m.target = target
	default:
		return fmt.Errorf("%s is neither file, directory nor symbolic link, so it can't be archived", m.path)
	}
	w.mind(&m.st)
	w.members = append(w.members, m)
	if kind == unix.S_IFDIR {
		return w.entries(ctx, m, m.name+"/")
	}
	return nil
}

// directory reports whether the member of that name is one.
func (w *walk) directory(name string) bool {
	return slices.ContainsFunc(w.members, func(m member) bool { return m.name == name && m.st.Mode&unix.S_IFMT == unix.S_IFDIR })
}

// entries adds what is in the directory dir, under names that begin with prefix. Files
// that somebody is about to put there atomically are left out.
func (w *walk) entries(ctx context.Context, dir member, prefix string) error {
	p := atomicfile.At(dir.path)
	fd, err := p.Open(unix.O_DIRECTORY, false, dir.st.Uid)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), dir.path)
	names, err := f.Readdirnames(-1)
	_ = f.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if atomicfile.IsTemp(name) {
			continue
		}
		m := member{name: prefix + name, path: strings.TrimSuffix(dir.path, "/") + "/" + name}
		there, err := atomicfile.At(m.path).Stat(&m.st)
		if err != nil {
			return err
		}
		if !there { // it has just gone
			continue
		}
		if err := w.add(ctx, m); err != nil {
			return err
		}
	}
	return nil
}
