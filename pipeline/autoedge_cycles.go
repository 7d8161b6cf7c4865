package pipeline

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// untangle drops automatic edges until there are no cycles, and notes which. Each one
// that is dropped would close a cycle with edges that stay. Declared edges stay; they
// make no cycle by themselves.
func (g *Graph) untangle() {
	out := newAdjacency(g)
	sorted := order(g, out)
	if len(sorted) == len(g.Vertices) {
		return
	}
	t := newTangle(g, components(g, out, sorted))
	t.rankAll()
	var dropped []int32
	for _, i := range t.edges {
		if t.forward(i) {
			t.keep(i)
		}
	}
	for _, i := range t.edges {
		if t.kept[i] {
			continue
		}
		if path, closes := t.closes(i); closes {
			dropped = append(dropped, i)
			g.Notes = append(g.Notes, g.dropNote(i, path))
			continue
		}
		t.keep(i)
	}
	next := 0
	kept := g.Edges[:0]
	for i, e := range g.Edges {
		if next < len(dropped) && dropped[next] == int32(i) {
			next++
			continue
		}
		kept = append(kept, e)
	}
	g.Edges = kept
}

// tangle is the part of a graph that is on cycles. Its vertices are numbered anew. It
// keeps edges one by one, and a rank for each vertex such that all that are kept lead to
// a higher one, as the algorithm of Pearce and Kelly does (A dynamic topological sort
// algorithm for directed acyclic graphs, 2006).
type tangle struct {
	g        *Graph
	vertices []int32   // of the graph
	number   []int32   // of each vertex of the graph, in vertices
	edges    []int32   // of the graph, within a knot, in order
	kept     []bool    // by edge of the graph
	out, in  [][]int32 // kept edges by vertex
	rank     []int32
	by       []int32 // the edge by which the present search has come to a vertex; see seen
	seen     []int32 // the search that has come to a vertex last
	search   int32
	work     int // edges that may yet be followed
}

// tangleWork is how many edges are followed before a cycle is presumed.
func tangleWork(edges int) int { return 1<<20 + 64*edges }

func newTangle(g *Graph, knot []int32) *tangle {
	t := &tangle{g: g, number: make([]int32, len(g.Vertices)), kept: make([]bool, len(g.Edges))}
	for v, k := range knot {
		if k > 0 {
			t.number[v] = int32(len(t.vertices))
			t.vertices = append(t.vertices, int32(v))
		}
	}
	for i, e := range g.Edges {
		if knot[e.From] > 0 && knot[e.From] == knot[e.To] {
			t.edges = append(t.edges, int32(i))
		}
	}
	n := len(t.vertices)
	t.out, t.in = make([][]int32, n), make([][]int32, n)
	t.rank, t.by, t.seen = make([]int32, n), make([]int32, n), make([]int32, n)
	t.work = tangleWork(len(t.edges))
	return t
}

func (t *tangle) from(edge int32) int32   { return t.number[t.g.Edges[edge].From] }
func (t *tangle) to(edge int32) int32     { return t.number[t.g.Edges[edge].To] }
func (t *tangle) forward(edge int32) bool { return t.rank[t.from(edge)] < t.rank[t.to(edge)] }

func (t *tangle) keep(edge int32) {
	t.kept[edge] = true
	t.out[t.from(edge)] = append(t.out[t.from(edge)], edge)
	t.in[t.to(edge)] = append(t.in[t.to(edge)], edge)
}

// rankAll ranks the vertices so that all declared edges and most automatic ones lead
// forward: it takes a vertex all of whose predecessors have been taken, or else the first
// one of which all declared predecessors have been.
func (t *tangle) rankAll() {
	n := len(t.vertices)
	missing, declared := make([]int32, n), make([]int32, n) // predecessors that have not been taken
	leaving := make([][]int32, n)
	for _, i := range t.edges {
		leaving[t.from(i)] = append(leaving[t.from(i)], i)
		missing[t.to(i)]++
		if !t.g.Edges[i].Automatic() {
			declared[t.to(i)]++
		}
	}
	var ready, free []int32
	for v := range int32(n) {
		if declared[v] == 0 {
			free = append(free, v)
		}
	}
	taken := make([]bool, n)
	for rank := int32(0); int(rank) < n; {
		var v int32
		if len(ready) > 0 {
			v, ready = ready[0], ready[1:]
		} else {
			v, free = free[0], free[1:]
		}
		if taken[v] {
			continue
		}
		taken[v] = true
		t.rank[v] = rank
		rank++
		for _, i := range leaving[v] {
			to := t.to(i)
			if !t.g.Edges[i].Automatic() {
				if declared[to]--; declared[to] == 0 {
					free = append(free, to)
				}
			}
			if missing[to]--; missing[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
}

// closes reports whether an edge would close a cycle, with the path that it would close.
// If it does not, the ranks are changed so that it leads forward. When too much work has
// been done it says that it does, and knows no path: what leads backward goes then.
func (t *tangle) closes(edge int32) (path []int32, closes bool) {
	from, to := t.from(edge), t.to(edge)
	if t.rank[from] < t.rank[to] {
		return nil, false
	}
	first, last := t.rank[to], t.rank[from]
	ahead := t.reach(to, func(v int32) []int32 { return t.out[v] }, t.to, func(v int32) bool { return t.rank[v] <= last })
	switch {
	case t.work < 0:
		return nil, true
	case t.seen[from] == t.search:
		for v := from; v != to; v = t.from(t.by[v]) {
			path = append(path, t.by[v])
		}
		slices.Reverse(path)
		return path, true
	}
	behind := t.reach(from, func(v int32) []int32 { return t.in[v] }, t.from, func(v int32) bool { return t.rank[v] >= first })
	if t.work < 0 {
		return nil, true
	}
	t.reorder(behind, ahead)
	return nil, false
}

// reach returns the vertices that kept edges lead to from start, start included, nearest
// first.
func (t *tangle) reach(start int32, edges func(int32) []int32, end func(int32) int32, within func(int32) bool) []int32 {
	t.search++
	t.seen[start] = t.search
	queue := []int32{start}
	for at := 0; at < len(queue) && t.work >= 0; at++ {
		for _, i := range edges(queue[at]) {
			t.work--
			if v := end(i); t.seen[v] != t.search && within(v) {
				t.seen[v], t.by[v] = t.search, i
				queue = append(queue, v)
			}
		}
	}
	return queue
}

// reorder gives the ranks of both to those behind first, and then to those ahead.
func (t *tangle) reorder(behind, ahead []int32) {
	byRank := func(a, b int32) int { return cmp.Compare(t.rank[a], t.rank[b]) }
	slices.SortFunc(behind, byRank)
	slices.SortFunc(ahead, byRank)
	vertices := slices.Concat(behind, ahead)
	ranks := make([]int32, len(vertices))
	for i, v := range vertices {
		ranks[i] = t.rank[v]
	}
	slices.Sort(ranks)
	for i, v := range vertices {
		t.rank[v] = ranks[i]
	}
}

// dropNote says that an automatic edge is left out since a path leads the other way.
func (g *Graph) dropNote(edge int32, path []int32) Note {
	e := g.Edges[edge]
	var b strings.Builder
	fmt.Fprintf(&b, "%s is not automatically after %s, %s: ", brief(g.Vertices[e.To].String()), brief(g.Vertices[e.From].String()), e.Why)
	if len(path) == 0 {
		b.WriteString("there are too many cycles here to see whether this edge is on one")
		return Note{g.Vertices[e.To].Pos, b.String()}
	}
	declared := true
	for _, i := range path {
		declared = declared && !g.Edges[i].Automatic()
	}
	if !declared {
		b.WriteString("that would make a cycle with ")
	}
	const most = 6
	b.WriteString(brief(g.Vertices[e.To].String()))
	for n, i := range path {
		if n >= most-1 && n < len(path)-1 {
			if n == most-1 {
				fmt.Fprintf(&b, " -> ... %d more", len(path)-most)
			}
			continue
		}
		b.WriteString(" -> " + brief(g.Vertices[g.Edges[i].To].String()))
	}
	if declared {
		b.WriteString(" is declared")
	}
	return Note{g.Vertices[e.To].Pos, b.String()}
}
