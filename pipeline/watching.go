package pipeline

import (
	"fmt"
	"slices"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// watched is one watch and the resources that declared it.
type watched struct {
	ref   int32
	units []*unit
}

// trouble is a watch that does not work for a resource: it makes its CheckApply fail,
// and is begun again by the retries of the resource.
type trouble struct {
	watch    sources.Watch
	err      error
	counted  bool // the source still counts it
	reported bool // a CheckApply has failed with it
}

// startWatching begins to serve the watches of units, before their first CheckApply, so
// that no change is missed in between.
func (e *engine) startWatching(units []*unit) {
	e.mu.Lock()
	e.free = append(e.free, e.stale...)
	e.stale = e.stale[:0]
	e.mu.Unlock()
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	for _, u := range units {
		if ws := u.watches(u.resource()); len(ws) > 0 {
			e.watching[u] = ws
			for _, w := range ws {
				e.watch(u, w)
			}
		}
	}
}

// watch begins one watch for u. The caller holds watchMu.
func (e *engine) watch(u *unit, w sources.Watch) {
	if err := e.add(w); err != nil {
		e.noteTrouble(u, trouble{watch: w, err: err})
	}
	entry := e.watched[w]
	if entry == nil {
		entry = &watched{ref: e.newRef(w)}
		e.watched[w] = entry
	}
	entry.units = append(entry.units, u)
}

// stopWatching ends what startWatching began for the units that have left.
func (e *engine) stopWatching(left []*unit) {
	affected := map[sources.Watch]bool{}
	gone := make(map[*unit]bool, len(left))
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	for _, u := range left {
		gone[u] = true
		ws := e.watching[u]
		delete(e.watching, u)
		for _, w := range ws {
			affected[w] = true
		}
		e.release(u, ws)
	}
	for w := range affected {
		e.unlist(w, func(u *unit) bool { return gone[u] })
	}
}

// unlist takes units off the list of w. The caller holds watchMu.
func (e *engine) unlist(w sources.Watch, gone func(*unit) bool) {
	entry := e.watched[w]
	entry.units = slices.DeleteFunc(entry.units, gone)
	if len(entry.units) == 0 {
		delete(e.watched, w)
		e.mu.Lock()
		e.stale = append(e.stale, entry.ref)
		e.mu.Unlock()
	}
}

// redeclare asks the resource of u what it watches now, and begins and ends watches as
// that asks for: all of them with anew. Events that come meanwhile wake u again.
func (e *engine) redeclare(u *unit, r sinks.Resource, anew bool) {
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	if u.is(gone) {
		return
	}
	before := e.watching[u]
	if anew {
		e.drop(u, before)
		before = nil
	}
	now := u.watches(r)
	var fresh, old []sources.Watch
	for _, w := range now {
		if !slices.Contains(before, w) {
			fresh = append(fresh, w)
		}
	}
	for _, w := range before {
		if !slices.Contains(now, w) {
			old = append(old, w)
		}
	}
	for _, w := range fresh {
		e.watch(u, w)
	}
	e.drop(u, old)
	if len(now) == 0 {
		delete(e.watching, u)
	} else {
		e.watching[u] = now
	}
}

// drop ends watches of u. The caller holds watchMu.
func (e *engine) drop(u *unit, ws []sources.Watch) {
	if len(ws) == 0 {
		return
	}
	ts := e.troubles[u]
	for _, w := range ws {
		if i := slices.IndexFunc(ts, func(t trouble) bool { return t.watch == w }); i >= 0 {
			if s := e.sources[w.Source()]; s != nil && ts[i].counted {
				s.Remove(w)
			}
			ts = slices.Delete(ts, i, i+1)
		} else if s := e.sources[w.Source()]; s != nil {
			s.Remove(w)
		}
		e.unlist(w, func(other *unit) bool { return other == u })
	}
	if len(ts) == 0 {
		delete(e.troubles, u)
		u.clear(ailing)
	} else {
		e.troubles[u] = ts
	}
}

// newRef returns a number for w that causes can carry.
func (e *engine) newRef(w sources.Watch) int32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.free); n > 0 {
		ref := e.free[n-1]
		e.free = e.free[:n-1]
		e.refs[ref] = refInfo{watch: w}
		return ref
	}
	e.refs = append(e.refs, refInfo{watch: w})
	return int32(len(e.refs) - 1)
}

func (e *engine) add(w sources.Watch) error {
	s, ok := e.sources[w.Source()]
	if !ok {
		return fmt.Errorf("no source named %s is in use", w.Source())
	}
	return s.Add(w)
}

// noteTrouble notes that a watch does not work. The caller holds watchMu.
func (e *engine) noteTrouble(u *unit, t trouble) {
	e.troubles[u] = append(e.troubles[u], t)
	u.set(ailing)
}

// release takes back what was added for u, which is no longer in the graph. The caller
// holds watchMu.
func (e *engine) release(u *unit, ws []sources.Watch) {
	ts := e.troubles[u]
	delete(e.troubles, u)
	u.clear(ailing)
	for _, w := range ws {
		uncounted := slices.ContainsFunc(ts, func(t trouble) bool { return t.watch == w && !t.counted })
		if s := e.sources[w.Source()]; s != nil && !uncounted {
			s.Remove(w)
		}
	}
}

// rewatch begins the watches of u that do not work again, if a CheckApply has already
// failed because of them. It returns what is wrong with them now.
func (e *engine) rewatch(u *unit) error {
	if !u.is(ailing) {
		return nil
	}
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	var failure error
	left := e.troubles[u][:0]
	for _, t := range e.troubles[u] {
		if t.reported {
			if s := e.sources[t.watch.Source()]; s != nil && t.counted {
				s.Remove(t.watch)
			}
			t.counted = false
			if t.err = e.add(t.watch); t.err == nil {
				continue
			}
		}
		t.reported = true
		left = append(left, t)
		if failure == nil {
			failure = fmt.Errorf("watching %s: %w", t.watch, t.err)
		}
	}
	if len(left) == 0 {
		delete(e.troubles, u)
		u.clear(ailing)
		return nil
	}
	e.troubles[u] = left
	return failure
}
