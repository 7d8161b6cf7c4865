package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Status is what a run has come to: which resources have failed, and which are blocked.
// Its zero value is the status of a run that has not begun. Feed it every Result in
// order; it is not safe for use by several goroutines.
type Status struct {
	Loaded    bool // a graph is in force
	Converged bool // nothing has been pending for the timeout, since the last disturbance
	Resources int  // in the graph

	failed  map[*Vertex]error
	blocked map[*Vertex]*Vertex
}

// Observe takes r into account.
func (s *Status) Observe(r Result) {
	switch r.Kind {
	case GraphSwapped:
		s.Loaded, s.Converged, s.Resources = true, false, len(r.Graph.Vertices)
		s.retain(r.Graph)
	case Finished:
		s.Converged = false
		if r.Left {
			return
		}
		delete(s.blocked, r.Vertex)
		delete(s.failed, r.Vertex)
		if r.Err != nil {
			if s.failed == nil {
				s.failed = map[*Vertex]error{}
			}
			s.failed[r.Vertex] = r.Failure()
		}
	case Blocked:
		if s.blocked == nil {
			s.blocked = map[*Vertex]*Vertex{}
		}
		s.blocked[r.Vertex] = r.By
	case Converged:
		s.Converged = true
	}
}

// retain forgets the resources that are not in g any more.
func (s *Status) retain(g *Graph) {
	if len(s.failed)+len(s.blocked) == 0 {
		return
	}
	in := make(map[*Vertex]bool, len(g.Vertices))
	for _, v := range g.Vertices {
		in[v] = true
	}
	maps.DeleteFunc(s.failed, func(v *Vertex, _ error) bool { return !in[v] })
	maps.DeleteFunc(s.blocked, func(v, _ *Vertex) bool { return !in[v] })
}

// Failures lists the failures of the resources that have failed or wait to be tried
// again, and a line for each that is blocked, both in alphabetical order. It is empty
// when all is well.
func (s *Status) Failures() []error {
	byName := func(a, b *Vertex) int { return cmp.Compare(a.String(), b.String()) }
	var list []error
	for _, v := range slices.SortedFunc(maps.Keys(s.failed), byName) {
		list = append(list, s.failed[v])
	}
	for _, v := range slices.SortedFunc(maps.Keys(s.blocked), byName) {
		list = append(list, fmt.Errorf("%s: not run, because %s has failed", v, s.blocked[v]))
	}
	return list
}
