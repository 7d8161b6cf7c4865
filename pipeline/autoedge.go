package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

// automaticEdges adds an edge from each resource that provides a fact to those that need
// it, unless that would close a cycle. It expects declared edges that are merged and make
// no cycle, and costs time in proportion to the graph and the depth of its paths.
func (c *compiler) automaticEdges() {
	facts := newFactIndex(c.g.Vertices)
	if facts == nil {
		return
	}
	declared := len(c.g.Edges)
	facts.join(c.g)
	if len(c.g.Edges) == declared {
		return
	}
	c.merge() // the declared ones come first, so they stay
	c.g.untangle()
}

// forgetAutomatic takes out what a Compile before has added.
func (g *Graph) forgetAutomatic() {
	g.Notes = nil
	g.Edges = slices.DeleteFunc(g.Edges, Edge.Automatic)
}

// Automatic says that nobody has declared the edge, not even by a link.
func (e Edge) Automatic() bool { return e.Why != "" && !e.byLink() }

// takesPart says whether a vertex has automatic edges. One that is never executed brings
// about nothing, and waits for nothing.
func takesPart(v *Vertex) bool { return v.Meta.AutoEdge && !v.Meta.Hidden }

// factIndex finds the resources that provide a fact.
type factIndex struct {
	spaces  map[sinks.Space]*factSpace
	several [][]int32 // the providers of facts that have several
	spare   int       // edges that may yet be made beyond the first few for a need
}

// factSpace is the part of a factIndex that is about one space.
type factSpace struct {
	providers map[string]int32 // a vertex by name; below 0, the complement of an index of several
	names     []string         // in order, when somebody has asked for those below a path
}

// fewProviders is how many resources one need always leads to.
const fewProviders = 16

// spareEdges bounds the edges for needs that more than a few resources provide: those of
// many archives of the same large directory would otherwise be quadratic.
func spareEdges(vertices int) int { return 1<<16 + 8*vertices }

// newFactIndex asks the vertices what they provide. It returns nil if that is nothing.
func newFactIndex(vertices []*Vertex) *factIndex {
	type provision struct {
		fact   sinks.Fact
		vertex int32
	}
	var all []provision
	sizes := map[sinks.Space]int{}
	for i, v := range vertices {
		provider, ok := v.Resource.(sinks.Provider)
		if !ok || !takesPart(v) {
			continue
		}
		for _, fact := range provider.Provides() {
			if fact.Name != "" { // it may be one that is only received later
				all = append(all, provision{fact, int32(i)})
				sizes[fact.Space]++
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	x := &factIndex{spaces: make(map[sinks.Space]*factSpace, len(sizes)), spare: spareEdges(len(vertices))}
	for space, n := range sizes {
		x.spaces[space] = &factSpace{providers: make(map[string]int32, n)}
	}
	for _, p := range all {
		x.put(x.spaces[p.fact.Space], p.fact.Name, p.vertex)
	}
	return x
}

// put notes a provider. Those of one vertex come one after the other.
func (x *factIndex) put(s *factSpace, name string, vertex int32) {
	switch at, ok := s.providers[name]; {
	case !ok:
		s.providers[name] = vertex
	case at == vertex:
	case at >= 0:
		s.providers[name] = ^int32(len(x.several))
		x.several = append(x.several, []int32{at, vertex})
	case x.several[^at][len(x.several[^at])-1] != vertex:
		x.several[^at] = append(x.several[^at], vertex)
	}
}

// join adds an edge for each need that somebody provides. Some may be double.
func (x *factIndex) join(g *Graph) {
	j := joiner{factIndex: x, g: g}
	for i, v := range g.Vertices {
		needer, ok := v.Resource.(sinks.Needer)
		if !ok || !takesPart(v) {
			continue
		}
		for _, need := range needer.Needs() {
			if s := x.spaces[need.Space]; s != nil && need.Name != "" {
				j.need(s, need, int32(i))
			}
		}
	}
}

// joiner adds the edges of one graph.
type joiner struct {
	*factIndex
	g     *Graph
	tired bool // spare is used up, and that is noted
}

// need adds the edges that a need of a vertex leads to.
func (j *joiner) need(s *factSpace, need sinks.Need, to int32) {
	if need.Why == "" {
		need.Why = "which it needs"
	}
	made := 0
	switch {
	case need.Below:
		for _, name := range s.below(need.Name) {
			if made = j.connect(s.providers[name], to, need.Why, made); j.tired && made >= fewProviders {
				return
			}
		}
	case need.Above:
		for name, ok := above(need.Name); ok; name, ok = above(name) {
			if at, found := s.providers[name]; found && at != to { // what holds itself is held by the next one
				j.connect(at, to, need.Why, made)
				return
			}
		}
	default:
		if at, found := s.providers[need.Name]; found {
			j.connect(at, to, need.Why, made)
		}
	}
}

// connect adds edges from what a factSpace has for a name. It is given how many edges
// the need has led to, and returns how many it has now.
func (j *joiner) connect(at, to int32, why string, made int) int {
	if at >= 0 {
		return j.edge(at, to, why, made)
	}
	for _, from := range j.several[^at] {
		made = j.edge(from, to, why, made)
	}
	return made
}

func (j *joiner) edge(from, to int32, why string, made int) int {
	if from == to {
		return made
	}
	if made >= fewProviders {
		if j.spare == 0 {
			j.rest(to)
			return made
		}
		j.spare--
	}
	j.g.Edges = append(j.g.Edges, Edge{From: from, To: to, Why: why})
	return made + 1
}

// rest notes that not every edge is made any more.
func (j *joiner) rest(to int32) {
	if j.tired {
		return
	}
	j.tired = true
	v := j.g.Vertices[to]
	j.g.Notes = append(j.g.Notes, Note{v.Pos, fmt.Sprintf(
		"there are too many automatic edges: from %s on, a resource is automatically after only %d of those that bring about the same thing it needs",
		brief(v.String()), fewProviders)})
}

// above is the directory that holds what is at a clean absolute path; false for the root.
func above(path string) (string, bool) {
	switch i := strings.LastIndexByte(path, '/'); {
	case i > 0:
		return path[:i], true
	case i == 0 && len(path) > 1:
		return "/", true
	}
	return "", false
}

// below returns the names that are paths below a path.
func (s *factSpace) below(path string) []string {
	if s.names == nil {
		s.names = make([]string, 0, len(s.providers))
		for name := range s.providers {
			s.names = append(s.names, name)
		}
		slices.Sort(s.names)
	}
	prefix := strings.TrimSuffix(path, "/") + "/"
	first, _ := slices.BinarySearch(s.names, prefix)
	rest := s.names[first:]
	if len(rest) > 0 && rest[0] == prefix { // the root is not below itself
		rest = rest[1:]
	}
	behind, _ := slices.BinarySearch(rest, prefix[:len(prefix)-1]+"0") // the next byte after a slash
	return rest[:behind]
}
