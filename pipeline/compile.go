package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// Compile makes a graph ready to run: it builds every resource, with opts and the
// resource's own Ref, and checks that no two are the same or own the same, and that the
// edges lead to different vertices and make no cycle. Edges that connect the same
// vertices become one, and automatic ones are added; Notes says which of those are left
// out. It touches nothing on the host, so a graph that is never run can
// be compiled. The error is Problems; the graph is of no use then.
func (g *Graph) Compile(opts sinks.Options) error {
	for _, v := range slices.Concat(g.Vertices, g.Exports) {
		v.broken, v.partly = false, false
	}
	g.options = opts
	return g.compile(opts).err()
}

// compile leaves out of its checks the vertices that are broken already.
func (g *Graph) compile(opts sinks.Options) Problems {
	c := compiler{g: g, problems: slices.Clone(g.problems), told: map[Position]string{}}
	g.forgetAutomatic()
	c.unique(g.Vertices)
	c.unique(g.Exports)
	c.links()
	for _, v := range g.Exports { // first, so that those that are collected say nothing twice
		c.build(v, opts)
	}
	for _, v := range g.Vertices {
		c.build(v, opts)
	}
	c.owners()
	c.edges()
	if len(c.problems) == 0 {
		c.taint()
		c.exports()
	}
	for _, v := range slices.Concat(g.Vertices, g.Exports) {
		v.node = nil
	}
	if len(c.problems) == 0 {
		c.automaticEdges()
		g.metaNotes()
		g.introduce()
	}
	return c.problems
}

type compiler struct {
	g        *Graph
	problems Problems
	told     map[Position]string // what was wrong with exported resources
}

func (c *compiler) report(at Position, hint, format string, args ...any) {
	c.problems = append(c.problems, Problem{File: c.g.File, Pos: at, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// unique reports vertices that have no name, or the kind and name of another.
func (c *compiler) unique(vertices []*Vertex) {
	type key struct{ kind, name string }
	seen := make(map[key]*Vertex, len(vertices))
	for _, v := range vertices {
		switch first, twice := seen[key{v.Kind, v.Name}]; {
		case v.Kind == "":
			c.report(v.Pos, "", "the kind of the resource %q is empty", brief(v.Name))
			v.broken = true
		case v.Name == "":
			c.report(v.Pos, "", "the name of a %s resource is empty", v.Kind)
			v.broken = true
		case twice:
			c.report(v.Pos, "give one of them another name", "%s is described twice%s", brief(v.String()), firstAt(first.Pos))
			v.broken = true
		default:
			seen[key{v.Kind, v.Name}] = v
		}
	}
}

// firstAt says where the first of two is, if a file has it.
func firstAt(at Position) string {
	if at.Line == 0 {
		return ""
	}
	return fmt.Sprintf(", first in line %d", at.Line)
}

// build builds the resource of a vertex. Of one with unknown parameters it reports what is
// wrong with the others, but not what may follow from those that are missing.
func (c *compiler) build(v *Vertex, opts sinks.Options) {
	if v.broken && !v.partly {
		return
	}
	if v.Meta == nil {
		v.Meta = &defaultMeta
	}
	opts.Ref, opts.Sends = v.String(), v.sends
	var err error
	if v.Config == nil {
		err = errors.New("it has no Config")
	} else if err = c.checkMeta(v); err == nil && len(v.receives) > 0 {
		v.Resource, err = v.standIn(opts)
	} else if err == nil {
		v.Resource, err = v.Config.Build(v.Name, opts)
	}
	if err == nil {
		c.reverse(v)
	}
	if err != nil {
		v.broken = true
		at, text := locate(v.node, v.Config, err)
		if at.Line == 0 {
			if v.partly {
				return
			}
			at = v.Pos
		}
		switch {
		case v.Exported && at.Line > 0:
			c.told[at] = text
		case text == c.told[at]:
			return
		}
		c.report(at, "", "%s: %s", brief(opts.Ref), text)
	}
}

// checkMeta validates meta-parameters that no file has given.
func (c *compiler) checkMeta(v *Vertex) error {
	if v.node != nil || v.Meta == &defaultMeta {
		return nil
	}
	return v.Meta.Validate()
}

// locate finds the place of the parameter that an error is about, and the text of the error.
func locate(node *yaml.Node, cfg any, err error) (Position, string) {
	bad, ok := errors.AsType[*sinks.ParamError](err)
	if !ok || node == nil {
		return Position{}, err.Error()
	}
	if _, value := params.Locate(node, cfg, bad.Param); value != nil {
		return posOf(value), err.Error()
	}
	return Position{}, err.Error()
}

// owners reports resources that manage the same thing on this host.
func (c *compiler) owners() {
	owned := make(map[string]*Vertex, len(c.g.Vertices))
	for _, v := range c.g.Vertices {
		owner, ok := v.Resource.(sinks.Owner)
		if !ok || v.broken && !v.partly || v.Meta.Hidden {
			continue
		}
		for _, thing := range owner.Owns() {
			first := owned[thing]
			if first == nil {
				owned[thing] = v
			} else if first != v {
				where := ""
				if first.Pos.Line > 0 {
					where = fmt.Sprintf(" (line %d)", first.Pos.Line)
				}
				c.report(v.Pos, "keep one of them", "%s and %s%s both manage the %s", brief(v.String()), brief(first.String()), where, brief(thing))
			}
		}
	}
}

// introduce tells the resources that have to know what is managed on this host.
func (g *Graph) introduce() {
	var names []string
	for _, v := range g.Vertices {
		if aware, ok := v.Resource.(sinks.SiblingAware); ok {
			if names == nil {
				names = g.Managed()
			}
			aware.Siblings(names)
		}
	}
}

// Managed names what the resources of a compiled graph own and keep on this host: all
// that sinks.SiblingAware wants to know. Compile has told the resources of this graph;
// those that a swap keeps from the graph before are to be told by who swaps.
func (g *Graph) Managed() []string {
	var names []string
	for _, v := range g.Vertices {
		if v.Meta.Hidden {
			continue
		}
		if owner, ok := v.Resource.(sinks.Owner); ok {
			names = append(names, owner.Owns()...)
		}
		if keeper, ok := v.Resource.(sinks.Keeper); ok {
			names = append(names, keeper.Keeps()...)
		}
	}
	return names
}

// edges reports edges that lead nowhere or back to their vertex, and the cycles of the
// others. If there are only others it makes one of those that connect the same vertices.
func (c *compiler) edges() {
	g, n := c.g, int32(len(c.g.Vertices))
	bad := func(e Edge) bool {
		return e.From < 0 || e.From >= n || e.To < 0 || e.To >= n || e.From == e.To
	}
	if slices.ContainsFunc(g.Edges, bad) {
		all := g.Edges
		defer func() { g.Edges = all }()
		for _, e := range all {
			switch {
			case !bad(e):
			case e.From == e.To && e.From >= 0 && e.From < n:
				c.report(e.Pos, "remove the edge", "an edge leads from %s to itself", brief(g.Vertices[e.From].String()))
			default:
				c.report(e.Pos, "", "an edge leads from vertex %d to %d, but there are %d", e.From, e.To, n)
			}
		}
		g.Edges = slices.DeleteFunc(slices.Clone(all), bad)
	}
	c.merge()
	c.cycles()
}

// merge makes one edge of those that connect the same vertices: the first, which
// notifies if any of them does.
func (c *compiler) merge() {
	out := newAdjacency(c.g)
	kept := make([]int32, len(c.g.Vertices)) // by To: 1 + the edge from the current vertex
	drop := make([]bool, len(c.g.Edges))
	double := false
	for from := range c.g.Vertices {
		edges := out.edges(int32(from))
		for _, i := range edges {
			e := &c.g.Edges[i]
			if first := kept[e.To]; first > 0 {
				c.g.Edges[first-1].Notify = c.g.Edges[first-1].Notify || e.Notify
				drop[i], double = true, true
			} else {
				kept[e.To] = i + 1
			}
		}
		for _, i := range edges {
			kept[c.g.Edges[i].To] = 0
		}
	}
	if !double {
		return
	}
	edges := c.g.Edges[:0]
	for i, e := range c.g.Edges {
		if !drop[i] {
			edges = append(edges, e)
		}
	}
	c.g.Edges = edges
}

// adjacency lists the edges that leave each vertex, in compressed form.
type adjacency struct {
	start []int32 // of each vertex in list; one more than there are vertices
	list  []int32 // indices into Edges, in file order for each vertex
}

func newAdjacency(g *Graph) adjacency {
	a := adjacency{start: make([]int32, len(g.Vertices)+1), list: make([]int32, len(g.Edges))}
	for _, e := range g.Edges {
		a.start[e.From+1]++
	}
	for i := range g.Vertices {
		a.start[i+1] += a.start[i]
	}
	next := slices.Clone(a.start)
	for i, e := range g.Edges {
		a.list[next[e.From]] = int32(i)
		next[e.From]++
	}
	return a
}

func (a adjacency) edges(vertex int32) []int32 { return a.list[a.start[vertex]:a.start[vertex+1]] }

// Order returns the indices of the vertices such that every edge leads forward. If the
// edges make a cycle, the vertices on it and behind it are missing. Among those that
// could come next the order of the file is kept.
func (g *Graph) Order() []int32 { return order(g, newAdjacency(g)) }

func order(g *Graph, out adjacency) []int32 {
	missing := make([]int32, len(g.Vertices)) // predecessors that have not come yet
	for _, e := range g.Edges {
		missing[e.To]++
	}
	sorted := make([]int32, 0, len(g.Vertices))
	for v := range g.Vertices {
		if missing[v] == 0 {
			sorted = append(sorted, int32(v))
		}
	}
	for at := 0; at < len(sorted); at++ {
		for _, i := range out.edges(sorted[at]) {
			to := g.Edges[i].To
			if missing[to]--; missing[to] == 0 {
				sorted = append(sorted, to)
			}
		}
	}
	return sorted
}

// cycles reports each knot of cycles once, by a shortest cycle through its first vertex.
func (c *compiler) cycles() {
	g, out := c.g, newAdjacency(c.g)
	sorted := order(g, out)
	if len(sorted) == len(g.Vertices) {
		return
	}
	knot := components(g, out, sorted)
	done := map[int32]bool{}
	for v := range g.Vertices {
		if k := knot[v]; k > 0 && !done[k] {
			done[k] = true
			c.cycle(shortestCycle(g, out, knot, int32(v)))
		}
	}
}

// cycle reports a cycle, given as its edges.
func (c *compiler) cycle(edges []int32) {
	const most = 12
	var b strings.Builder
	b.WriteString(brief(c.g.Vertices[c.g.Edges[edges[0]].From].String()))
	var last Position
	for i, at := range edges {
		e := c.g.Edges[at]
		if e.Pos.Line > last.Line || e.Pos.Line == last.Line && e.Pos.Column > last.Column {
			last = e.Pos
		}
		if i >= most-1 && i < len(edges)-1 {
			if i == most-1 {
				fmt.Fprintf(&b, " -> ... %d more", len(edges)-most)
			}
			continue
		}
		b.WriteString(" -> " + brief(c.g.Vertices[e.To].String()))
		if e.Pos.Line > 0 {
			fmt.Fprintf(&b, " (line %d)", e.Pos.Line)
		}
	}
	c.report(last, "remove one of these edges", "the edges make a cycle: %s", b.String())
}

// components numbers the knots: the sets of vertices from each of which every other can
// be reached. It gives each vertex the number of its knot, from 1; 0 if it is on no
// cycle. Those that are sorted already are on none. This is Tarjan's algorithm with a
// stack of its own, since chains can be very long.
func components(g *Graph, out adjacency, sorted []int32) []int32 {
	n := len(g.Vertices)
	var (
		knot    = make([]int32, n)
		index   = make([]int32, n) // order of discovery, from 1; 0: not seen
		low     = make([]int32, n)
		onStack = make([]bool, n)
		stack   []int32
		counter int32
		knots   int32
	)
	const never = -1
	for _, v := range sorted {
		index[v] = never
	}
	type frame struct {
		vertex int32
		edge   int // the next one to follow
	}
	for root := range n {
		if index[root] != 0 {
			continue
		}
		calls := []frame{{vertex: int32(root)}}
		for len(calls) > 0 {
			f := &calls[len(calls)-1]
			v := f.vertex
			if f.edge == 0 {
				counter++
				index[v], low[v] = counter, counter
				stack = append(stack, v)
				onStack[v] = true
			}
			edges := out.edges(v)
			descended := false
			for f.edge < len(edges) {
				to := g.Edges[edges[f.edge]].To
				f.edge++
				if index[to] == 0 {
					calls = append(calls, frame{vertex: to})
					descended = true
					break
				}
				if onStack[to] {
					low[v] = min(low[v], index[to])
				}
			}
			if descended {
				continue
			}
			calls = calls[:len(calls)-1]
			if len(calls) > 0 {
				parent := calls[len(calls)-1].vertex
				low[parent] = min(low[parent], low[v])
			}
			if low[v] != index[v] {
				continue
			}
			first := len(stack) - 1
			for stack[first] != v {
				first--
			}
			if len(stack)-first > 1 {
				knots++
			}
			for _, member := range stack[first:] {
				onStack[member] = false
				if len(stack)-first > 1 {
					knot[member] = knots
				}
			}
			stack = stack[:first]
		}
	}
	return knot
}

// shortestCycle returns the edges of a shortest cycle through a vertex of a knot.
func shortestCycle(g *Graph, out adjacency, knot []int32, start int32) []int32 {
	by := map[int32]int32{} // the edge by which a vertex was reached first
	queue := []int32{start}
	for at := 0; at < len(queue); at++ {
		for _, i := range out.edges(queue[at]) {
			to := g.Edges[i].To
			if to == start {
				cycle := []int32{i}
				for v := queue[at]; v != start; v = g.Edges[by[v]].From {
					cycle = append(cycle, by[v])
				}
				slices.Reverse(cycle)
				return cycle
			}
			if _, seen := by[to]; !seen && knot[to] == knot[start] {
				by[to] = i
				queue = append(queue, to)
			}
		}
	}
	panic("pipeline: a knot without a cycle")
}
