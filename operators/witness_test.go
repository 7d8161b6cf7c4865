package operators

import (
	"slices"

	"pgregory.net/rapid"
)

// witness states the promises of Sequence one by one. It knows the edges and what has
// happened, in its own books, and nothing of how the machine or the model work.
type witness struct {
	preds [][]int
	v     []testimony
}

type testimony struct {
	pending   bool // has an event that no run has begun after
	running   bool
	waiting   bool // for its next attempt
	failed    bool
	asked     bool // something has given it a reason to run
	unsettled bool // it has failed, and an ancestor has not been at rest since
	fresh     bool // has not run since it came into the graph
	owes      bool // a failed run has changed something, of which the successors don't know
}

func (w *witness) ancestors(v int) []int {
	m := model{preds: w.preds}
	return m.ancestors(v)
}

// atRest says that nothing about v is unfinished.
func (w *witness) atRest(v int) bool {
	s := w.v[v]
	return !s.pending && !s.running && !s.waiting && !s.failed
}

func (w *witness) event(v int) {
	s := &w.v[v]
	s.pending, s.asked, s.failed = true, true, false
}

// recover gives failed vertices a reason to run whose ancestors have come to rest.
func (w *witness) recover() {
	for v := range w.v {
		s := &w.v[v]
		resting := !slices.ContainsFunc(w.ancestors(v), func(a int) bool { return !w.atRest(a) })
		switch {
		case !s.failed:
			s.unsettled = false
		case !resting:
			s.unsettled = true
		case s.unsettled:
			s.asked, s.unsettled = true, false
		}
	}
}

// start holds a run that begins against the promises about beginnings.
func (w *witness) start(t *rapid.T, v int) {
	s := &w.v[v]
	for _, a := range w.ancestors(v) {
		if !w.atRest(a) {
			t.Fatalf("ORDER: %d starts, but its ancestor %d is %+v", v, a, w.v[a])
		}
	}
	if s.running {
		t.Fatalf("SINGLE FLIGHT: %d starts while it runs", v)
	}
	if !s.asked {
		t.Fatalf("ONLY WHAT CHANGED: %d starts, but nothing has happened to it", v)
	}
	s.running, s.pending, s.failed, s.asked, s.fresh = true, false, false, false, false
}

func (w *witness) finish(v int, changed, fails, retries bool) {
	s := &w.v[v]
	s.running = false
	if fails {
		s.owes = s.owes || changed
		s.waiting, s.asked = retries, s.asked || retries
		s.failed = !retries && !s.pending
		return
	}
	if changed || s.owes {
		for x := range w.v {
			if slices.Contains(w.preds[x], v) {
				w.event(x)
			}
		}
	}
	s.owes = false
}

// always holds a moment between two transitions against the promises about all moments.
func (w *witness) always(t *rapid.T, r *rig) {
	idle := r.busy == 0
	for v, s := range w.v {
		held := slices.ContainsFunc(w.ancestors(v), func(a int) bool { return !w.atRest(a) })
		ready := r.v[v].flags&queued != 0
		if s.pending && !s.running && !s.waiting && !held && !ready && (r.orphans == 0 || !s.fresh) {
			t.Fatalf("WORK-CONSERVING: %d may run, and is not ready", v)
		}
		if !idle {
			continue
		}
		blocked := r.v[v].flags&told != 0
		if s.pending && !s.failed && !blocked {
			t.Fatalf("NOTHING LOST: %d has an event, but neither runs nor is reported", v)
		}
		excused := s.failed || slices.ContainsFunc(w.ancestors(v), func(a int) bool { return w.v[a].failed })
		if s.pending && !excused {
			t.Fatalf("ISOLATION: %d is held back, and no ancestor of it has failed", v)
		}
		if ready || s.running || s.waiting {
			t.Fatalf("QUIET: idle is announced while %d is %+v", v, s)
		}
	}
	if idle && len(r.ready)+len(r.readyWaiters) > 0 {
		t.Fatalf("QUIET: idle is announced with %v to do", r.ready)
	}
}
