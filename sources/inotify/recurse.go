package inotify

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// plant begins to cover the directory where n leads and everything below it.
func (s *Source) plant(n *node) {
	e := s.entries[n.real]
	if e == nil {
		return
	}
	n.root = e
	e.roots = append(e.roots, n)
	s.grow(e)
}

// uproot ends it.
func (s *Source) uproot(n *node) {
	e := n.root
	if e == nil {
		return
	}
	n.root = nil
	i := slices.Index(e.roots, n)
	e.roots = slices.Delete(e.roots, i, i+1)
	s.wither(e)
}

// covered says whether the tree that covers e begins above it.
func (s *Source) covered(e *entry) bool {
	return e.dir != nil && e.dir.sub[e.key] == e
}

// grow covers e and the directories below it. It is watched before it is listed.
func (s *Source) grow(e *entry) {
	again := s.fresh != "" && (e.key == s.fresh || below(e.key, s.fresh))
	if e.tree && (!again || e.grown == s.pass) {
		return
	}
	e.tree, e.grown = true, s.pass
	switch {
	case e.w == nil:
		s.watch(e)
	case s.stale(e):
		s.renew(e)
	default:
		s.cover(e)
	}
	s.shed(e)
	if e.w == nil {
		return
	}
	f, err := os.Open(e.key)
	if err != nil {
		return
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(1024)
		for _, d := range entries {
			if d.IsDir() {
				s.adopt(e, join(e.key, d.Name()))
			}
		}
		if err != nil {
			return
		}
	}
}

// adopt covers the entry key of the covered directory dir if it is a directory. It
// does not enter /proc and /sys from outside, which are no part of anybody's tree.
func (s *Source) adopt(dir *entry, key string) {
	var st unix.Stat_t
	if lstat(key, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	if st.Dev != dir.w.device() && generated(s.specialFS(key, st.Dev)) {
		return
	}
	e := s.hold(key, dir)
	if dir.sub == nil {
		dir.sub = make(map[string]*entry)
	}
	dir.sub[key] = e
	s.grow(e)
}

// regrow covers e, of a tree that begins above it, as it is now.
func (s *Source) regrow(e *entry) {
	delete(e.dir.sub, e.key)
	s.wither(e)
	s.adopt(e.dir, e.key)
}

// wither ends the cover of e and of the directories below it, unless a tree covers
// them still.
func (s *Source) wither(e *entry) {
	if len(e.roots) > 0 || s.covered(e) {
		return
	}
	e.tree = false
	s.shed(e)
	if e.kids == 0 {
		s.unwatch(e)
	}
	s.cover(e)
	s.release(e)
}

// shed ends the cover of the directories in e.
func (s *Source) shed(e *entry) {
	for key, c := range e.sub {
		delete(e.sub, key)
		s.wither(c)
	}
	e.sub = nil
}
