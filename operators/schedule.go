package operators

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// A wish is the Schedule of a vertex that has one.
type wish struct {
	v int32
	Schedule
}

// wishes asks the sinks of g for their schedules.
func wishes(g *Graph) ([]wish, error) {
	var list []wish
	for i, sink := range g.sinks {
		scheduled, ok := sink.(Scheduled)
		if !ok {
			continue
		}
		s := scheduled.Schedule()
		if s.Batch != nil && !reflect.ValueOf(s.Batch).Comparable() {
			return nil, fmt.Errorf("the batch of vertex %d is a %T, which can't be compared; use a pointer", i, s.Batch)
		}
		if s.Waits || s.Batch != nil || len(s.Semaphores) > 0 {
			list = append(list, wish{int32(i), s})
		}
	}
	return list, nil
}

// plans is the part of a machine that is about vertices with semaphores or a batch. A
// semaphore or batch goes on through swaps for as long as a job holds or runs it.
type plans struct {
	plan       map[int32]plan
	semaphores map[string]*semaphore
	batches    map[Batch]*batch
	freed      []*semaphore // have room again, and perhaps somebody in line
	first      []int32      // were in line when the graph was swapped
	hasSpecial bool         // some vertices are special
}

// A plan is what a vertex needs to run.
type plan struct {
	semaphores []*semaphore
	batch      *batch
}

// A semaphore is held by vertices that run or are queued. There is a line only if it is
// full.
type semaphore struct {
	count, used int
	line        []int32 // first in, first out; those that have come to wait for an ancestor are left out when their turn comes
}

// A batch gathers vertices that are ready while those before them run.
type batch struct {
	key     Batch
	ready   []int32
	running bool
	listed  bool // one of its vertices is in readyWaiters
}

// schedule takes in the wishes of the sinks of a new graph.
func (m *machine) schedule(wishes []wish) {
	m.hasSpecial = len(wishes) > 0
	for _, w := range wishes {
		p := &m.v[w.v]
		if w.Waits {
			p.flags |= waits
		}
		var needs plan
		for _, s := range w.Semaphores {
			p.flags |= limited
			sem := entry(&m.semaphores, s.Name)
			sem.count = max(sem.count, s.Count, 1)
			if !slices.Contains(needs.semaphores, sem) {
				needs.semaphores = append(needs.semaphores, sem)
			}
		}
		if w.Batch != nil {
			p.flags |= grouped
			needs.batch = entry(&m.batches, w.Batch)
			if needs.batch.key == nil { // one that runs is read
				needs.batch.key = w.Batch
			}
		}
		if p.flags&(limited|grouped) != 0 {
			if m.plan == nil {
				m.plan = map[int32]plan{}
			}
			m.plan[w.v] = needs
		}
	}
}

// entry returns the value of key, which it makes if there is none.
func entry[K comparable, V any](m *map[K]*V, key K) *V {
	if *m == nil {
		*m = map[K]*V{}
	}
	if (*m)[key] == nil {
		(*m)[key] = new(V)
	}
	return (*m)[key]
}

// unqueue empties all lines and lists before a swap, forgets what nothing holds or runs,
// and returns, as numbered by from, the vertices that have a right to go first.
func (m *machine) unqueue(from []int32) []int32 {
	var first []int32
	keep := func(v int32) {
		if from[v] != none {
			first = append(first, from[v])
		}
	}
	for v := range m.plan {
		if m.v[v].flags&holds != 0 {
			m.letGo(v)
			keep(v)
		}
	}
	slices.Sort(first)
	for _, name := range slices.Sorted(maps.Keys(m.semaphores)) {
		s := m.semaphores[name]
		for _, v := range s.line {
			keep(v)
		}
		s.line, s.count = nil, 0
		if s.used == 0 {
			delete(m.semaphores, name)
		}
	}
	for key, b := range m.batches {
		b.ready, b.listed = nil, false
		if !b.running {
			delete(m.batches, key)
		}
	}
	return first
}

// queueSpecial queues x, which may run but for its semaphores, or puts it in line.
func (m *machine) queueSpecial(x int32) {
	p := &m.v[x]
	p.flags &^= held
	if p.flags&limited != 0 && !m.acquire(x) || p.flags&queued != 0 {
		return
	}
	p.flags |= queued
	m.busy++
	switch {
	case p.flags&grouped != 0:
		b := m.plan[x].batch
		b.ready = append(b.ready, x)
		m.list(b)
	case p.flags&waits != 0:
		m.readyWaiters = append(m.readyWaiters, x)
	default:
		m.ready = append(m.ready, x)
	}
}

// acquire takes all semaphores of x, or puts x in line for the first that is full.
func (m *machine) acquire(x int32) bool {
	semaphores := m.plan[x].semaphores
	for _, s := range semaphores {
		if s.used >= s.count {
			s.line = append(s.line, x)
			m.v[x].flags |= inLine
			m.busy++
			return false
		}
	}
	for _, s := range semaphores {
		s.used++
	}
	m.v[x].flags |= holds
	return true
}

// needs is what v, which was taken, holds until the caller frees it.
func (m *machine) needs(v int32) []*semaphore {
	if m.v[v].flags&limited == 0 {
		return nil
	}
	return m.plan[v].semaphores
}

// letGo frees what x, which is queued, holds, since it has come to wait for an ancestor.
// Its entry is in the queue still: step takes semaphores for it anew.
func (m *machine) letGo(x int32) {
	m.v[x].flags &^= holds
	m.free(m.plan[x].semaphores)
}

// free gives semaphores back. It must be followed by grant.
func (m *machine) free(semaphores []*semaphore) {
	for _, s := range semaphores {
		s.used--
		if len(s.line) > 0 {
			m.freed = append(m.freed, s)
		}
	}
}

// grant lets those in line go on while there is room.
func (m *machine) grant() {
	for _, s := range m.freed {
		for len(s.line) > 0 && s.used < s.count {
			v := s.line[0]
			s.line = s.line[1:]
			m.v[v].flags &^= inLine
			m.busy--
			m.step(v)
		}
	}
	m.freed = m.freed[:0]
}

// list puts b in the queue if it can start.
func (m *machine) list(b *batch) {
	if len(b.ready) > 0 && !b.running && !b.listed {
		b.listed = true
		m.readyWaiters = append(m.readyWaiters, b.ready[0])
	}
}

// takeWaiters takes v, which was in readyWaiters, or all of its batch that is ready.
func (m *machine) takeWaiters(v int32) ([]int32, *batch) {
	if m.v[v].flags&grouped == 0 {
		if !m.take(v) {
			return nil, nil
		}
		return []int32{v}, nil
	}
	b := m.plan[v].batch
	b.ready, b.listed = slices.DeleteFunc(b.ready, func(x int32) bool { return !m.take(x) }), false
	taken := b.ready
	b.ready = nil
	b.running = len(taken) > 0
	return taken, b
}

// batchEnded lets the next of b start.
func (m *machine) batchEnded(b *batch) {
	b.running = false
	m.list(b)
}
