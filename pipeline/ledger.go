package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// ledger is what the engine has to remember: notifications that nobody has acted on yet,
// and how to undo what resources have done. It is written ahead: before a change is made,
// what follows from it is in the State, if there is one.
type ledger struct {
	state State // nil: nothing survives the process

	mu        sync.Mutex
	refreshes map[string]notified // by resource
	reversals map[string]*reversal
	count     uint64
	waiting   *saving // changes that the next save takes along

	save sync.Mutex // held by who saves
}

// reversal is a Reversal and the Config that undoes.
type reversal struct {
	Reversal
	undo sinks.Config // nil if it comes from a former process and has not been decoded
}

// notified is a resource that has been notified.
type notified struct {
	number uint64 // grows with each notification
	saved  bool
}

// saving is one Save, perhaps for several who wait for it.
type saving struct {
	changes StateChanges
	done    bool
	err     error
}

func openLedger(state State) (*ledger, error) {
	l := &ledger{state: state, refreshes: map[string]notified{}, reversals: map[string]*reversal{}}
	if state == nil {
		return l, nil
	}
	saved, err := state.Load()
	if err != nil {
		return nil, fmt.Errorf("loading what an earlier run has left to do: %w", err)
	}
	for _, r := range saved.Refreshes {
		l.refreshes[r] = notified{saved: true}
	}
	for _, r := range saved.Reversals {
		l.reversals[r.Ref()] = &reversal{Reversal: r}
	}
	return l, nil
}

// durable says whether what is noted survives the process.
func (l *ledger) durable() bool { return l.state != nil }

// notify notes, before u makes a change, that the receivers will have been notified, and
// how the change is undone, if it can be.
func (l *ledger) notify(u *unit, receivers []string, undo *reversal) error {
	l.mu.Lock()
	if u.is(gone) {
		l.mu.Unlock()
		return errGone
	}
	var c StateChanges
	for _, r := range receivers {
		l.count++
		n := notified{l.count, l.refreshes[r].saved}
		l.refreshes[r] = n
		if !n.saved {
			c.AddRefreshes = append(c.AddRefreshes, r)
		}
	}
	if undo != nil {
		l.reversals[undo.Ref()] = undo
		c.PutReversals = append(c.PutReversals, undo.Reversal)
	}
	if err := l.commit(c); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range c.AddRefreshes {
		if n, ok := l.refreshes[r]; ok {
			n.saved = true
			l.refreshes[r] = n
		}
	}
	return nil
}

// any says that some resource has been notified.
func (l *ledger) any() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.refreshes) > 0
}

// pending says whether a resource has been notified.
func (l *ledger) pending(resource string) bool {
	_, ok := l.seen(resource)
	return ok
}

// seen returns the newest notification of a resource, for done.
func (l *ledger) seen(resource string) (number uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.refreshes[resource]
	return n.number, ok
}

// done forgets the notifications of a resource, unless there is a newer one than seen has
// returned.
func (l *ledger) done(resource string, number uint64) error {
	l.mu.Lock()
	if now, ok := l.refreshes[resource]; !ok || now.number != number {
		l.mu.Unlock()
		return nil
	}
	delete(l.refreshes, resource)
	return l.commit(StateChanges{DropRefreshes: []string{resource}})
}

// forget drops all that is noted about resources: what has left the graph is not notified
// any more, what has been undone not again.
func (l *ledger) forget(resources []string, undone bool) error {
	l.mu.Lock()
	var c StateChanges
	for _, r := range resources {
		if _, ok := l.refreshes[r]; ok {
			delete(l.refreshes, r)
			c.DropRefreshes = append(c.DropRefreshes, r)
		}
		if _, ok := l.reversals[r]; ok && undone {
			delete(l.reversals, r)
			c.DropReversals = append(c.DropReversals, r)
		}
	}
	return l.commit(c)
}

// forgetReversals drops how resources are undone, and keeps their notifications.
func (l *ledger) forgetReversals(resources []string) error {
	l.mu.Lock()
	var c StateChanges
	for _, r := range resources {
		if _, ok := l.reversals[r]; ok {
			delete(l.reversals, r)
			c.DropReversals = append(c.DropReversals, r)
		}
	}
	return l.commit(c)
}

// retire marks units as gone, those that leave and those that are replaced: none of them
// makes a change from now on that has not been noted before.
func (l *ledger) retire(leave map[identity]*unit, matches []matched) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range leave {
		u.set(gone)
	}
	for _, m := range matches {
		if m.was != nil && !m.same {
			m.was.set(gone)
		}
	}
}

// undoes says that something is noted that could be undone.
func (l *ledger) undoes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.reversals) > 0
}

// errGone is why a resource that has left the graph changes nothing more.
var errGone = errors.New("it has left the graph, or was changed")

// reversible returns the reversal of a resource, or nil.
func (l *ledger) reversible(resource string) *reversal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reversals[resource]
}

// undoable lists all reversals, in alphabetical order.
func (l *ledger) undoable() []*reversal {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*reversal, 0, len(l.reversals))
	for _, name := range slices.Sorted(maps.Keys(l.reversals)) {
		list = append(list, l.reversals[name])
	}
	return list
}

// commit saves c together with what others want to be saved at the same time. It is
// entered with mu held and returns without it, when c is saved.
func (l *ledger) commit(c StateChanges) error {
	if l.state == nil || len(c.AddRefreshes)+len(c.DropRefreshes)+len(c.PutReversals)+len(c.DropReversals) == 0 {
		l.mu.Unlock()
		return nil
	}
	if l.waiting == nil {
		l.waiting = &saving{}
	}
	mine := l.waiting
	mine.changes.merge(c)
	l.mu.Unlock()

	l.save.Lock()
	defer l.save.Unlock()
	if mine.done {
		return mine.err
	}
	l.mu.Lock()
	l.waiting = nil
	l.mu.Unlock()
	mine.err = l.state.Save(mine.changes)
	mine.done = true
	if mine.err != nil {
		mine.err = fmt.Errorf("noting what has to be done afterwards: %w", mine.err)
	}
	return mine.err
}

// merge adds d to c. Of what both say about a resource, d is newer.
func (c *StateChanges) merge(d StateChanges) {
	without := func(list, drop []string) []string {
		return slices.DeleteFunc(list, func(s string) bool { return slices.Contains(drop, s) })
	}
	c.DropRefreshes = append(without(c.DropRefreshes, d.AddRefreshes), d.DropRefreshes...)
	c.AddRefreshes = append(without(c.AddRefreshes, d.DropRefreshes), d.AddRefreshes...)
	for _, p := range d.PutReversals {
		c.DropReversals = without(c.DropReversals, []string{p.Ref()})
		c.PutReversals = slices.DeleteFunc(c.PutReversals, func(o Reversal) bool { return o.Ref() == p.Ref() })
	}
	c.PutReversals = slices.DeleteFunc(c.PutReversals, func(o Reversal) bool { return slices.Contains(d.DropReversals, o.Ref()) })
	c.PutReversals = append(c.PutReversals, d.PutReversals...)
	c.DropReversals = append(c.DropReversals, d.DropReversals...)
}

// nothing says that the resource has done nothing that would have to be undone.
func (r *reversal) nothing() bool { return r.undo == nil && r.Params == "" }

// undoOf returns the Config that a reversal stands for.
func (r *reversal) undoOf(kinds *sinks.Registry) (sinks.Config, error) {
	if r.undo != nil {
		return r.undo, nil
	}
	if kinds == nil {
		return nil, fmt.Errorf("the kind %s is not known to this run", r.Kind)
	}
	spec, ok := kinds.Spec(r.Kind)
	if !ok {
		return nil, fmt.Errorf("there is no kind %s any more", r.Kind)
	}
	cfg := spec.New()
	if err := params.Unmarshal(cfg, r.Params); err != nil {
		return nil, err
	}
	r.undo = cfg
	return cfg, nil
}
