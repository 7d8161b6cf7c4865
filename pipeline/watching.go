package pipeline

import (
	"fmt"
	"slices"

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
	for _, u := range units {
		ws := u.watches()
		if len(ws) == 0 {
			continue
		}
		e.watching[u] = ws
		for _, w := range ws {
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
	}
}

// stopWatching ends what startWatching began for the units that have left.
func (e *engine) stopWatching(left map[identity]*unit) {
	affected := map[sources.Watch]bool{}
	gone := make(map[*unit]bool, len(left))
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
		entry := e.watched[w]
		entry.units = slices.DeleteFunc(entry.units, func(u *unit) bool { return gone[u] })
		if len(entry.units) == 0 {
			delete(e.watched, w)
			e.mu.Lock()
			e.stale = append(e.stale, entry.ref)
			e.mu.Unlock()
		}
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

func (e *engine) noteTrouble(u *unit, t trouble) {
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	e.troubles[u] = append(e.troubles[u], t)
	u.ailing.Store(true)
}

// release takes back what was added for u, which is no longer in the graph.
func (e *engine) release(u *unit, ws []sources.Watch) {
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	ts := e.troubles[u]
	delete(e.troubles, u)
	u.ailing.Store(false)
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
	if !u.ailing.Load() {
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
		u.ailing.Store(false)
		return nil
	}
	e.troubles[u] = left
	return failure
}
