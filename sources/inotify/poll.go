package inotify

import (
	"errors"
	"hash/maphash"
	"os"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// polled is an entry that is compared now and then, since nobody reports its changes.
type polled struct {
	entry  bool   // the entry itself, because its directory can't be watched
	list   bool   // what is in the directory, for a tree
	fs     string // the filesystem, if that is why
	prints prints // as they were last
}

type prints struct{ entry, list uint64 }

// cover polls e, or no longer does, as the kernel watches that it depends on require.
func (s *Source) cover(e *entry) {
	var why *cause
	var entry, list bool
	if e.w != nil && e.w.cause != nil {
		why = e.w.cause
		list = e.tree
		entry = e.w.mode&unix.S_IFMT != unix.S_IFDIR
	}
	if e.dir != nil && e.dir.w != nil && e.dir.w.cause != nil {
		why = e.dir.w.cause
		entry = true
	}
	if !entry && !list || s.entries[e.key] != e {
		delete(s.polled, e)
		return
	}
	old := s.polled[e]
	if old != nil && old.entry == entry && old.list == list && old.fs == why.fs {
		return
	}
	p := &polled{entry: entry, list: list, fs: why.fs}
	p.prints = p.look(e.key)
	if old != nil && old.fs == p.fs { // what has changed since the last look is still news
		if old.entry {
			p.prints.entry = old.prints.entry
		}
		if old.list {
			p.prints.list = old.prints.list
		}
	}
	s.polled[e] = p
	s.warn(e, why)
	s.startPolling()
}

// warn logs why e is polled, once per cause.
func (s *Source) warn(e *entry, why *cause) {
	if s.warned[why.key] {
		return
	}
	s.warned[why.key] = true
	args := []any{"path", e.key, "reason", why.reason, "every", s.every}
	if why.mend != "" {
		args = append(args, "mend", why.mend)
	}
	s.log.Warn("polling what can't be watched", args...)
}

// startPolling starts the goroutine that polls, if it does not run yet. It ends when
// nothing is left to poll.
func (s *Source) startPolling() {
	k := s.k
	if k.polling {
		return
	}
	k.polling = true
	k.wg.Go(func() {
		tick := time.NewTicker(s.every)
		defer tick.Stop()
		for {
			select {
			case <-k.stop:
				return
			case <-tick.C:
			}
			s.mu.Lock()
			done := s.k != k || len(s.polled) == 0
			if done {
				k.polling = false
			} else {
				s.retry()
			}
			s.mu.Unlock()
			if done {
				return
			}
			s.poll()
		}
	})
}

// retry tries again to watch what could not be watched.
func (s *Source) retry() {
	if s.k.fs == nil {
		if s.k.start(s.wake); s.k.fs == nil {
			return
		}
		s.changed(s.entries["/"], "watched")
		signal(s.wake)
		return
	}
	dirs := make(map[*entry]bool)
	for e := range s.polled {
		for _, d := range []*entry{e, e.dir} {
			if d != nil && d.w != nil && !d.w.live {
				dirs[d] = true
			}
		}
	}
	for d := range dirs {
		if s.entries[d.key] != d || d.w == nil || d.w.live {
			continue
		}
		switch err := s.k.fs.Add(d.key); {
		case errors.Is(err, unix.ENOSPC):
			return
		case err == nil:
			_ = s.k.fs.Remove(d.key)
			s.changed(d, "watched")
			signal(s.wake)
		}
	}
}

// poll compares once. It looks without the lock, since a filesystem may keep it waiting.
func (s *Source) poll() {
	type look struct {
		e    *entry
		p    *polled
		last prints
	}
	s.mu.Lock()
	s.compared = time.Now()
	looks := make([]look, 0, len(s.polled))
	for e, p := range s.polled {
		looks = append(looks, look{e, p, p.prints})
	}
	s.mu.Unlock()
	looks = slices.DeleteFunc(looks, func(l look) bool { return l.p.look(l.e.key) == l.last })
	if len(looks) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range looks {
		if s.polled[l.e] != l.p {
			continue
		}
		now := l.p.look(l.e.key)
		last := l.p.prints
		l.p.prints = now
		if now.list != last.list {
			s.changed(l.e, "poll")
		}
		if now.entry != last.entry {
			s.hit(l.e.key, fsnotify.Create, "poll")
		}
	}
	signal(s.wake)
}

var seed = maphash.MakeSeed()

// look returns numbers that change when what is polled does: for a directory, its
// identity, mode and owner; with list, the names in it and what mark says of them.
func (p *polled) look(path string) prints {
	var got prints
	var h maphash.Hash
	h.SetSeed(seed)
	if p.entry {
		p.mark(&h, path)
		got.entry = h.Sum64()
	}
	if p.list {
		h.Reset()
		entries, err := os.ReadDir(path)
		if err != nil {
			maphash.WriteComparable(&h, err.Error())
		}
		for _, d := range entries {
			maphash.WriteComparable(&h, d.Name())
			p.mark(&h, join(path, d.Name()))
		}
		got.list = h.Sum64()
	}
	return got
}

// mark adds what lstat(2) says about path, and for a file that the kernel makes up, the
// beginning of its content.
func (p *polled) mark(h *maphash.Hash, path string) {
	var st unix.Stat_t
	if err := lstat(path, &st); err != nil {
		maphash.WriteComparable(h, err.Error())
		return
	}
	maphash.WriteComparable(h, [3]uint32{st.Mode, st.Uid, st.Gid})
	kind := st.Mode & unix.S_IFMT
	if generated(p.fs) {
		switch kind {
		case unix.S_IFREG:
			_, _ = h.Write(head(path))
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			_, _ = h.WriteString(target)
		}
		return
	}
	maphash.WriteComparable(h, [2]uint64{st.Dev, st.Ino})
	if kind != unix.S_IFDIR {
		maphash.WriteComparable(h, [2]unix.Timespec{st.Mtim, st.Ctim})
		maphash.WriteComparable(h, st.Size)
	}
}

// head returns the first bytes of a file without waiting for any, or the error as text.
func head(path string) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return []byte(err.Error())
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	if err != nil {
		return []byte(err.Error())
	}
	return b[:n]
}
