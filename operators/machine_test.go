package operators

import (
	"context"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is Sequence as one would explain it: slow, without any trick. Its only derived
// facts are who is pending and who may run. It leaves out who of those that share a
// semaphore gets it.
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
	resting                          bool
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
	return s.dirty && !s.running && !s.retrying && !s.resting && !m.heldBack(v)
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

func (m *model) finish(v int, o outcome) {
	s := &m.v[v]
	s.running = false
	s.resting = o.rests && !o.retries
	if o.fails {
		s.refresh = s.refresh || s.seen
		s.changed = s.changed || o.changed
		s.retrying = o.retries
		s.failed = !o.retries && !s.dirty
		return
	}
	changed := o.changed || s.changed
	s.changed = false
	for w := range m.v {
		if slices.Contains(m.preds[w], v) && (changed || slices.Contains(o.sent, w)) {
			m.wake(w, changed && m.notes[[2]int{v, w}])
		}
	}
}

// outcome is an Outcome in the terms of the test.
type outcome struct {
	changed, fails, retries, rests bool
	sent                           []int
}

func drawOutcome(t *rapid.T, n int) outcome {
	o := outcome{
		changed: rapid.Bool().Draw(t, "changed"),
		fails:   rapid.Bool().Draw(t, "fails"),
		rests:   rapid.IntRange(0, 2).Draw(t, "rests") == 0,
	}
	o.retries = o.fails && rapid.Bool().Draw(t, "retries")
	if rapid.IntRange(0, 2).Draw(t, "sends") == 0 {
		o.sent = rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 1, min(3, n), rapid.ID).Draw(t, "sent")
	}
	return o
}

// nobody is a sink that is never called.
type nobody struct {
	Sink
	schedule Schedule
}

func (n *nobody) Schedule() Schedule { return n.schedule }

// key is a Batch that is never called.
type key string

func (key) CheckApply(context.Context, []Sink, []Run) []Outcome { return nil }

func (n *nobody) names() (names []string) {
	for _, s := range n.schedule.Semaphores {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}

func drawSchedule(t *rapid.T) (s Schedule) {
	s.Waits = rapid.Bool().Draw(t, "waits")
	for range rapid.SampledFrom([]int{0, 0, 1, 1, 2, 3}).Draw(t, "semaphores") {
		name := rapid.SampledFrom([]string{"s", "t", "u"}).Draw(t, "semaphore")
		s.Semaphores = append(s.Semaphores, Semaphore{name, rapid.IntRange(0, 2).Draw(t, "count")})
	}
	if k := rapid.SampledFrom([]key{"", "", "a", "b"}).Draw(t, "batch"); k != "" {
		s.Batch = k
	}
	return s
}

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
	plain := rapid.IntRange(0, 2).Draw(t, "plain") == 0
	sinks := make([]Sink, n)
	for i := range sinks {
		sink := &nobody{}
		if !plain {
			sink.schedule = drawSchedule(t)
		}
		sinks[i] = sink
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

// crew is what runs together.
type crew struct {
	jobs  []job
	names [][]string // what each holds
	batch *batch
}

// rig runs the machine and the model side by side, one transition at a time. Its crews
// stand for the jobs of Sequence.
type rig struct {
	machine
	model   *model
	witness *witness
	crews   []*crew
	timed   map[int32]bool // vertices that have a timer for the end of their rest
}

// isReady says that nothing keeps v from being taken.
func (r *rig) isReady(v int) bool {
	p := r.v[v]
	return p.flags&queued != 0 && p.wait == 0 && (p.flags&limited == 0 || p.flags&holds != 0)
}

// full says that one of the semaphores of v is held by as many as it allows.
func (r *rig) full(v int) bool {
	return slices.ContainsFunc(r.g.sinks[v].(*nobody).names(), func(name string) bool {
		used := r.witness.held[name]
		for x, p := range r.v {
			if p.flags&holds != 0 && slices.Contains(r.g.sinks[x].(*nobody).names(), name) {
				used++
			}
		}
		return used >= r.witness.counts[name]
	})
}

// fits fails when the machine would let other vertices run than the model, counts
// other work, or keeps a blocked vertex to itself.
func (r *rig) fits(t *rapid.T) {
	busy, queue := r.orphans, 0
	for v, s := range r.model.v {
		p := r.v[v]
		got := r.isReady(v)
		want := r.model.mayRun(v) && (r.orphans == 0 || !s.fresh)
		if want {
			r.model.v[v].fresh = false
		}
		if got != want && (got || !r.full(v)) {
			t.Fatalf("vertex %d is ready: %v, want %v\n%+v", v, got, want, r)
		}
		for _, is := range []bool{p.flags&queued != 0, p.flags&inLine != 0, s.running, s.retrying, s.resting && s.dirty} {
			if is { // also stale entries count until they are taken
				busy++
			}
		}
		if p.flags&queued != 0 {
			queue++
		}
		if (p.flags&running != 0) != s.running || (p.flags&retrying != 0) != s.retrying || (p.flags&resting != 0) != s.resting {
			t.Fatalf("vertex %d: flags %b do not fit %+v", v, p.flags, s)
		}
		if (p.flags&(refresh|seen) != 0) != (s.refresh || s.running && s.seen) {
			t.Fatalf("vertex %d: refresh flags %b do not fit %+v", v, p.flags, s)
		}
		if (s.resting && s.dirty) != r.timed[int32(v)] {
			t.Fatalf("vertex %d: timed %v does not fit %+v", v, r.timed[int32(v)], s)
		}
	}
	if r.busy != busy {
		t.Fatalf("busy is %d, want %d\n%+v", r.busy, busy, r)
	}
	if n := r.entries(t); n != queue {
		t.Fatalf("%d vertices are queued, but the queues have %d", queue, n)
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

// entries counts what is in the queues, and looks at those of batches.
func (r *rig) entries(t *rapid.T) int {
	n := len(r.ready)
	stands := map[*batch]int{}
	for _, v := range r.readyWaiters {
		if r.v[v].flags&grouped == 0 {
			n++
		} else {
			stands[r.plan[v].batch]++
		}
	}
	for key, b := range r.batches {
		n += len(b.ready)
		want := 0
		if len(b.ready) > 0 && !r.witness.runs[key] {
			want = 1
		}
		if stands[b] != want {
			t.Fatalf("batch %v is queued %d times, want %d", key, stands[b], want)
		}
	}
	return n
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

// take takes from the one queue or the other what is next.
func (r *rig) take(t *rapid.T, waiter bool) {
	var taken []int32
	var b *batch
	before := make([]bool, len(r.v))
	for v := range r.v {
		before[v] = r.isReady(v)
	}
	if waiter {
		v := r.readyWaiters[0]
		r.readyWaiters = r.readyWaiters[1:]
		taken, b = r.takeWaiters(v)
		for x, ready := range before {
			with := x == int(v)
			if b != nil {
				with = r.g.sinks[x].(*nobody).schedule.Batch == b.key
			}
			if with && ready != slices.Contains(taken, int32(x)) {
				t.Fatalf("ready is %v, but of %d with its batch %v are taken", before, v, taken)
			}
		}
	} else {
		v := r.ready[len(r.ready)-1]
		r.ready = r.ready[:len(r.ready)-1]
		if took := r.machine.take(v); took != before[v] {
			t.Fatalf("take of %d: %v, want %v", v, took, before[v])
		} else if took {
			taken = append(taken, v)
		}
	}
	if len(taken) == 0 {
		return
	}
	c := &crew{batch: b}
	r.crews = append(r.crews, c)
	if b != nil {
		r.witness.startBatch(t, b.key)
	}
	for _, v := range taken {
		if run := r.run(v); run.Refresh != r.model.v[v].refresh {
			t.Fatalf("run of %d is told refresh %v", v, run.Refresh)
		}
		names := r.g.sinks[v].(*nobody).names()
		c.jobs = append(c.jobs, job{v: v, holds: r.needs(v)})
		c.names = append(c.names, names)
		r.witness.start(t, int(v), names)
	}
	for _, v := range taken {
		r.model.start(int(v))
	}
	r.settled()
}

// end ends what c runs.
func (r *rig) end(c *crew, draw func() outcome) {
	for i, j := range c.jobs {
		r.free(j.holds)
		r.grant()
		r.witness.free(c.names[i])
		if j.v == none {
			r.busy--
			if r.orphans--; r.orphans == 0 {
				r.release()
			}
			continue
		}
		o := draw()
		if o.rests && !o.retries {
			r.rest(j.v)
		}
		if o.fails {
			r.fail(j.v, o.changed, o.retries)
		} else {
			var sent []Sink
			for _, w := range o.sent {
				sent = append(sent, r.g.sinks[w])
			}
			r.succeed(j.v, o.changed, sent)
		}
		r.model.finish(int(j.v), o)
		r.witness.finish(int(j.v), o)
	}
	if c.batch != nil {
		r.batchEnded(c.batch)
		r.witness.runs[c.batch.key] = false
	}
	r.crews = slices.DeleteFunc(r.crews, func(x *crew) bool { return x == c })
	r.settled()
}

// attempt is the end of the wait for the next one.
func (r *rig) attempt(v int) {
	r.again(int32(v))
	r.model.v[v].retrying, r.model.v[v].dirty = false, true
	r.witness.v[v].waiting, r.witness.v[v].pending = false, true
	r.settled()
}

func (r *rig) endRest(v int) {
	r.rested(int32(v))
	delete(r.timed, int32(v))
	r.model.v[v].resting = false
	r.witness.v[v].resting = false
	r.settled()
}

func (r *rig) settled() {
	for _, v := range r.delayed {
		r.timed[v] = true
	}
	r.delayed = nil
	r.model.settle()
	r.witness.recover()
}

// TestMachineFitsModel runs the machine through random graphs, events, outcomes, retries,
// rests and swaps. After each transition it holds it against the model, which says exactly
// who may run, how much is pending and who is blocked, and against the witness, which
// states the promises one by one.
func TestMachineFitsModel(t *testing.T) { fitsModel(t, 10) }

func TestSoakMachine(t *testing.T) {
	if os.Getenv("MGMT_SOAK") == "" {
		t.Skip("takes minutes: make soak")
	}
	fitsModel(t, 2_000)
}

func fitsModel(t *testing.T, times int) {
	for range times { // of 100 runs each
		rapid.Check(t, machineFitsModel)
	}
}

func machineFitsModel(t *rapid.T) {
	g, model := drawGraph(t)
	r := &rig{
		machine: machine{g: &Graph{off: []int32{0}}, lazy: none},
		model:   model,
		witness: &witness{preds: model.preds, v: make([]testimony, len(model.v)), held: map[string]int{}, runs: map[Batch]bool{}},
		timed:   map[int32]bool{},
	}
	r.machine.swap(g, nil, mustWishes(t, g))
	r.machine.start()
	r.witness.count(g)
	for v := range model.v {
		model.v[v].dirty, model.v[v].fresh = true, true
		r.witness.v[v] = testimony{pending: true, asked: true, fresh: true}
	}
	t.Repeat(map[string]func(*rapid.T){
		"": func(t *rapid.T) {
			r.fits(t)
			r.witness.always(t, r)
		},
		"wake": func(t *rapid.T) {
			vs := rapid.SliceOfNDistinct(rapid.Int32Range(0, int32(len(r.v)-1)), 1, min(3, len(r.v)), rapid.ID).Draw(t, "vertices")
			note := rapid.Bool().Draw(t, "notify")
			r.machine.wake(vs, 7, note)
			for _, v := range vs {
				r.model.wake(int(v), note)
				r.witness.event(int(v))
			}
			r.settled()
		},
		"wake all": func(t *rapid.T) {
			if rapid.IntRange(0, 4).Draw(t, "seldom") > 0 {
				t.Skip("not this time")
			}
			note := rapid.Bool().Draw(t, "notify")
			r.machine.wake([]int32{All}, 7, note)
			for v := range r.model.v {
				r.model.wake(v, note)
				r.witness.event(v)
			}
			r.settled()
		},
		"start": func(t *rapid.T) {
			if len(r.ready) == 0 {
				t.Skip("nothing is ready")
			}
			r.take(t, false)
		},
		"start a waiter": func(t *rapid.T) {
			if len(r.readyWaiters) == 0 {
				t.Skip("nothing is ready")
			}
			r.take(t, true)
		},
		"all succeed": func(t *rapid.T) {
			for r.busy > 0 {
				for len(r.crews) > 0 {
					r.end(r.crews[0], func() outcome { return outcome{} })
				}
				for v, s := range r.model.v {
					if s.retrying {
						r.attempt(v)
					} else if s.resting && s.dirty {
						r.endRest(v)
					}
				}
				for len(r.ready) > 0 {
					r.take(t, false)
				}
				for len(r.readyWaiters) > 0 {
					r.take(t, true)
				}
			}
		},
		"end": func(t *rapid.T) {
			if len(r.crews) == 0 {
				t.Skip("nothing runs")
			}
			c := rapid.SampledFrom(r.crews).Draw(t, "job")
			r.end(c, func() outcome { return drawOutcome(t, len(r.v)) })
		},
		"again": func(t *rapid.T) {
			r.attempt(r.pick(t, "retrying", func(s modelVertex) bool { return s.retrying }))
		},
		"end of a rest": func(t *rapid.T) {
			r.endRest(r.pick(t, "dirty while it rests", func(s modelVertex) bool { return s.resting && s.dirty }))
		},
		"swap": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "seldom") > 0 {
				t.Skip("not this time")
			}
			r.drawSwap(t)
		},
	})
}

func mustWishes(t *rapid.T, g *Graph) []wish {
	list, err := wishes(g)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// drawSwap swaps in another random graph, which takes over some vertices of the old one
// as they are, others changed.
func (r *rig) drawSwap(t *rapid.T) {
	g, next := drawGraph(t)
	carry := make([]Carry, g.Len())
	free := rapid.Permutation(sequenceOf(len(r.v))).Draw(t, "old vertices")
	testimonies := make([]testimony, g.Len())
	for i := range carry {
		carry[i] = Carry{Old: none}
		next.v[i].dirty, next.v[i].fresh = true, true
		testimonies[i] = testimony{pending: true, asked: true, fresh: true}
		if len(free) > 0 && rapid.IntRange(0, 2).Draw(t, "new") > 0 {
			old := free[0]
			free = free[1:]
			carry[i] = Carry{Old: int32(old), Same: rapid.Bool().Draw(t, "same")}
			o := r.model.v[old]
			if carry[i].Same {
				next.v[i] = o
				testimonies[i] = r.witness.v[old]
			} else {
				testimonies[i].owes = o.changed
				next.v[i].refresh = o.refresh || o.running && o.seen
				next.v[i].changed = o.changed
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "notified") == 0 {
			carry[i].Refresh = true
			next.v[i].refresh = true
		}
	}
	from := r.machine.swap(g, carry, mustWishes(t, g))
	for _, c := range r.crews {
		for i := range c.jobs {
			j := &c.jobs[i]
			if j.v == none {
				continue
			}
			if j.v = from[j.v]; j.v == none {
				r.orphans++
				r.busy++
			}
		}
	}
	timed := map[int32]bool{}
	for v := range r.timed {
		if from[v] != none {
			timed[from[v]] = true
		}
	}
	r.timed = timed
	r.start()
	*r.model = *next
	r.witness.preds, r.witness.v = next.preds, testimonies
	r.witness.count(g)
	r.settled()
}
