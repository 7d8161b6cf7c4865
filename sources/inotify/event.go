package inotify

import (
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

const structural = fsnotify.Create | fsnotify.Remove | fsnotify.Rename

// word is the name of op in events.
func word(op fsnotify.Op) string {
	switch {
	case op.Has(fsnotify.Create):
		return "create"
	case op.Has(fsnotify.Remove):
		return "delete"
	case op.Has(fsnotify.Rename):
		return "rename"
	case op.Has(fsnotify.Write):
		return "write"
	}
	return "chmod"
}

// handle takes an event from the kernel. Most concern nobody, and cost a map lookup.
func (s *Source) handle(ev fsnotify.Event) {
	name := ev.Name
	if strings.HasPrefix(name, "//") {
		name = name[1:] // fsnotify joins "/" and the name by a slash
	}
	if name == s.k.cookie.name {
		if ev.Op == s.k.cookie.last {
			s.arrived()
		}
		return
	}
	if len(s.listed) > 0 && ev.Op.Has(fsnotify.Create) {
		s.unlist()
	}
	var also []string
	if s.aliased > 0 {
		also = s.aliases(name, ev.Op)
	}
	s.hit(name, ev.Op, word(ev.Op))
	for _, name := range also {
		s.hit(name, ev.Op, word(ev.Op))
	}
}

// aliases returns other names of what fsnotify reports as name: the kernel has one
// watch for a directory that is mounted in two places, and fsnotify one name for it.
func (s *Source) aliases(name string, op fsnotify.Op) []string {
	var names []string
	if name == "/" {
		return nil
	}
	dir, base := split(name)
	if d := s.entries[dir]; d != nil && d.w != nil && d.w.live {
		for _, o := range s.inodes[d.w.inode] {
			if o != d {
				names = append(names, join(o.key, base))
			}
		}
	}
	if e := s.entries[name]; e != nil && e.w != nil && e.w.live && op.Has(fsnotify.Chmod) {
		for _, o := range s.inodes[e.w.inode] {
			if o != e {
				names = append(names, o.key)
			}
		}
	}
	return names
}

// hit fires what depends on the entry of that name.
func (s *Source) hit(name string, op fsnotify.Op, what string) {
	if e := s.entries[name]; e != nil {
		s.touch(e, op, what)
	}
	if s.trees == 0 || name == "/" {
		return
	}
	dir, _ := split(name)
	if d := s.entries[dir]; d != nil && d.tree {
		if op.Has(fsnotify.Create) && d.sub[name] == nil {
			s.adopt(d, name)
		}
		s.fireRoots(d, what)
	}
}

// touch deals with an event of e. The common case, a file whose content, attributes or
// existence changed, costs a look for a symlink if it was created, and else no call.
func (s *Source) touch(e *entry, op fsnotify.Op, what string) {
	switch {
	case op&structural != 0:
		if e.w != nil || e.tree || s.passed(e) || op.Has(fsnotify.Create) && s.leads(e) {
			s.changed(e, what)
			return
		}
	case op.Has(fsnotify.Chmod) && e.w != nil && s.access(e):
		s.changed(e, what)
		return
	}
	for _, n := range e.nodes {
		s.fire(n.self, what)
		s.fire(n.tree, what)
	}
}

// passed says whether a node leads over e to something else.
func (s *Source) passed(e *entry) bool {
	return slices.ContainsFunc(e.nodes, func(n *node) bool {
		return n.first != nil || n.real != "" || len(n.deps) > 1
	})
}

// leads says whether e is something that can lead somewhere.
func (s *Source) leads(e *entry) bool {
	var st unix.Stat_t
	if lstat(e.key, &st) != nil {
		return false
	}
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFDIR || kind == unix.S_IFLNK
}

// changed deals with an entry that has become something else: every kernel watch on it
// and below is renewed, every path that leads over it is followed anew, and all their
// watches fire, since what happened in the meantime was not seen. If the entry changes
// again while this runs, there is another event in the queue.
func (s *Source) changed(e *entry, what string) {
	s.pass++
	s.fresh = e.key
	if e.w != nil {
		s.renew(e)
	}
	nodes := slices.Clone(e.nodes)
	for _, n := range nodes {
		if n.pass != s.pass {
			s.resolveAll(n)
		}
	}
	if s.covered(e) {
		s.regrow(e)
	}
	s.fresh = ""
	s.fireBelow(nodes, what)
	s.fireRoots(e, what)
	s.fireRoots(e.dir, what)
}

// fireBelow fires the watches of nodes and of all nodes below them.
func (s *Source) fireBelow(nodes []*node, what string) {
	parent := "parent " + what
	for _, n := range nodes {
		s.fire(n.self, what)
		s.fire(n.tree, what)
		for c := n.first; c != nil; c = c.next {
			s.fireAll(c, parent)
		}
	}
}

func (s *Source) fireAll(n *node, what string) {
	s.fire(n.self, what)
	s.fire(n.tree, what)
	for c := n.first; c != nil; c = c.next {
		s.fireAll(c, what)
	}
}

// fireRoots fires the trees that cover the directory e.
func (s *Source) fireRoots(e *entry, what string) {
	for ; e != nil && e.tree; e = e.dir {
		for _, n := range e.roots {
			s.fire(n.tree, what)
		}
	}
}

// fire puts t into pending, once, and wakes its taps.
func (s *Source) fire(t *target, what string) {
	if t == nil {
		return
	}
	if t.count > 0 && !t.queued {
		t.queued = true
		s.pending = append(s.pending, firing{t, what})
	}
	for _, tap := range t.taps {
		tap.fired = what
		signal(tap.wake)
	}
}

// overflow renews everything after the kernel has dropped events.
func (s *Source) overflow() {
	if err := s.k.failure.Swap(nil); err != nil {
		s.log.Error("reading from inotify failed", "err", *err)
	}
	s.unlist()
	if root := s.entries["/"]; root != nil {
		s.changed(root, "overflow")
	}
	for _, f := range s.pending {
		f.t.queued = false
	}
	clear(s.pending)
	s.pending = s.pending[:0]
	s.lost = "overflow"
	if s.flight != nil {
		// Its cookie may be among what was dropped. A new one can't be confused with it.
		old := s.k.cookie
		s.k.cookie = newCookie(s.k.fs)
		old.close(s.k.fs)
		s.drop()
	}
}

// signal sends on a channel of one item without waiting.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
