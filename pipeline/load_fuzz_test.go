package pipeline_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

// FuzzLoad reads anything at all. It must end, with a sound graph or with problems that
// have their places in the file.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range ar.Files {
			if filepath.Ext(part.Name) == ".yaml" {
				f.Add(part.Data)
			}
		}
	}
	f.Add([]byte(bomb(3)))
	reg := fileRegistry(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := read("graph.yaml", data, reg)
		if err != nil {
			checkProblems(t, data, err)
			return
		}
		checkGraph(t, g)
		again, err := read("graph.yaml", data, reg)
		if err != nil {
			t.Fatalf("the second time it is refused: %v", err)
		}
		if show(g) != show(again) {
			t.Errorf("the second time it is another graph:\n%s\n%s", show(g), show(again))
		}
		if err := g.Compile(sinks.Options{}); err != nil {
			t.Errorf("a compiled graph does not compile again: %v", err)
		}
	})
}

func checkProblems(t *testing.T, data []byte, err error) {
	problems, ok := errors.AsType[pipeline.Problems](err)
	if !ok || len(problems) == 0 {
		t.Fatalf("the error is a %T: %v", err, err)
	}
	lines := int32(bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) +
		bytes.Count(data, []byte("\u0085")) + bytes.Count(data, []byte("\u2028")) + bytes.Count(data, []byte("\u2029")) + 1)
	last := pipeline.Position{}
	for _, p := range problems {
		if p.File != "graph.yaml" || p.Message == "" {
			t.Errorf("a problem says too little: %+v", p)
		}
		if strings.HasPrefix(p.Message, "yaml:") || strings.Contains(p.Error(), "goroutine ") || strings.Contains(p.Message, "%!") && !bytes.Contains(data, []byte("%!")) {
			t.Errorf("a problem is not for people: %v", p)
		}
		if p.Pos.Line < 0 || p.Pos.Line > lines || p.Pos.Column < 0 {
			t.Errorf("a problem stands at %v of a file with %d lines: %v", p.Pos, lines, p)
		}
		if p.Pos.Line < last.Line {
			t.Errorf("line %d is reported after line %d", p.Pos.Line, last.Line)
		}
		last = p.Pos
	}
}

func checkGraph(t *testing.T, g *pipeline.Graph) {
	if g.Name == "" {
		t.Error("the graph has no name")
	}
	seen := map[string]bool{}
	for _, v := range slices.Concat(g.Vertices, g.Exports) {
		if seen[v.String()] || v.Name == "" || v.Resource == nil || v.Meta == nil {
			t.Errorf("the vertex %v is unsound", v)
		}
		seen[v.String()] = true
	}
	between := map[[2]int32]bool{}
	for _, e := range g.Edges {
		if e.From == e.To || between[[2]int32{e.From, e.To}] {
			t.Errorf("the edge %v -> %v is unsound", g.Vertices[e.From], g.Vertices[e.To])
		}
		between[[2]int32{e.From, e.To}] = true
	}
	for _, l := range g.Links {
		if l.Output == "" || l.Param == "" || !between[[2]int32{l.From, l.To}] {
			t.Errorf("the link %+v is unsound", l)
		}
	}
	if order := g.Order(); len(order) != len(g.Vertices) {
		t.Errorf("%d of %d vertices can be put in order", len(order), len(g.Vertices))
	}
	if g.DOT() == "" {
		t.Error("no DOT")
	}
}

// TestCyclesOfRandomGraphs compares what Compile says with reachability, the slow and
// obvious way: each knot is reported once, by a path of edges that are there.
func TestCyclesOfRandomGraphs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "vertices")
		reach := make([][]bool, n)
		g := &pipeline.Graph{}
		for i := range reach {
			reach[i] = make([]bool, n)
			g.Add("noop", fmt.Sprint(i), &noopConfig{})
		}
		for range rapid.IntRange(0, 2*n).Draw(t, "edges") {
			from, to := rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to")
			if from != to {
				reach[from][to] = true
				g.Connect(g.Vertices[from], g.Vertices[to], false)
			}
		}
		edge := make([][]bool, n)
		for i := range edge {
			edge[i] = slices.Clone(reach[i])
		}
		for k := range n {
			for i := range n {
				for j := range n {
					reach[i][j] = reach[i][j] || reach[i][k] && reach[k][j]
				}
			}
		}
		knots := map[int]bool{} // by their first vertex
		for i := range n {
			for j := range i + 1 {
				if reach[i][j] && reach[j][i] {
					knots[j] = true
					break
				}
			}
		}

		err := g.Compile(sinks.Options{})
		problems, _ := errors.AsType[pipeline.Problems](err)
		if len(problems) != len(knots) {
			t.Fatalf("%d problems, want one for each of %v: %v", len(problems), knots, err)
		}
		for _, p := range problems {
			path := strings.Split(strings.TrimPrefix(p.Message, "the edges make a cycle: "), " -> ")
			var at []int
			for _, name := range path {
				var i int
				if _, err := fmt.Sscanf(name, "noop[%d]", &i); err != nil {
					t.Fatalf("%v: %v", p, err)
				}
				at = append(at, i)
			}
			if at[0] != at[len(at)-1] || !knots[at[0]] {
				t.Fatalf("the path begins at %d and ends at %d: %v", at[0], at[len(at)-1], p)
			}
			delete(knots, at[0])
			for i := range len(at) - 1 {
				if !edge[at[i]][at[i+1]] {
					t.Fatalf("there is no edge from %d to %d: %v", at[i], at[i+1], p)
				}
			}
		}
	})
}
