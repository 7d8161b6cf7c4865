package pipeline

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// identity is what makes a resource of a new graph the same as one of the old.
type identity struct{ kind, name string }

// swap compares g with the running graph, begins to watch what is new in it, stops to
// watch what is gone, and returns the input that puts it in force. Resources whose
// desired state is the same keep their unit with all its state.
func (e *engine) swap(g *Graph) (operators.Input, error) {
	var old map[identity]*unit
	if len(e.units) > 0 {
		old = make(map[identity]*unit, len(e.units))
		for _, u := range e.units {
			old[identity{u.vertex.Kind, u.vertex.Name}] = u
		}
	}
	n := len(g.Vertices)
	units, list := make([]*unit, n), make([]operators.Sink, n)
	carry := make([]operators.Carry, n)
	var counts Swap
	var fresh []*unit
	for i, v := range g.Vertices {
		was := old[identity{v.Kind, v.Name}]
		carry[i] = operators.Carry{Old: -1}
		switch {
		case was == nil:
			counts.Added++
			units[i] = newUnit(e, v, int32(i))
			fresh = append(fresh, units[i])
		case same(was.vertex, v):
			counts.Kept++
			carry[i] = operators.Carry{Old: was.index, Same: true}
			units[i] = was
			delete(old, identity{v.Kind, v.Name})
		default:
			counts.Changed++
			carry[i] = operators.Carry{Old: was.index}
			units[i] = newUnit(e, v, int32(i))
			if !v.Meta.Reset {
				units[i].retries = max(0, units[i].retries-was.used())
			}
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
	counts.Removed = len(old) - counts.Changed

	e.warnOfInactive(fresh)
	e.startWatching(fresh)
	e.stopWatching(old) // those that were kept have been deleted from it
	for i, u := range units {
		u.index = int32(i)
	}
	e.graph, e.units, e.swapped = e.running(g, units), units, counts
	return operators.Input{Graph: graph, Carry: carry, Wake: e.introduce(carry)}, nil
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
		if aware, ok := u.vertex.Resource.(sinks.SiblingAware); ok {
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
	return params.Equal(a.Config, b.Config)
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

// warnOfInactive tells which meta-parameters of new resources have no effect yet, a line
// for each, since a graph that relies on them would surprise.
func (e *engine) warnOfInactive(units []*unit) {
	counts := map[string]int{}
	first := map[string]*Vertex{}
	for _, u := range units {
		if u.vertex.Meta == &defaultMeta {
			continue
		}
		for _, name := range u.vertex.Meta.inactive() {
			if counts[name]++; counts[name] == 1 {
				first[name] = u.vertex
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		e.opts.Log.Warn("meta-parameter has no effect yet", "name", name, "resources", counts[name], "first", first[name].String())
	}
}
