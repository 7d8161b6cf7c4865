package operators

import (
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is Sequence as one would explain it: slow, without any trick. Its only derived
// facts are who is pending and who may run.
type model struct {
	preds [][]int // direct
	notes map[[2]int]bool
	v     []modelVertex
}

type modelVertex struct {
	dirty, running, retrying, failed bool
	refresh, seen, changed           bool
	stalled                          bool // failed, and an ancestor has been pending since
	fresh                            bool // new, and has not been ready yet
}

func (m *model) ancestors(v int) []int {
	found := map[int]bool{}
	var visit func(int)
	visit = func(x int) {
		for _, p := range m.preds[x] {
			if !found[p] {
				found[p] = true
				visit(p)
			}
		}
	}
	visit(v)
	var list []int
	for a := range found {
		list = append(list, a)
	}
	return list
}

func (m *model) pending(v int) bool {
	s := m.v[v]
	return s.dirty || s.running || s.retrying || s.failed
}

func (m *model) heldBack(v int) bool {
	return slices.ContainsFunc(m.ancestors(v), m.pending)
}

func (m *model) mayRun(v int) bool {
	s := m.v[v]
	return s.dirty && !s.running && !s.retrying && !m.heldBack(v)
}

// settle lets failed vertices try again once the ancestors that came back are done.
func (m *model) settle() {
	for again := true; again; {
		again = false
		for v := range m.v {
			s := &m.v[v]
			switch {
			case !s.failed:
				s.stalled = false
			case m.heldBack(v):
				s.stalled = true
			case s.stalled:
				s.failed, s.stalled, s.dirty = false, false, true
				again = true
			}
		}
	}
}

func (m *model) wake(v int, refresh bool) {
	s := &m.v[v]
	s.dirty, s.failed = true, false
	s.refresh = s.refresh || refresh
}

func (m *model) start(v int) {
	s := &m.v[v]
	s.dirty, s.fresh, s.running, s.seen, s.refresh = false, false, true, s.refresh, false
}

func (m *model) finish(v int, changed, fails, retries bool) {
	s := &m.v[v]
	s.running = false
	if fails {
		s.refresh = s.refresh || s.seen
		s.changed = s.changed || changed
		s.retrying = retries
		s.failed = !retries && !s.dirty
		return
	}
	changed = changed || s.changed
	s.changed = false
	for w := range m.v {
		if changed && slices.Contains(m.preds[w], v) {
			m.wake(w, m.notes[[2]int{v, w}])
		}
	}
}

type nobody struct{ Sink }

// drawGraph draws an acyclic graph and the same for the model.
func drawGraph(t *rapid.T) (*Graph, *model) {
	n := rapid.IntRange(1, 9).Draw(t, "vertices")
	m := &model{preds: make([][]int, n), v: make([]modelVertex, n), notes: map[[2]int]bool{}}
	order := rapid.Permutation(sequenceOf(n)).Draw(t, "order")
	var edges []Edge
	for i := range n {
		for j := range i {
			if rapid.IntRange(0, 3).Draw(t, "edge") == 0 {
				e := Edge{From: int32(order[j]), To: int32(order[i]), Notify: rapid.Bool().Draw(t, "notify")}
				edges = append(edges, e)
				m.preds[e.To] = append(m.preds[e.To], int(e.From))
				m.notes[[2]int{int(e.From), int(e.To)}] = e.Notify
			}
		}
	}
	sinks := make([]Sink, n)
	for i := range sinks {
		sinks[i] = &nobody{}
	}
	g, err := NewGraph(sinks, edges)
	if err != nil {
		t.Fatal(err)
	}
	return g, m
}

func sequenceOf(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// rig runs the machine and the model side by side, one transition at a time.
type rig struct {
	machine
	model   *model
	witness *witness
	orphans int
}

// fits fails when the machine would let other vertices run than the model, counts
// other work, or keeps a blocked vertex to itself.
func (r *rig) fits(t *rapid.T) {
	busy := r.orphans
	for v, s := range r.model.v {
		p := r.v[v]
		got := p.flags&queued != 0 && p.wait == 0
		want := r.model.mayRun(v) && (r.orphans == 0 || !s.fresh)
		if want {
			r.model.v[v].fresh = false
		}
		if got != want {
			t.Fatalf("vertex %d is ready: %v, want %v\n%+v", v, got, want, r)
		}
		if got || s.running || s.retrying {
			busy++
		}
		if (p.flags&running != 0) != s.running || (p.flags&retrying != 0) != s.retrying {
			t.Fatalf("vertex %d: flags %b do not fit %+v", v, p.flags, s)
		}
		if (p.flags&(refresh|seen) != 0) != (s.refresh || s.running && s.seen) {
			t.Fatalf("vertex %d: refresh flags %b do not fit %+v", v, p.flags, s)
		}
	}
	for _, v := range r.ready { // stale entries count until they are taken
		if r.v[v].wait > 0 {
			busy++
		}
	}
	if r.busy != busy {
		t.Fatalf("busy is %d, want %d", r.busy, busy)
	}
	if r.busy > 0 {
		return
	}
	reported := map[int32]bool{}
	r.eachBlocked(func(v, by int32) {
		if r.v[by].flags&failed == 0 || !slices.Contains(r.model.ancestors(int(v)), int(by)) {
			t.Fatalf("vertex %d is reported as blocked by %d", v, by)
		}
		reported[v] = true
	})
	for v, s := range r.model.v {
		if p := r.v[v]; s.dirty && p.flags&(told|failed) == 0 {
			t.Fatalf("vertex %d is pending, but neither runs nor is reported", v)
		}
	}
}

func (r *rig) pick(t *rapid.T, what string, ok func(modelVertex) bool) int {
	var vs []int
	for v, s := range r.model.v {
		if ok(s) {
			vs = append(vs, v)
		}
	}
	if len(vs) == 0 {
		t.Skip("no vertex is " + what)
	}
	return rapid.SampledFrom(vs).Draw(t, what)
}

// end is the end of a run, attempt that of a wait for the next one.
func (r *rig) end(v int, changed, fails, retries bool) {
	if fails {
		r.fail(int32(v), changed, retries)
	} else {
		r.succeed(int32(v), changed, nil)
	}
	r.model.finish(v, changed, fails, retries)
	r.witness.finish(v, changed, fails, retries)
	r.settled()
}

func (r *rig) attempt(v int) {
	r.again(int32(v))
	r.model.v[v].retrying, r.model.v[v].dirty = false, true
	r.witness.v[v].waiting, r.witness.v[v].pending = false, true
	r.settled()
}

func (r *rig) settled() {
	r.model.settle()
	r.witness.recover()
}

// TestMachineFitsModel runs the machine through random graphs, events, outcomes, retries
// and swaps. After each transition it holds it against the model, which says exactly who
// may run, how much is pending and who is blocked, and against the witness, which states
// the promises one by one.
func TestMachineFitsModel(t *testing.T) { rapid.Check(t, machineFitsModel) }

func TestSoakMachine(t *testing.T) {
	if os.Getenv("MGMT_SOAK") == "" {
		t.Skip("takes minutes: make soak")
	}
	for range 2_000 { // of 100 runs each
		rapid.Check(t, machineFitsModel)
	}
}

func machineFitsModel(t *rapid.T) {
	g, model := drawGraph(t)
	witness := &witness{preds: model.preds, v: make([]testimony, len(model.v))}
	r := &rig{machine: machine{g: &Graph{off: []int32{0}}, lazy: none}, model: model, witness: witness}
	r.machine.swap(g, nil, nil)
	r.machine.start()
	for v := range model.v {
		model.v[v].dirty, model.v[v].fresh = true, true
		witness.v[v] = testimony{pending: true, asked: true, fresh: true}
	}
	take := func(t *rapid.T) {
		v := r.ready[len(r.ready)-1]
		r.ready = r.ready[:len(r.ready)-1]
		if took, want := r.take(v), model.mayRun(int(v)); took != want {
			t.Fatalf("take of %d: %v, want %v", v, took, want)
		} else if took {
			if run := r.run(v); run.Refresh != model.v[v].refresh {
				t.Fatalf("run of %d is told refresh %v", v, run.Refresh)
			}
			witness.start(t, int(v))
			model.start(int(v))
			r.settled()
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"": func(t *rapid.T) {
			r.fits(t)
			witness.always(t, r)
		},
		"wake": func(t *rapid.T) {
			vs := rapid.SliceOfNDistinct(rapid.Int32Range(0, int32(len(r.v)-1)), 1, min(3, len(r.v)), rapid.ID).Draw(t, "vertices")
			note := rapid.Bool().Draw(t, "notify")
			r.machine.wake(vs, 7, note)
			for _, v := range vs {
				model.wake(int(v), note)
				witness.event(int(v))
			}
			r.settled()
		},
		"wake all": func(t *rapid.T) {
			if rapid.IntRange(0, 4).Draw(t, "seldom") > 0 {
				t.Skip("not this time")
			}
			r.machine.wake([]int32{All}, 7, false)
			for v := range model.v {
				model.wake(v, false)
				witness.event(v)
			}
			r.settled()
		},
		"start": func(t *rapid.T) {
			if len(r.ready) == 0 {
				t.Skip("nothing is ready")
			}
			take(t)
		},
		"all succeed": func(t *rapid.T) {
			for r.busy > r.orphans {
				for v, s := range model.v {
					if s.running {
						r.end(v, false, false, false)
					} else if s.retrying {
						r.attempt(v)
					}
				}
				for len(r.ready) > 0 {
					take(t)
				}
			}
		},
		"succeed": func(t *rapid.T) {
			v := r.pick(t, "running", func(s modelVertex) bool { return s.running })
			changed := rapid.Bool().Draw(t, "changed")
			r.end(v, changed, false, false)
		},
		"fail": func(t *rapid.T) {
			v := r.pick(t, "running", func(s modelVertex) bool { return s.running })
			changed, retries := rapid.Bool().Draw(t, "changed"), rapid.Bool().Draw(t, "retries")
			r.end(v, changed, true, retries)
		},
		"again": func(t *rapid.T) {
			v := r.pick(t, "retrying", func(s modelVertex) bool { return s.retrying })
			r.attempt(v)
		},
		"swap": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "seldom") > 0 {
				t.Skip("not this time")
			}
			r.drawSwap(t)
		},
		"an orphan ends": func(t *rapid.T) {
			if r.orphans == 0 {
				t.Skip("there is none")
			}
			r.orphans--
			r.machine.orphans--
			r.busy--
			if r.orphans == 0 {
				r.release()
			}
		},
	})
}

// drawSwap swaps in another random graph, which takes over some vertices of the old one
// as they are, others changed.
func (r *rig) drawSwap(t *rapid.T) {
	g, next := drawGraph(t)
	carry := make([]Carry, g.Len())
	free := rapid.Permutation(sequenceOf(len(r.v))).Draw(t, "old vertices")
	kept := map[int32]bool{}
	testimonies := make([]testimony, g.Len())
	for i := range carry {
		carry[i] = Carry{Old: none}
		next.v[i].dirty, next.v[i].fresh = true, true
		testimonies[i] = testimony{pending: true, asked: true, fresh: true}
		if len(free) == 0 || rapid.IntRange(0, 2).Draw(t, "new") == 0 {
			continue
		}
		old := free[0]
		free = free[1:]
		carry[i] = Carry{Old: int32(old), Same: rapid.Bool().Draw(t, "same")}
		o := r.model.v[old]
		if carry[i].Same {
			next.v[i] = o
			testimonies[i] = r.witness.v[old]
			kept[int32(old)] = true
		} else {
			testimonies[i].owes = o.changed
			next.v[i].refresh = o.refresh || o.running && o.seen
			next.v[i].changed = o.changed
		}
	}
	for v, s := range r.model.v {
		if s.running && !kept[int32(v)] {
			r.orphans++
			r.machine.orphans++
		}
	}
	r.machine.swap(g, carry, nil)
	r.start()
	*r.model = *next
	*r.witness = witness{preds: next.preds, v: testimonies}
	r.settled()
}
