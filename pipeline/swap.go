package pipeline

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sources"
)

// identity is what makes a resource of a new graph the same as one of the old.
type identity struct{ kind, name string }

// swap compares g with the running graph, begins to watch what is new in it, stops to
// watch what is gone, and returns the input that puts it in force. Resources whose
// desired state is the same keep their unit with all its state.
func (e *engine) swap(g *Graph) (operators.Input, error) {
	old := make(map[identity]*unit, len(e.units))
	for _, u := range e.units {
		old[identity{u.vertex.Kind, u.vertex.Name}] = u
	}
	e.inForce.Store(g)
	matches := match(old, g.Vertices)
	e.ledger.retire(old, matches) // before it is asked what is to be undone
	if asked := len(g.Vertices); e.ledger.undoes() {
		g = e.withUndoing(g)
		matches = slices.Concat(matches, match(old, g.Vertices[asked:]))
	}
	n := len(g.Vertices)
	units, list := make([]*unit, n), make([]operators.Sink, n)
	carry := make([]operators.Carry, n)
	var counts Swap
	var fresh []*unit
	for i, v := range g.Vertices {
		carry[i] = operators.Carry{Old: -1}
		switch m := matches[i]; {
		case m.same:
			counts.add(v, &counts.Kept)
			carry[i] = operators.Carry{Old: m.was.index, Same: true}
			units[i] = m.was
		case m.was != nil:
			if m.was.vertex.Undo {
				counts.add(v, &counts.Added)
			} else {
				counts.add(v, &counts.Changed)
			}
			carry[i] = operators.Carry{Old: m.was.index}
			units[i] = newUnit(e, v, int32(i), m.was)
			fresh = append(fresh, units[i])
		default:
			counts.add(v, &counts.Added)
			units[i] = newUnit(e, v, int32(i), nil)
			fresh = append(fresh, units[i])
		}
		list[i] = units[i]
	}
	edges := make([]operators.Edge, len(g.Edges))
	for i, edge := range g.Edges {
		edges[i] = operators.Edge{From: edge.From, To: edge.To, Notify: edge.Notify}
	}
	graph, err := operators.NewGraph(list, edges)
	if err != nil {
		return operators.Input{}, fmt.Errorf("graph %s was not compiled: %w", g.Name, err)
	}
	e.wire(g, units)
	e.startWatching(fresh)
	left, replaced := slices.Collect(maps.Values(old)), []*unit(nil)
	for i, m := range matches {
		switch {
		case m.was == nil || m.same:
		case g.Vertices[i].Undo:
			left = append(left, m.was)
		default:
			replaced = append(replaced, m.was)
		}
	}
	counts.Removed = e.forget(left)
	left = append(left, replaced...)
	e.stopWatching(left)
	e.closeAll(left)
	for i, u := range units {
		u.index = int32(i)
	}
	e.graph, e.units, e.swapped = e.running(g, units), units, counts
	e.inForce.Store(e.graph)
	e.carryRefreshes(carry)
	e.event = sources.Event{Source: "swap", What: "changed"}
	return operators.Input{Graph: graph, Carry: carry, Wake: e.wakeKept(carry)}, nil
}

// matched is the unit that a vertex of a new graph had before, if any.
type matched struct {
	was  *unit
	same bool // it stays as it is
}

// match finds the units of vertices, and takes them out of old.
func match(old map[identity]*unit, vertices []*Vertex) []matched {
	list := make([]matched, len(vertices))
	if len(old) == 0 {
		return list
	}
	for i, v := range vertices {
		id := identity{v.Kind, v.Name}
		if was := old[id]; was != nil {
			list[i] = matched{was, same(was.vertex, v)}
			delete(old, id)
		}
	}
	return list
}

// add counts a vertex that the graph asks for.
func (*Swap) add(v *Vertex, count *int) {
	if !v.Undo {
		*count++
	}
}

// withUndoing is g with vertices that undo what has left it.
func (e *engine) withUndoing(g *Graph) *Graph {
	vertices, edges := e.undoing(g)
	if len(vertices) == 0 {
		return g
	}
	more := *g
	more.Vertices = slices.Concat(g.Vertices, vertices)
	more.Edges = slices.Concat(g.Edges, edges)
	return &more
}

// wire tells units of their place in the graph, those that have to know.
func (e *engine) wire(g *Graph, units []*unit) {
	all := map[int32]*wiring{}
	at := func(i int32) *wiring {
		if all[i] == nil {
			all[i] = &wiring{}
		}
		return all[i]
	}
	if e.ledger.durable() {
		for _, edge := range g.Edges {
			if edge.Notify && !g.Vertices[edge.To].Meta.Hidden {
				w := at(edge.From)
				w.notifies = append(w.notifies, g.Vertices[edge.To].String())
			}
		}
	}
	known := map[[2]int32]bool{}
	for _, l := range g.Links {
		to, from := at(l.To), at(l.From)
		to.inputs = append(to.inputs, input{l, units[l.From]})
		if pair := [2]int32{l.From, l.To}; !known[pair] {
			known[pair] = true
			from.receivers = append(from.receivers, units[l.To])
		}
		if from.outputs == nil {
			from.outputs = map[string]bool{}
		}
		from.outputs[l.Output] = true
		units[l.To].extra()
	}
	above := reversedAbove(g)
	for i, v := range g.Vertices {
		if v.Meta.Reverse && !v.Meta.Hidden {
			w := at(int32(i))
			w.reverse, w.above = true, above[int32(i)]
		}
		if v.Meta.Secret {
			at(int32(i)) // so that it is hidden
		}
	}
	for i, u := range units {
		if w := all[int32(i)]; w != nil || u.wiring.Load() != nil {
			u.wiring.Store(w)
		}
	}
}

// forget drops the notifications of resources that have left, and returns how many have.
func (e *engine) forget(left []*unit) (removed int) {
	var names []string
	notified := e.ledger.any()
	for _, u := range left {
		if u.vertex.Undo {
			continue
		}
		if removed++; notified {
			names = append(names, u.vertex.String())
		}
	}
	if err := e.ledger.forget(names, false); err != nil {
		e.opts.Log.Error("they may be refreshed if they come back", "resources", len(names), "error", err)
	}
	return removed
}

// carryRefreshes lets resources know that they were notified: before the process began,
// or by a resource that has left in the middle of its change.
func (e *engine) carryRefreshes(carry []operators.Carry) {
	if !e.ledger.any() {
		return
	}
	for i, u := range e.units {
		carry[i].Refresh = e.ledger.pending(u.vertex.String())
	}
}

// wakeKept lists those that a swap keeps and that have to run all the same.
func (e *engine) wakeKept(carry []operators.Carry) []int32 {
	wake := e.introduce(carry)
	for i, u := range e.units {
		if carry[i].Same && u.vertex.Meta.Rewatch && u.is(ailing) && !slices.Contains(wake, u.index) {
			wake = append(wake, u.index)
		}
	}
	return wake
}

// introduce tells the resources that a swap keeps what is managed now, as Compile has
// told the new ones, and returns those for which that makes a difference.
func (e *engine) introduce(carry []operators.Carry) []int32 {
	var names []string
	var wake []int32
	for i, u := range e.units {
		if !carry[i].Same {
			continue
		}
		if aware, ok := u.resource().(sinks.SiblingAware); ok {
			if names == nil {
				names = e.graph.Managed()
			}
			if aware.Siblings(names) {
				wake = append(wake, u.index)
			}
		}
	}
	return wake
}

// same says that two vertices stand for the same desired state.
func same(a, b *Vertex) bool {
	if a.Meta != b.Meta && !reflect.DeepEqual(a.Meta, b.Meta) {
		return false
	}
	return sameLinks(a, b) && params.Equal(a.Config, b.Config)
}

// running returns g with the vertices that are in force: those of units that were kept
// stand for their equals in g, so that a resource is one *Vertex over all its life.
func (e *engine) running(g *Graph, units []*unit) *Graph {
	r := *g
	r.Vertices = make([]*Vertex, len(units))
	for i, u := range units {
		r.Vertices[i] = u.vertex
	}
	return &r
}
