package inotify

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inode identifies a file while it exists. Numbers are used again once it is gone.
type inode struct{ dev, ino uint64 }

// A kernelWatch is what is known about the kernel watch on an entry.
type kernelWatch struct {
	live  bool   // the kernel has it
	cause *cause // why it does not suffice; nil if it does
	inode inode
	mode  uint32
	uid   uint32
	gid   uint32

	looks  int                 // at entries, since the last listing
	enough int                 // looks that make a listing worth trying
	list   map[string]struct{} // entries that are not regular files; nil is no listing
}

// device is 0 for what isn't there.
func (w *kernelWatch) device() uint64 {
	if w == nil {
		return 0
	}
	return w.inode.dev
}

// lstat looks at path itself.
func lstat(path string, st *unix.Stat_t) error {
	for {
		if err := unix.Lstat(path, st); err != unix.EINTR {
			return err
		}
	}
}

// watch asks the kernel to report on e, a directory or a file that is mounted. If e is
// not there e.w stays nil: when it comes, that is an event of the directory above.
func (s *Source) watch(e *entry) {
	defer s.cover(e)
	e.pass = s.pass
	why := s.k.cause
	if s.k.fs != nil {
		err := s.k.fs.Add(e.key)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return
		}
		if err != nil {
			why = refused(e.key, err)
		}
	}
	var st unix.Stat_t
	if lstat(e.key, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if why == nil {
			_ = s.k.fs.Remove(e.key)
		}
		return
	}
	e.w = &kernelWatch{
		live:  why == nil,
		cause: why,
		inode: inode{st.Dev, st.Ino},
		mode:  st.Mode,
		uid:   st.Uid,
		gid:   st.Gid,

		enough: int(st.Size) / (entrySize * worth),
	}
	if why != nil {
		return
	}
	if kind := s.specialFS(e.key, st.Dev); kind != "" {
		e.w.cause = silent(kind)
	}
	same := append(s.inodes[e.w.inode], e)
	s.inodes[e.w.inode] = same
	if len(same) == 2 {
		s.aliased++
	}
}

// unwatch ends the kernel watch of e. Entries that shared it, since the directory is
// also mounted elsewhere, get their own; what happened in between is anybody's guess.
func (s *Source) unwatch(e *entry) {
	w := e.w
	if w == nil {
		return
	}
	e.w = nil
	if !w.live {
		return
	}
	_ = s.k.fs.Remove(e.key) // an error says that the kernel has ended it already
	same := s.inodes[w.inode]
	if len(same) == 1 {
		delete(s.inodes, w.inode)
		return
	}
	others := make([]*entry, 0, len(same)-1)
	for _, o := range same {
		if o != e {
			others = append(others, o)
		}
	}
	s.inodes[w.inode] = others
	if len(others) == 1 {
		s.aliased--
	}
	for _, o := range others {
		_ = s.k.fs.Add(o.key) // an error says that o is gone, and an event will, too
		s.fireBelow(o.nodes, "rewatch")
		s.fireRoots(o, "rewatch")
	}
}

// renew puts the kernel watch of e on what is there now. Removing comes first, because
// fsnotify knows watches by path, and its late handling of a directory that was moved
// away would otherwise end the new watch under the old name.
func (s *Source) renew(e *entry) {
	s.unwatch(e)
	s.watch(e)
}

// watchFile watches e itself if it is a file that something was mounted on: changes
// of such a file are reported in the directory that it was mounted from.
func (s *Source) watchFile(e *entry) {
	_, mounted := s.mounts[e.key]
	switch {
	case !mounted && e.w != nil:
		s.unwatch(e)
		s.cover(e)
	case mounted && e.w == nil:
		s.watch(e)
	case mounted && s.stale(e):
		s.renew(e)
	}
}

// access says whether mode or owner of the directory e have changed.
func (s *Source) access(e *entry) bool {
	var st unix.Stat_t
	return lstat(e.key, &st) != nil ||
		st.Mode != e.w.mode || st.Uid != e.w.uid || st.Gid != e.w.gid
}

// kind returns the file type of e, 0 if it isn't there; that of a regular file may be 0
// as well, since neither leads anywhere.
func (s *Source) kind(e *entry) uint32 {
	if d := e.dir.w; d != nil && d.live && d.cause == nil && s.listing(e.dir) {
		_, name := split(e.key)
		if _, odd := d.list[name]; !odd {
			return 0
		}
	}
	var st unix.Stat_t
	if lstat(e.key, &st) != nil {
		return 0
	}
	return st.Mode & unix.S_IFMT
}

const (
	worth     = 64 // looks before the first listing, and entries of a listing for each look
	entrySize = 16 // bytes in the size of a directory, per entry, at least
)

// listing says whether the entries of dir that lead elsewhere are known from a listing,
// which for ten thousand files in a directory is several times faster than a look at
// each. A listing is made after so many looks that its price does not matter beside
// theirs. It was made under the watch, so it holds until the first event that creates
// something: an entry that has changed since has its event still to come.
func (s *Source) listing(dir *entry) bool {
	w := dir.w
	if w.list != nil {
		return true
	}
	if w.looks++; w.looks < max(w.enough, worth) {
		return false
	}
	most := w.looks * worth
	w.enough = w.looks * 8
	list, n, whole := list(dir.key, most)
	if whole {
		w.list, w.looks, w.enough = list, 0, n/worth
		s.listed = append(s.listed, w)
	}
	return whole
}

// list returns the names in dir of what may not be a regular file, and how many entries
// there are. It gives up after most of them. It reads the kernel's records itself, since
// those of regular files need not be turned into anything.
func list(dir string, most int) (odd map[string]struct{}, n int, whole bool) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, false
	}
	defer func() { _ = unix.Close(fd) }()
	odd = make(map[string]struct{})
	buf := make([]byte, 32<<10)
	for n < most {
		size, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return nil, n, false
		}
		if size == 0 {
			return odd, n, true
		}
		for at := 0; at < size; n++ {
			d := (*unix.Dirent)(unsafe.Pointer(&buf[at]))
			if d.Type != unix.DT_REG {
				name := buf[at+int(unsafe.Offsetof(d.Name)) : at+int(d.Reclen)]
				odd[unix.ByteSliceToString(name)] = struct{}{}
			}
			at += int(d.Reclen)
		}
	}
	return nil, n, false
}

// unlist forgets all listings.
func (s *Source) unlist() {
	for i, w := range s.listed {
		w.list = nil
		s.listed[i] = nil
	}
	s.listed = s.listed[:0]
}
