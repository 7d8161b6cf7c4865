package operators

import (
	"slices"

	"pgregory.net/rapid"
)

// witness states the promises of Sequence one by one. It knows the edges and what has
// happened, in its own books, and nothing of how the machine or the model work.
type witness struct {
	preds  [][]int
	v      []testimony
	counts map[string]int // of semaphores
	held   map[string]int // by what runs, also by orphans
	runs   map[Batch]bool
}

type testimony struct {
	pending   bool // has an event that no run has begun after
	running   bool
	waiting   bool // for its next attempt
	resting   bool
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

// count takes in the counts of the semaphores of a new graph.
func (w *witness) count(g *Graph) {
	w.counts = map[string]int{}
	for _, sink := range g.sinks {
		for _, s := range sink.(*nobody).schedule.Semaphores {
			w.counts[s.Name] = max(w.counts[s.Name], s.Count, 1)
		}
	}
}

func (w *witness) free(names []string) {
	for _, name := range names {
		w.held[name]--
	}
}

func (w *witness) startBatch(t *rapid.T, key Batch) {
	if w.runs[key] {
		t.Fatalf("SINGLE FLIGHT: batch %v starts while it runs", key)
	}
	w.runs[key] = true
}

// start holds a run that begins, and needs these semaphores, against the promises about
// beginnings.
func (w *witness) start(t *rapid.T, v int, semaphores []string) {
	s := &w.v[v]
	for _, name := range semaphores {
		if w.held[name]++; w.held[name] > w.counts[name] {
			t.Fatalf("SEMAPHORE: with %d, %d hold %s, of %d", v, w.held[name], name, w.counts[name])
		}
	}
	if s.resting {
		t.Fatalf("REST: %d starts while it rests", v)
	}
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

func (w *witness) finish(v int, o outcome) {
	s := &w.v[v]
	s.running = false
	s.resting = o.rests && !o.retries
	if o.fails {
		s.owes = s.owes || o.changed
		s.waiting, s.asked = o.retries, s.asked || o.retries
		s.failed = !o.retries && !s.pending
		return
	}
	for x := range w.v {
		if slices.Contains(w.preds[x], v) && (o.changed || s.owes || slices.Contains(o.sent, x)) {
			w.event(x)
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
		if s.pending && !s.running && !s.waiting && !s.resting && !held && !ready && (r.orphans == 0 || !s.fresh) && !r.full(v) {
			t.Fatalf("WORK-CONSERVING: %d may run, and is not ready", v)
		}
		if r.v[v].flags&holds != 0 && (held || !ready) {
			t.Fatalf("SEMAPHORE: %d holds what it can't use", v)
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
		if ready || s.running || s.waiting || s.resting && s.pending {
			t.Fatalf("QUIET: idle is announced while %d is %+v", v, s)
		}
	}
	if idle && len(r.ready)+len(r.readyWaiters) > 0 {
		t.Fatalf("QUIET: idle is announced with %v and %v to do", r.ready, r.readyWaiters)
	}
	for name, s := range r.semaphores {
		used := w.held[name]
		for v := range r.v {
			if r.v[v].flags&holds != 0 && slices.Contains(r.g.sinks[v].(*nobody).names(), name) {
				used++
			}
		}
		if s.used != used {
			t.Fatalf("SEMAPHORE: %s counts %d holders, but has %d", name, s.used, used)
		}
	}
}
