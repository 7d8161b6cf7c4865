package pipeline_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// joined is a resource that provides and needs what it is told.
type joined struct {
	provides []sinks.Fact
	needs    []sinks.Need
}

func (joined) Watches() []sources.Watch                                { return nil }
func (joined) CheckApply(context.Context, bool) (sinks.Outcome, error) { return sinks.Outcome{}, nil }
func (j joined) Provides() []sinks.Fact                                { return j.provides }
func (j joined) Needs() []sinks.Need                                   { return j.needs }

// joinedConfig is a Config of a joined resource.
type joinedConfig joined

func (c *joinedConfig) Build(string, sinks.Options) (sinks.Resource, error) { return joined(*c), nil }

func (c *joinedConfig) provide(space sinks.Space, names ...string) {
	for _, name := range names {
		c.provides = append(c.provides, sinks.Fact{Space: space, Name: name})
	}
}

func (c *joinedConfig) need(space sinks.Space, why string, names ...string) {
	for _, name := range names {
		c.needs = append(c.needs, sinks.Need{Fact: sinks.Fact{Space: space, Name: name}, Why: why})
	}
}

func (c *joinedConfig) needAbove(space sinks.Space, name, why string) {
	c.needs = append(c.needs, sinks.Need{Fact: sinks.Fact{Space: space, Name: name}, Above: true, Why: why})
}

func (c *joinedConfig) needBelow(space sinks.Space, name, why string) {
	c.needs = append(c.needs, sinks.Need{Fact: sinks.Fact{Space: space, Name: name}, Below: true, Why: why})
}

// The kinds of the graphs in testdata/autoedges, which have the edges of real ones.

type joinedFile struct {
	Owner   string `param:"owner"`
	Group   string `param:"group"`
	Content string `param:"content"`
}

func (f *joinedFile) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	var c joinedConfig
	at, space := path.Clean(name), sinks.SpaceFile
	if strings.HasSuffix(name, "/") {
		space = sinks.SpaceDir
	}
	c.provide(space, at)
	if unit, ok := strings.CutPrefix(at, "/etc/systemd/system/"); ok {
		c.provide(sinks.SpaceUnit, unit)
	}
	c.needAbove(sinks.SpaceDir, at, "which holds it")
	c.needAbove(sinks.SpaceMount, at, "on which it is")
	c.need(sinks.SpaceOwned, "which brings it", at)
	c.need(sinks.SpaceUser, "its owner", f.Owner)
	c.need(sinks.SpaceGroup, "its group", f.Group)
	return joined(c), nil
}

type joinedPkg struct {
	Files []string `param:"files"`
}

func (p *joinedPkg) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	var c joinedConfig
	c.provide(sinks.SpacePackage, name)
	c.provide(sinks.SpaceOwned, p.Files...)
	return joined(c), nil
}

type joinedSvc struct{}

func (*joinedSvc) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	var c joinedConfig
	c.need(sinks.SpaceUnit, "which is its unit", name+".service")
	c.need(sinks.SpaceOwned, "which brings its unit", "/usr/lib/systemd/system/"+name+".service")
	return joined(c), nil
}

type joinedExec struct{}

func (*joinedExec) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "stdout", Type: sinks.TypeString}}
}

func (*joinedExec) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	var c joinedConfig
	c.need(sinks.SpaceFile, "which it runs", name)
	c.need(sinks.SpaceOwned, "which brings what it runs", name)
	return joined(c), nil
}

type joinedUser struct {
	Group string `param:"group"`
}

func (u *joinedUser) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	var c joinedConfig
	c.provide(sinks.SpaceUser, name)
	c.need(sinks.SpaceGroup, "its group", u.Group)
	return joined(c), nil
}

type joinedGroup struct{}

func (*joinedGroup) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	var c joinedConfig
	c.provide(sinks.SpaceGroup, name)
	return joined(c), nil
}

type joinedMount struct{}

func (*joinedMount) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	var c joinedConfig
	c.provide(sinks.SpaceMount, name)
	c.need(sinks.SpaceDir, "its mount point", name)
	c.needAbove(sinks.SpaceMount, name, "on which it is")
	return joined(c), nil
}

type joinedTar struct {
	Input string `param:"input"`
}

func (a *joinedTar) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	var c joinedConfig
	c.provide(sinks.SpaceFile, name)
	c.needBelow(sinks.SpaceFile, a.Input, "which it archives")
	return joined(c), nil
}

func joinedRegistry(t testing.TB) *sinks.Registry {
	t.Helper()
	reg, err := sinks.NewRegistry(
		sinks.Spec{Kind: "file", New: func() sinks.Config { return &joinedFile{} }},
		sinks.Spec{Kind: "pkg", New: func() sinks.Config { return &joinedPkg{} }},
		sinks.Spec{Kind: "svc", New: func() sinks.Config { return &joinedSvc{} }},
		sinks.Spec{Kind: "exec", New: func() sinks.Config { return &joinedExec{} }},
		sinks.Spec{Kind: "user", New: func() sinks.Config { return &joinedUser{} }},
		sinks.Spec{Kind: "group", New: func() sinks.Config { return &joinedGroup{} }},
		sinks.Spec{Kind: "mount", New: func() sinks.Config { return &joinedMount{} }},
		sinks.Spec{Kind: "tar", New: func() sinks.Config { return &joinedTar{} }},
		sinks.Spec{Kind: "noop", New: func() sinks.Config { return &noopConfig{} }},
	)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// showEdges has a line for each edge and note.
func showEdges(g *pipeline.Graph) string {
	var b strings.Builder
	for _, e := range g.Edges {
		switch {
		case e.Why != "":
			fmt.Fprintf(&b, "%v after %v, %s\n", g.Vertices[e.To], g.Vertices[e.From], e.Why)
		case e.Notify:
			fmt.Fprintf(&b, "%v ~> %v\n", g.Vertices[e.From], g.Vertices[e.To])
		default:
			fmt.Fprintf(&b, "%v -> %v\n", g.Vertices[e.From], g.Vertices[e.To])
		}
	}
	for _, n := range g.Notes {
		fmt.Fprintf(&b, "%d:%d: %s\n", n.Pos.Line, n.Pos.Column, n.Text)
	}
	return b.String()
}

// TestAutoEdges reads each testdata/autoedges/*.txtar: want has the edges and notes.
// Compiling the graph once more makes the same.
func TestAutoEdges(t *testing.T) {
	archives(t, "testdata/autoedges/*.txtar", func(t *testing.T, input []byte) string {
		g, err := read("graph.yaml", input, joinedRegistry(t))
		if err != nil {
			t.Fatal(err)
		}
		first := showEdges(g)
		if err := g.Compile(sinks.Options{}); err != nil {
			t.Fatal(err)
		}
		if again := showEdges(g); again != first {
			t.Errorf("the second time it has\n%s\nafter\n%s", again, first)
		}
		if n := len(g.Order()); n != len(g.Vertices) {
			t.Errorf("%d of %d vertices are in order", n, len(g.Vertices))
		}
		return first
	})
}

// TestAutoEdgesAreAllThatFit makes random graphs with declared edges and needs, full of
// cycles: all declared edges stay, and no automatic edge is left out that would fit.
func TestAutoEdgesAreAllThatFit(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		n := 2 + rnd.IntN(12)
		configs := make([]joinedConfig, n)
		g := &pipeline.Graph{Name: "random"}
		for i := range n {
			configs[i].provide("x", fmt.Sprint(i))
			g.Add("joined", fmt.Sprint(i), &configs[i])
		}
		type pair struct{ from, to int32 }
		wanted, declared := map[pair]bool{}, map[pair]bool{}
		for range rnd.IntN(3 * n) {
			from, to := rnd.IntN(n), rnd.IntN(n)
			configs[to].need("x", "as it is", fmt.Sprint(from))
			if from != to {
				wanted[pair{int32(from), int32(to)}] = true
			}
		}
		perm := rnd.Perm(n)
		for range rnd.IntN(n) {
			a, b := rnd.IntN(n), rnd.IntN(n)
			if a == b {
				continue
			}
			from, to := perm[min(a, b)], perm[max(a, b)]
			g.Connect(g.Vertices[from], g.Vertices[to], rnd.IntN(2) == 0)
			declared[pair{int32(from), int32(to)}] = true
		}
		if err := g.Compile(sinks.Options{}); err != nil {
			t.Fatal(err)
		}
		if len(g.Order()) != n {
			t.Fatalf("seed %d: there are cycles:\n%s", seed, showEdges(g))
		}
		reach := make([][]bool, n)
		for i := range reach {
			reach[i] = make([]bool, n)
		}
		has := map[pair]bool{}
		for _, e := range g.Edges {
			p := pair{e.From, e.To}
			if has[p] {
				t.Errorf("seed %d: two edges %v", seed, p)
			}
			has[p] = true
			reach[e.From][e.To] = true
			if declared[p] != (e.Why == "") || !declared[p] && !wanted[p] {
				t.Errorf("seed %d: the edge %+v, declared %v, wanted %v", seed, e, declared[p], wanted[p])
			}
		}
		for p := range declared {
			if !has[p] {
				t.Errorf("seed %d: the declared edge %v is missing", seed, p)
			}
		}
		for k := range n {
			for i := range n {
				for j := range n {
					reach[i][j] = reach[i][j] || reach[i][k] && reach[k][j]
				}
			}
		}
		dropped := 0
		for p := range wanted {
			if has[p] {
				continue
			}
			dropped++
			if !reach[p.to][p.from] {
				t.Errorf("seed %d: the edge %v would fit:\n%s", seed, p, showEdges(g))
			}
		}
		if dropped != len(g.Notes) {
			t.Errorf("seed %d: %d edges are left out, and there are %d notes:\n%s", seed, dropped, len(g.Notes), showEdges(g))
		}
	}
}

func TestNothingIsBelowItself(t *testing.T) {
	for _, root := range []string{"/", "/a"} {
		g := &pipeline.Graph{Name: "below"}
		var itself, inside, all joinedConfig
		itself.provide(sinks.SpaceFile, root)
		inside.provide(sinks.SpaceFile, "/a/b")
		all.needBelow(sinks.SpaceFile, root, "which is in it")
		g.Add("joined", "itself", &itself)
		g.Add("joined", "inside", &inside)
		g.Add("joined", "all", &all)
		if err := g.Compile(sinks.Options{}); err != nil {
			t.Fatal(err)
		}
		if got, want := showEdges(g), "joined[all] after joined[inside], which is in it\n"; got != want {
			t.Errorf("below %s there is\n%s, want\n%s", root, got, want)
		}
	}
}

func TestAutoEdgesOfManyProviders(t *testing.T) {
	for _, test := range []struct {
		name             string
		providers, needs int
		most             int
		notes            int
	}{
		{"one resource comes after ten thousand", 10_000, 1, 10_000, 0},
		{"thousands come after thousands: the first few of them", 3_000, 3_000, 1<<16 + 8*6_000 + 16*3_000, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &pipeline.Graph{Name: "many"}
			for i := range test.providers {
				c := &joinedConfig{}
				c.provide("x", "all")
				c.provide(sinks.SpaceFile, fmt.Sprintf("/in/%d", i))
				g.Add("provider", fmt.Sprint(i), c)
			}
			for i := range test.needs {
				c := &joinedConfig{}
				if i%2 == 0 {
					c.need("x", "with which it begins", "all")
				} else {
					c.needBelow(sinks.SpaceFile, "/in", "which it holds")
				}
				g.Add("needer", fmt.Sprint(i), c)
			}
			if err := g.Compile(sinks.Options{}); err != nil {
				t.Fatal(err)
			}
			if len(g.Edges) > test.most || len(g.Edges) < min(test.most, 1<<16) || len(g.Notes) != test.notes {
				t.Errorf("%d edges and %d notes, want at most %d and %d", len(g.Edges), len(g.Notes), test.most, test.notes)
			}
			after := make([]int, len(g.Vertices))
			for _, e := range g.Edges {
				after[e.To]++
			}
			if least := slices.Min(after[test.providers:]); least < 16 {
				t.Errorf("a resource is after %d others only", least)
			}
		})
	}
}

// TestAutoEdgesInKnots has a declared edge from the end to the beginning of chains, so
// that all of their vertices are on cycles: dropping the one that is wrong is quick.
func TestAutoEdgesInKnots(t *testing.T) {
	const n = 20_000
	for _, test := range []struct {
		name  string
		order func(i int) int
	}{
		{"in the order of the chain", func(i int) int { return i }},
		{"against the order of the chain", func(i int) int { return n - 1 - i }},
		{"in any order", func() func(i int) int {
			perm := rand.New(rand.NewPCG(1, 2)).Perm(n)
			return func(i int) int { return perm[i] }
		}()},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &pipeline.Graph{Name: "knot"}
			at := make([]*pipeline.Vertex, n)
			for i := range n {
				link := test.order(i)
				c := &joinedConfig{}
				c.provide("x", fmt.Sprint(link))
				if link > 0 {
					c.need("x", "the one before", fmt.Sprint(link-1))
				}
				at[link] = g.Add("link", fmt.Sprint(link), c)
			}
			g.Connect(at[n-1], at[0], false)
			if err := g.Compile(sinks.Options{}); err != nil {
				t.Fatal(err)
			}
			if len(g.Edges) != n-1 || len(g.Notes) != 1 || len(g.Order()) != n {
				t.Fatalf("%d edges and %d notes, want %d and 1; %d vertices are in order", len(g.Edges), len(g.Notes), n-1, len(g.Order()))
			}
			if text := g.Notes[0].Text; len(text) > 300 || !strings.Contains(text, "that would make a cycle with") || !strings.Contains(text, "more") {
				t.Errorf("the note is %q", text)
			}
		})
	}
}

// TestAutoEdgesInATangle has needs at random among thousands of vertices: what is left is
// in order, although looking at every cycle would take too long.
func TestAutoEdgesInATangle(t *testing.T) {
	const n, each = 3_000, 30
	rnd := rand.New(rand.NewPCG(5, 6))
	g := &pipeline.Graph{Name: "tangle"}
	for i := range n {
		c := &joinedConfig{}
		c.provide("x", fmt.Sprint(i))
		for range each {
			c.need("x", "as it is", fmt.Sprint(rnd.IntN(n)))
		}
		g.Add("joined", fmt.Sprint(i), c)
	}
	for i := range n - 1 {
		g.Connect(g.Vertices[i], g.Vertices[i+1], false)
	}
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	presumed := 0
	for _, note := range g.Notes {
		if strings.Contains(note.Text, "too many cycles") {
			presumed++
		}
	}
	automatic := 0
	for _, e := range g.Edges {
		if e.Automatic() {
			automatic++
		}
	}
	if len(g.Order()) != n || automatic < n*each/3 || presumed == 0 || presumed == len(g.Notes) {
		t.Errorf("%d vertices are in order, %d automatic edges are kept; %d of %d notes presume a cycle", len(g.Order()), automatic, presumed, len(g.Notes))
	}
}

func ExampleGraph_Compile_automaticEdges() {
	g := &pipeline.Graph{Name: "web"}
	g.Add("file", "/srv/www/index.html", &joinedFile{Owner: "www"})
	g.Add("file", "/srv/www/", &joinedFile{})
	g.Add("user", "www", &joinedUser{})
	if err := g.Compile(sinks.Options{}); err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range g.Edges {
		fmt.Printf("%v is after %v, %s\n", g.Vertices[e.To], g.Vertices[e.From], e.Why)
	}
	// Output:
	// file[/srv/www/index.html] is after file[/srv/www/], which holds it
	// file[/srv/www/index.html] is after user[www], its owner
}
