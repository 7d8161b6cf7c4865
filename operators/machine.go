package operators

// none stands for no vertex.
const none = int32(-1)

// The flags of a vertex. Its last cause is above them.
const (
	active   uint32 = 1 << iota // it, or an ancestor, is pending, running or failed
	dirty                       // it has to run
	queued                      // it is in ready, readyWaiters or the ready list of its batch
	running                     // its CheckApply runs
	retrying                    // it waits for its next attempt
	failed                      // its last run failed, and nothing has happened since
	held                        // it is new, and waits for the jobs of vertices that left
	refresh                     // a notification is pending
	seen                        // the current run was told of a notification
	changed                     // a failed run changed something: successors still have to know
	told                        // it was reported as blocked
	listed                      // it is in machine.failures
	marked                      // visited, within eachBlocked
	resting                     // it must not start
	inLine                      // it is in the queue of a semaphore
	holds                       // it is queued, and has its semaphores
	waits                       // its sink waits: see Schedule
	limited                     // its sink names semaphores
	grouped                     // its sink has a Batch

	special    = waits | limited | grouped
	causeShift = 24
)

// vertex is the state of one vertex: 12 bytes.
type vertex struct {
	wait  int32 // how many of its predecessors are active
	ref   int32 // see Cause.Ref; the vertex for CausePredecessor
	flags uint32
}

func (p *vertex) cause() CauseKind { return CauseKind(p.flags >> causeShift) }

func (p *vertex) setCause(cause CauseKind, ref int32) {
	p.flags = p.flags&(1<<causeShift-1) | uint32(cause)<<causeShift
	p.ref = ref
}

// machine is the pure core of Sequence: no goroutine, no lock, no clock. The set of
// active vertices is closed under descendants; an active vertex runs when it is dirty
// and waits for no predecessor, and resolves without a run when nothing made it dirty.
//
// An input for one vertex of a quiet graph does not walk its descendants: they become
// active only when the vertex has changed something, or something else happens first.
// While that is so, the vertex is lazy, and the only active one.
type machine struct {
	g            *Graph
	v            []vertex
	ready        []int32 // last in, first out
	readyWaiters []int32 // first in, first out; one of a batch stands for all of it
	stack        []int32
	failures     []int32 // vertices that have failed, and perhaps recovered
	delayed      []int32 // vertices that became dirty while they rest: the caller's to time
	nactive      int
	nfailed      int
	busy         int   // how many are queued, in line, running, retrying or dirty while they rest, and orphans
	orphans      int   // vertices which have left the graph while they run
	lazy         int32 // see above, or none
	look         bool  // eachBlocked may find something new
	plans              // for the vertices with semaphores or a batch
}

// dirtied notes that v has to run.
func (m *machine) dirtied(v int32, cause CauseKind, ref int32) {
	p := &m.v[v]
	if p.flags&(failed|resting) != 0 {
		m.roused(v)
	}
	p.flags |= dirty
	p.setCause(cause, ref)
	if m.nfailed > 0 {
		m.look = true
	}
}

// roused is the part of dirtied for vertices that have failed or rest.
func (m *machine) roused(v int32) {
	p := &m.v[v]
	if p.flags&failed != 0 {
		p.flags &^= failed
		m.nfailed--
	}
	if p.flags&(resting|dirty) == resting {
		m.delay(v)
	}
}

// step queues w if it may run, or resolves it and whatever that sets free.
func (m *machine) step(w int32) {
	stack := append(m.stack[:0], w)
	for len(stack) > 0 {
		x := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		p := &m.v[x]
		switch {
		case p.wait > 0 || p.flags&active == 0 || p.flags&(running|retrying|failed|inLine) != 0:
		case p.flags&queued != 0 && p.flags&(limited|holds) != limited:
		case p.flags&dirty == 0:
			p.flags &^= active | told
			m.nactive--
			for _, e := range m.g.succ(x) {
				y := int32(e &^ notifyBit)
				q := &m.v[y]
				if q.wait--; q.wait == 0 {
					if q.flags&failed != 0 {
						m.dirtied(y, CausePredecessor, x)
					}
					stack = append(stack, y)
				}
			}
		case p.flags&resting != 0 || p.flags&held != 0 && m.orphans > 0:
		case p.flags&special != 0:
			m.queueSpecial(x)
		default:
			p.flags = p.flags&^held | queued
			m.busy++
			m.ready = append(m.ready, x)
		}
	}
	m.stack = stack
}

// activate makes v and its descendants active.
func (m *machine) activate(v int32) {
	m.v[v].flags |= active
	m.nactive++
	m.expand(append(m.stack[:0], v))
}

// expand makes the descendants of the newly active vertices in queue active, too.
func (m *machine) expand(queue []int32) {
	for len(queue) > 0 {
		x := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, e := range m.g.succ(x) {
			y := int32(e &^ notifyBit)
			q := &m.v[y]
			q.wait++
			if q.flags&active == 0 {
				q.flags |= active
				m.nactive++
				queue = append(queue, y)
			} else if q.flags&holds != 0 {
				m.letGo(y)
			}
		}
	}
	m.stack = queue
}

func (m *machine) unlazy() {
	if v := m.lazy; v != none {
		m.lazy = none
		m.expand(append(m.stack[:0], v))
	}
}

// wake makes vertices look again.
func (m *machine) wake(list []int32, ref int32, notify bool) {
	if list[0] == All {
		m.wakeAll(ref, notify)
		return
	}
	if len(list) == 1 && m.nactive == 0 {
		v := list[0]
		m.nactive, m.lazy = 1, v
		m.v[v].flags |= active
	} else if len(list) > 1 || m.v[list[0]].flags&active == 0 {
		m.unlazy()
		for _, v := range list {
			if m.v[v].flags&active == 0 {
				m.activate(v)
			}
		}
	}
	for _, v := range list {
		m.dirtied(v, CauseEvent, ref)
		if notify {
			m.v[v].flags |= refresh
		}
	}
	if m.hasSpecial {
		m.grant()
		for _, v := range list {
			if m.v[v].flags&special != 0 {
				m.step(v)
			}
		}
	}
	for i := len(list) - 1; i >= 0; i-- {
		m.step(list[i])
	}
}

func (m *machine) wakeAll(ref int32, notify bool) {
	m.unlazy()
	for i := range m.v {
		v := int32(i)
		if m.v[v].flags&active == 0 {
			m.v[v].flags |= active
			m.nactive++
			for _, e := range m.g.succ(v) {
				y := int32(e &^ notifyBit)
				if m.v[y].wait++; m.v[y].flags&holds != 0 {
					m.letGo(y)
				}
			}
		}
		m.dirtied(v, CauseEvent, ref)
		if notify {
			m.v[v].flags |= refresh
		}
	}
	m.start()
}

// start steps all that is dirty.
func (m *machine) start() {
	m.grant()
	for _, v := range m.first {
		m.step(v)
	}
	m.first = nil
	m.stepAll(dirty)
}

// release lets new vertices run, when the last orphan has ended.
func (m *machine) release() { m.stepAll(held | dirty) }

// stepAll steps all vertices with these flags, dirty among them, in the order of the
// graph: that is from the end for what ready hands out last in, first out.
func (m *machine) stepAll(flags uint32) {
	if m.hasSpecial {
		for i := range m.v {
			if f := m.v[i].flags; f&flags == flags && f&special != 0 {
				m.step(int32(i))
			}
		}
	}
	for i := len(m.v) - 1; i >= 0; i-- {
		if m.v[i].flags&flags == flags {
			m.step(int32(i))
		}
	}
}

// take marks the queued vertex v as running, unless something that it has to wait for
// came up since it was queued. What v then holds is for the caller to free.
func (m *machine) take(v int32) bool {
	p := &m.v[v]
	p.flags &^= queued
	if p.wait > 0 || p.flags&(limited|holds) == limited {
		m.busy--
		return false
	}
	p.flags = p.flags&^(dirty|told|holds) | running
	if p.flags&refresh != 0 {
		p.flags = p.flags&^refresh | seen
	}
	return true
}

// run is what the sink of v, which runs, is told.
func (m *machine) run(v int32) Run {
	p := &m.v[v]
	r := Run{Cause: Cause{Kind: p.cause()}, Refresh: p.flags&seen != 0}
	switch r.Cause.Kind {
	case CauseEvent:
		r.Cause.Ref = p.ref
	case CausePredecessor:
		r.Cause.Sink = m.g.sinks[p.ref]
	}
	return r
}

// succeed ends a run of v that succeeded. Unless it has changed something, only those of
// its successors that are in sent have to run.
func (m *machine) succeed(v int32, hasChanged bool, sent []Sink) {
	p := &m.v[v]
	m.busy--
	hasChanged = hasChanged || p.flags&changed != 0
	p.flags &^= running | changed | seen
	successors := m.g.succ(v)
	if m.lazy == v {
		if !hasChanged && len(sent) == 0 || len(successors) == 0 {
			if p.flags&dirty != 0 {
				m.step(v)
				return
			}
			m.lazy = none
			p.flags &^= active
			m.nactive--
			return
		}
		m.unlazy()
	}
	if hasChanged {
		for _, e := range successors {
			y := int32(e &^ notifyBit)
			m.dirtied(y, CausePredecessor, v)
			if e&notifyBit != 0 {
				m.v[y].flags |= refresh
			}
		}
	} else if len(sent) > 0 {
		m.send(v, sent)
	}
	m.step(v)
}

func (m *machine) send(v int32, sent []Sink) {
	among := make(map[Sink]bool, len(sent))
	for _, sink := range sent {
		among[sink] = true
	}
	for _, e := range m.g.succ(v) {
		if y := int32(e &^ notifyBit); among[m.g.sinks[y]] {
			m.dirtied(y, CausePredecessor, v)
		}
	}
}

// fail ends a run of v that failed, and will be tried again by itself or not.
func (m *machine) fail(v int32, hasChanged, willRetry bool) {
	p := &m.v[v]
	if p.flags&seen != 0 {
		p.flags |= refresh
	}
	if hasChanged {
		p.flags |= changed
	}
	p.flags &^= running | seen
	if willRetry {
		p.flags |= retrying
		return
	}
	m.busy--
	if p.flags&dirty != 0 {
		m.step(v)
		return
	}
	p.flags |= failed
	m.nfailed++
	m.look = true
	if p.flags&listed == 0 {
		p.flags |= listed
		m.failures = append(m.failures, v)
	}
}

// again ends the wait of v for its next attempt.
func (m *machine) again(v int32) {
	m.busy--
	p := &m.v[v]
	p.flags &^= retrying
	if p.flags&dirty == 0 {
		m.dirtied(v, CauseRetry, 0)
	}
	m.step(v)
}

// rest keeps v, whose run is about to end, from starting until rested. The caller calls
// that soon if v is, or comes to be, in delayed.
func (m *machine) rest(v int32) {
	p := &m.v[v]
	p.flags |= resting
	if p.flags&dirty != 0 {
		m.delay(v)
	}
}

func (m *machine) delay(v int32) {
	m.busy++
	m.delayed = append(m.delayed, v)
}

// rested ends the rest of v, which is dirty.
func (m *machine) rested(v int32) {
	m.busy--
	m.v[v].flags &^= resting
	m.step(v)
}

// eachBlocked calls f for every vertex that is dirty but has a failed ancestor, unless
// it was reported before. It is for a machine that is not busy.
func (m *machine) eachBlocked(f func(v, by int32)) {
	if !m.look {
		return
	}
	m.look = false
	var visited []int32
	left := m.failures[:0]
	for _, by := range m.failures {
		if m.v[by].flags&failed == 0 {
			m.v[by].flags &^= listed
			continue
		}
		left = append(left, by)
		queue := append(m.stack[:0], by)
		for len(queue) > 0 {
			x := queue[len(queue)-1]
			queue = queue[:len(queue)-1]
			for _, e := range m.g.succ(x) {
				y := int32(e &^ notifyBit)
				q := &m.v[y]
				if q.flags&marked != 0 {
					continue
				}
				q.flags |= marked
				visited = append(visited, y)
				queue = append(queue, y)
				if q.flags&(dirty|told) == dirty {
					q.flags |= told
					f(y, by)
				}
			}
		}
		m.stack = queue
	}
	m.failures = left
	for _, y := range visited {
		m.v[y].flags &^= marked
	}
}

// swap puts g, whose sinks have these wishes, in the place of the running graph and
// returns, for every old vertex, the new one that goes on in its place, or none. Nothing
// is queued afterwards: start does that. Jobs and timers are the caller's to renumber;
// busy counts those that go on.
func (m *machine) swap(g *Graph, carry []Carry, wishes []wish) []int32 {
	old := m.v
	from := make([]int32, len(old))
	for i := range from {
		from[i] = none
	}
	next := make([]vertex, g.Len())
	for i := range next {
		c := Carry{Old: none}
		if carry != nil {
			c = carry[i]
		}
		if c.Old != none && c.Same {
			from[c.Old] = int32(i)
			next[i] = m.v[c.Old]
			next[i].wait = 0
			next[i].flags &^= active | queued | told | listed | inLine | holds | special
		} else {
			next[i].flags = m.inherit(c.Old)
		}
		if c.Refresh {
			next[i].flags |= refresh
		}
	}
	first := m.unqueue(from)
	*m = machine{
		g: g, v: next, stack: m.stack[:0], lazy: none, orphans: m.orphans, busy: m.orphans,
		plans: plans{first: first, semaphores: m.semaphores, batches: m.batches},
	}
	m.schedule(wishes)
	m.recount(from)
	for was, v := range from {
		// What a failed vertex had to wait for may have left the graph.
		if v != none && old[was].wait > 0 && next[v].flags&failed != 0 && next[v].wait == 0 {
			m.dirtied(v, CauseSwap, 0)
		}
	}
	return from
}

// inherit is the flags of a vertex that runs because of a swap, in place of an old one or
// none.
func (m *machine) inherit(was int32) uint32 {
	flags := dirty | held // and CauseSwap
	if was != none {
		old := m.v[was].flags
		if old&seen != 0 {
			old |= refresh
		}
		flags |= old & (refresh | changed)
	}
	return flags
}

// recount derives from the vertices of a new graph what the machine knows of them all.
func (m *machine) recount(from []int32) {
	var roots []int32
	for i := range m.v {
		p := &m.v[i]
		if p.cause() == CausePredecessor {
			if p.ref = from[p.ref]; p.ref == none {
				p.setCause(CauseSwap, 0)
			}
		}
		if p.flags&(running|retrying) != 0 || p.flags&(resting|dirty) == resting|dirty {
			m.busy++
		}
		if p.flags&failed != 0 {
			p.flags |= listed
			m.failures = append(m.failures, int32(i))
			m.nfailed++
			m.look = true
		}
		if p.flags&(dirty|running|retrying|failed) != 0 {
			p.flags |= active
			m.nactive++
			roots = append(roots, int32(i))
		}
	}
	m.expand(roots)
}
