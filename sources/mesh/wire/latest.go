package wire

import (
	"sync"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// foldAt is how many keys may wait before they are looked through for those that were
// changed more than once.
const foldAt = 1000

// latest holds the changes that were not yet taken.
type latest struct {
	mu      sync.Mutex
	changes []mesh.Change
	keys    int // in changes
	limit   int // of keys, at which they are folded
}

// put adds a change, and reports whether there was none.
func (l *latest) put(c mesh.Change) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = len(l.changes) == 0
	l.changes = append(l.changes, c)
	if l.keys += len(c.Put) + len(c.Deleted); l.keys > max(l.limit, foldAt) {
		c = mesh.Fold(l.changes...)
		l.changes, l.keys = []mesh.Change{c}, len(c.Put)+len(c.Deleted)
		l.limit = 2 * l.keys
	}
	return first
}

// take returns all of them as one; ok is false if there are none.
func (l *latest) take() (c mesh.Change, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch len(l.changes) {
	case 0:
		return c, false
	case 1:
		c = l.changes[0]
	default:
		c = mesh.Fold(l.changes...)
	}
	l.changes, l.keys, l.limit = nil, 0, 0
	return c, true
}
