package inotify

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symlinks the kernel follows in one path, from path_resolution(7).
const maxLinks = 40

// A node is a path that somebody watches, or a directory on the way to one, by the name
// that was asked for. Nodes form a tree by these names.
type node struct {
	path              string
	parent            *node
	first, next, prev *node // children
	self, tree        *target

	// deps are the entries that decide where path leads, beyond what decides it for
	// the parent: its own, and if that is a symlink, those on the way to its target.
	deps []*entry

	// real is the directory where path leads, without symlinks; "" if there is none.
	real string

	root *entry // where the tree is planted
	pass int    // of the last renewal
}

// An entry is a name in a directory on which a node depends. Its key has no symlinks
// in any component but the last. Whatever happens to the entry is reported by the
// kernel watch on the directory that holds it.
type entry struct {
	key   string
	dir   *entry // that holds it; nil for "/"
	nodes []*node
	kids  int          // entries that are held in it
	w     *kernelWatch // on the entry itself; nil if it needs none or isn't there

	sub   map[string]*entry // directories in it that are covered by a tree, by name
	roots []*node           // trees that begin here
	tree  bool              // everything in it is watched, for a tree here or above
	pass  int               // of the last renewal of w
	grown int               // pass of the last growth of sub
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

// split cuts a clean absolute path other than "/" at its last component.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i == 0 {
		return "/", path[1:]
	}
	return path[:i], path[i+1:]
}

func below(path, dir string) bool {
	return dir == "/" || len(path) > len(dir) && path[len(dir)] == '/' && path[:len(dir)] == dir
}

// node returns the node of path and makes it if needed.
func (s *Source) node(path string) *node {
	if n := s.nodes[path]; n != nil {
		return n
	}
	n := &node{path: path}
	if path != "/" {
		dir, _ := split(path)
		p := s.node(dir)
		n.parent, n.next, p.first = p, p.first, n
		if n.next != nil {
			n.next.prev = n
		}
	}
	s.nodes[path] = n
	s.resolve(n)
	return n
}

// cut removes n and the nodes above it that nobody needs.
func (s *Source) cut(n *node) {
	for n != nil && n.self == nil && n.tree == nil && n.first == nil {
		delete(s.nodes, n.path)
		for _, e := range n.deps {
			s.detach(n, e)
		}
		p := n.parent
		switch {
		case n.prev != nil:
			n.prev.next = n.next
		case p != nil:
			p.first = n.next
		}
		if n.next != nil {
			n.next.prev = n.prev
		}
		n = p
	}
}

// resolve finds out anew where n leads. Every entry is held, and so its directory
// watched, before it is looked at: what changes after the look is an event that is
// still to come. That closes the race with mkdir -p, at every level.
func (s *Source) resolve(n *node) {
	old := n.deps
	n.deps, n.real = nil, ""
	switch {
	case n.parent == nil:
		s.attach(n, s.hold("/", nil))
		n.real = "/"
	case n.parent.real != "":
		_, name := split(n.path)
		n.real = s.walk(n, n.parent.real, name)
	}
	for _, e := range old {
		s.detach(n, e)
	}
	if n.tree != nil {
		s.uproot(n)
		s.plant(n)
	}
}

// resolveAll does so for n and all nodes below it.
func (s *Source) resolveAll(n *node) {
	n.pass = s.pass
	s.resolve(n)
	for c := n.first; c != nil; c = c.next {
		s.resolveAll(c)
	}
}

// walk follows path from the directory dir as the kernel would, notes what it passes as
// dependencies of n, and returns the directory where it leads, or "".
func (s *Source) walk(n *node, dir, path string) string {
	for links := 0; path != ""; {
		var name string
		name, path, _ = strings.Cut(path, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir)
			continue
		}
		key := n.path
		if _, own := split(key); dir != n.parent.path || name != own {
			key = join(dir, name)
		}
		e := s.hold(key, s.entries[dir])
		s.attach(n, e)
		switch s.kind(e) {
		case unix.S_IFDIR:
			dir = key
			if e.w != nil && s.stale(e) {
				s.renew(e)
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(key)
			if links++; err != nil || links > maxLinks {
				return ""
			}
			if filepath.IsAbs(target) {
				dir = "/"
			}
			path = target + "/" + path
		default:
			s.watchFile(e)
			return ""
		}
	}
	return dir
}

// stale says whether the kernel watch of e has to be renewed in this pass.
func (s *Source) stale(e *entry) bool {
	return s.fresh != "" && e.pass != s.pass && below(e.key, s.fresh)
}

// hold returns the entry key of the directory dir, with dir watched. Who holds it has
// to attach a node or put it into sub.
func (s *Source) hold(key string, dir *entry) *entry {
	e := s.entries[key]
	if e == nil {
		e = &entry{key: key, dir: dir}
		s.entries[key] = e
		if dir != nil {
			dir.kids++
		}
	}
	if dir != nil && dir.w == nil {
		s.watch(dir)
	}
	s.cover(e)
	return e
}

func (s *Source) attach(n *node, e *entry) {
	if !slices.Contains(n.deps, e) {
		n.deps = append(n.deps, e)
		e.nodes = append(e.nodes, n)
	}
}

func (s *Source) detach(n *node, e *entry) {
	i := slices.Index(e.nodes, n)
	last := len(e.nodes) - 1
	e.nodes[i], e.nodes[last] = e.nodes[last], nil
	e.nodes = e.nodes[:last]
	s.release(e)
}

// release forgets e if nobody needs it, and then perhaps the directories above.
func (s *Source) release(e *entry) {
	for e.dir != nil && len(e.nodes) == 0 && e.kids == 0 && !e.tree && s.entries[e.key] == e {
		delete(s.entries, e.key)
		delete(s.polled, e)
		s.unwatch(e)
		e = e.dir
		e.kids--
		if e.kids == 0 && !e.tree {
			s.unwatch(e)
			s.cover(e)
		}
	}
}
