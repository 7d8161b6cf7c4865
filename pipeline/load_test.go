package pipeline_test

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

var updateProblems = flag.Bool("update-problems", false, "write the problems and graphs in testdata as they are now")

// The kinds of graph files in these tests: they decode and check, and do nothing.

type fileConfig struct {
	Path     string  `param:"path"`
	Dirname  string  `param:"dirname"`
	Basename string  `param:"basename"`
	State    string  `param:"state" oneof:"exists absent"`
	Content  *string `param:"content"`
	Mode     string  `param:"mode" mode:"octal"`
	Owner    string  `param:"owner"`
}

func (c *fileConfig) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	p := c.Path
	if p == "" {
		p = name
	}
	if c.Dirname != "" {
		p = path.Join(c.Dirname, path.Base(p))
	}
	if c.Basename != "" {
		p = path.Join(path.Dir(p), c.Basename)
	}
	if !path.IsAbs(p) {
		return nil, fmt.Errorf("path %q is not absolute", p)
	}
	if strings.Trim(c.Mode, "01234567") != "" {
		return nil, &sinks.ParamError{Param: "mode", Err: fmt.Errorf("%q is not an octal mode", c.Mode)}
	}
	return inert{opts.Ref, []string{"path " + p}}, nil
}

type execConfig struct {
	Cmd      string        `param:"cmd"`
	Shell    string        `param:"shell"`
	Timeout  time.Duration `param:"timeout" unit:"s"`
	WatchCmd string        `param:"watchcmd"`
	IfCmd    string        `param:"ifcmd"`
	PollInt  time.Duration `param:"pollint" unit:"s" legacy:"true"`
	State    string        `param:"state" legacy:"true"`
	Args     []string      `param:"args"`
}

func (c *execConfig) Build(_ string, opts sinks.Options) (sinks.Resource, error) {
	return inert{ref: opts.Ref}, nil
}

// Outputs implements sinks.Sender.
func (*fileConfig) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "content", Type: sinks.TypeString}, {Name: "checksum", Type: sinks.TypeString}}
}

// Outputs implements sinks.Sender.
func (*execConfig) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "stdout", Type: sinks.TypeString}, {Name: "exit", Type: sinks.TypeInt}}
}

// passwordConfig is that of a kind with one output, which is secret.
type passwordConfig struct {
	Length int `param:"length"`
}

func (c *passwordConfig) Build(string, sinks.Options) (sinks.Resource, error) { return idle{}, nil }

func (*passwordConfig) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "password", Type: sinks.TypeString, Secret: true}}
}

// printConfig is that of a kind that shows what it gets.
type printConfig struct {
	Msg *string `param:"msg" shown:"true"`
}

func (c *printConfig) Build(string, sinks.Options) (sinks.Resource, error) { return idle{}, nil }

// appConfig has a parameter of each type, and one that is required.
type appConfig struct {
	URL   string            `param:"url" alias:"address"`
	Env   map[string]string `param:"env"`
	Tags  []string          `param:"tags"`
	Every time.Duration     `param:"every" unit:"s"`
	Count int               `param:"count"`
	Path  string            `param:"path"`
}

func (c *appConfig) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	switch {
	case c.URL == "":
		return nil, &sinks.ParamError{Param: "url", Err: errors.New("it is missing")}
	case !strings.HasPrefix(c.URL, "http"):
		return nil, fmt.Errorf("url %q is no address", c.URL)
	case c.Count < 0:
		return nil, &sinks.ParamError{Param: "count", Err: fmt.Errorf("%d is negative", c.Count)}
	}
	owns := []string{"app " + name}
	if c.Path != "" {
		owns = append(owns, "path "+c.Path)
	}
	return inert{opts.Ref, owns}, nil
}

func (*appConfig) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "env", Type: sinks.TypeMap}, {Name: "tags", Type: sinks.TypeStrings}, {Name: "up", Type: sinks.TypeBool}}
}

type svcConfig struct {
	State string `param:"state" oneof:"running stopped"`
}

func (c *svcConfig) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	return inert{opts.Ref, []string{"unit " + name + ".service"}}, nil
}

type noopConfig struct {
	Comment string `param:"comment"`
}

func (*noopConfig) Reverse(map[string]string) (sinks.Config, error) { return nil, nil }

func (c *noopConfig) Build(_ string, opts sinks.Options) (sinks.Resource, error) {
	return idle{}, nil
}

type idle struct{}

func (idle) Watches() []sources.Watch                                { return nil }
func (idle) CheckApply(context.Context, bool) (sinks.Outcome, error) { return sinks.Outcome{}, nil }

// inert is a resource that owns things.
type inert struct {
	ref  string
	owns []string
}

func (inert) Watches() []sources.Watch                                { return nil }
func (inert) CheckApply(context.Context, bool) (sinks.Outcome, error) { return sinks.Outcome{}, nil }
func (i inert) Owns() []string                                        { return i.owns }

func fileRegistry(t testing.TB) *sinks.Registry {
	t.Helper()
	reg, err := sinks.NewRegistry(
		sinks.Spec{Kind: "file", New: func() sinks.Config { return &fileConfig{} }},
		sinks.Spec{Kind: "exec", New: func() sinks.Config { return &execConfig{} }},
		sinks.Spec{Kind: "svc", New: func() sinks.Config { return &svcConfig{State: "running"} }},
		sinks.Spec{Kind: "pkg", New: func() sinks.Config { return &noopConfig{} }},
		sinks.Spec{Kind: "password", New: func() sinks.Config { return &passwordConfig{Length: 64} }},
		sinks.Spec{Kind: "print", New: func() sinks.Config { return &printConfig{} }},
		sinks.Spec{Kind: "app", New: func() sinks.Config { return &appConfig{} }},
		sinks.Spec{Kind: "noop", New: func() sinks.Config { return &noopConfig{} }},
	)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// read loads and compiles.
func read(name string, data []byte, reg *sinks.Registry) (*pipeline.Graph, error) {
	g, err := pipeline.Load(name, data, reg)
	if err == nil {
		err = g.Compile(sinks.Options{})
	}
	return g, err
}

// TestProblems reads each testdata/problems/*.txtar: the comment says what is wrong with
// graph.yaml, and want holds the problems to the letter.
func TestProblems(t *testing.T) {
	archives(t, "testdata/problems/*.txtar", func(t *testing.T, input []byte) string {
		_, err := read("graph.yaml", input, fileRegistry(t))
		if err == nil {
			return "no problem\n"
		}
		if _, ok := errors.AsType[pipeline.Problems](err); !ok {
			t.Errorf("the error is a %T, want Problems", err)
		}
		return err.Error() + "\n"
	})
}

// TestGraphs reads each testdata/graphs/*.txtar: want shows the graph that the file
// describes.
func TestGraphs(t *testing.T) {
	archives(t, "testdata/graphs/*.txtar", func(t *testing.T, input []byte) string {
		g, err := read("graph.yaml", input, fileRegistry(t))
		if err != nil {
			t.Fatal(err)
		}
		return show(g)
	})
}

func archives(t *testing.T, glob string, result func(t *testing.T, input []byte) string) {
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s: %v", glob, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(ar.Files) == 1 && *updateProblems {
				ar.Files = append(ar.Files, txtar.File{Name: "want"})
			}
			if len(ar.Files) != 2 || strings.TrimSpace(string(ar.Comment)) == "" {
				t.Fatal("want a comment, an input and the section \"want\"")
			}
			got := result(t, ar.Files[0].Data)
			if *updateProblems {
				ar.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := gocmp.Diff(string(ar.Files[1].Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// show describes a graph in lines.
func show(g *pipeline.Graph) string {
	var b strings.Builder
	fmt.Fprintf(&b, "graph %s\n", g.Name)
	if g.Comment != "" {
		fmt.Fprintf(&b, "comment %s\n", g.Comment)
	}
	for _, v := range g.Vertices {
		fmt.Fprintf(&b, "%v at %d:%d %s%s\n", v, v.Pos.Line, v.Pos.Column, showConfig(v.Config), showMeta(v.Meta))
	}
	for _, v := range g.Exports {
		fmt.Fprintf(&b, "export %v at %d:%d %s%s\n", v, v.Pos.Line, v.Pos.Column, showConfig(v.Config), showMeta(v.Meta))
	}
	for _, e := range g.Edges {
		arrow := "->"
		if e.Notify {
			arrow = "~>"
		}
		fmt.Fprintf(&b, "%v %s %v at %d:%d %s\n", g.Vertices[e.From], arrow, g.Vertices[e.To], e.Pos.Line, e.Pos.Column, cmp.Or(e.Name, e.Why))
	}
	for _, l := range g.Links {
		secret := ""
		if l.Secret {
			secret = " secret"
		}
		fmt.Fprintf(&b, "%v sends %s to %s of %v at %d:%d%s\n", g.Vertices[l.From], l.Output, strings.TrimSuffix(l.Param+"."+l.Key, "."), g.Vertices[l.To], l.Pos.Line, l.Pos.Column, secret)
	}
	for _, c := range g.Collect {
		fmt.Fprintf(&b, "collect %s %q\n", c.Kind, c.Pattern)
	}
	return b.String()
}

func showConfig(cfg sinks.Config) string {
	if c, ok := cfg.(*fileConfig); ok && c.Content != nil {
		d := *c
		d.Content = nil
		return fmt.Sprintf("%+v content %q", d, *c.Content)
	}
	return strings.TrimPrefix(fmt.Sprintf("%+v", cfg), "&")
}

func showMeta(m *pipeline.Meta) string {
	if gocmp.Equal(*m, pipeline.DefaultMeta()) {
		return ""
	}
	return fmt.Sprintf(" meta %+v", *m)
}

func TestLoadSharesMetaAndBuildsResources(t *testing.T) {
	g, err := read("graph.yaml", []byte(`
graph: g
resources:
  noop:
  - name: a
  - name: b
  - {name: c, meta: &m {poll: 5}}
  - {name: d, meta: *m}
  - {name: e, meta: }
`), fileRegistry(t))
	if err != nil {
		t.Fatal(err)
	}
	v := g.Vertices
	if v[0].Meta != v[1].Meta || v[0].Meta != v[4].Meta {
		t.Error("vertices without meta-parameters don't share them")
	}
	if v[2].Meta != v[3].Meta || v[2].Meta.Poll != 5*time.Second || !math.IsInf(v[2].Meta.Limit, 1) {
		t.Errorf("meta-parameters by alias: %+v and %+v", v[2].Meta, v[3].Meta)
	}
	if v[0].Resource == nil {
		t.Error("the resource was not built")
	}
}

func TestBuildGetsTheReference(t *testing.T) {
	g, err := read("graph.yaml", []byte("graph: g\nresources: {file: [{name: /etc/motd}, {name: '@@/etc/issue'}]}"), fileRegistry(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		vertex *pipeline.Vertex
		want   string
	}{{g.Vertices[0], "file[/etc/motd]"}, {g.Exports[0], "file[@@/etc/issue]"}} {
		if got := test.vertex.Resource.(inert).ref; got != test.want {
			t.Errorf("Ref = %s, want %s", got, test.want)
		}
	}
}

func TestProblemsAreCapped(t *testing.T) {
	var text strings.Builder
	text.WriteString("graph: g\nresources:\n  noop:\n")
	for i := range 60 {
		fmt.Fprintf(&text, "  - {name: n%d, wrong: 1}\n", i)
	}
	_, err := pipeline.Load("graph.yaml", []byte(text.String()), fileRegistry(t))
	problems, ok := errors.AsType[pipeline.Problems](err)
	if !ok || len(problems) != 60 {
		t.Fatalf("%d problems, want 60: %v", len(problems), err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 51 || lines[50] != "and 10 more" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
	if one, ok := errors.AsType[pipeline.Problem](err); !ok || one.Pos.Line != 4 {
		t.Errorf("errors.As finds %v, want the first problem", one)
	}
}

// bomb has levels of aliases, each of which stands for ten of the one before.
func bomb(levels int) string {
	text := "graph: g\nresources:\n  exec:\n  - {name: e0, args: &a0 [x, x, x, x, x, x, x, x, x, x]}\n"
	for i := range levels {
		alias := strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", ")
		text += fmt.Sprintf("  - {name: e%d, args: &a%d [%s]}\n", i+1, i+1, alias)
	}
	return text
}

func TestAliasBombIsRefused(t *testing.T) {
	merges := "graph: g\nresources:\n  exec:\n  - &m0 {name: e0}\n"
	for i := range 30 {
		alias := strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*m%d, ", i), 10), ", ")
		merges += fmt.Sprintf("  - &m%d {<<: [%s], name: e%d}\n", i+1, alias, i+1)
	}
	var wide strings.Builder // thousands of resources that share a list of thousands
	wide.WriteString("graph: g\nresources:\n  exec:\n  - {name: e, args: &a [" + strings.Repeat("x, ", 5000) + "x]}\n")
	for i := range 5000 {
		fmt.Fprintf(&wide, "  - {name: e%d, args: *a}\n", i)
	}
	for _, test := range []struct{ name, text string }{
		{"lists of lists", bomb(9)},
		{"merges of merges", merges},
		{"a long list that many share", wide.String()},
	} {
		t.Run(test.name, func(t *testing.T) {
			start := time.Now()
			_, err := pipeline.Load("graph.yaml", []byte(test.text), fileRegistry(t))
			if err == nil || !strings.Contains(err.Error(), "aliases of this file stand for far more values than it has") {
				t.Errorf("error = %v", err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	for _, test := range []struct{ name, text string }{
		{"lists", "graph: " + strings.Repeat("[", 20_000)},
		{"mappings", "graph: " + strings.Repeat("{a: ", 20_000)},
		{"closed lists", "graph: " + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := pipeline.Load("graph.yaml", []byte(test.text), fileRegistry(t))
			if err == nil || len(err.Error()) > 500 {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func TestLongChainsCompile(t *testing.T) {
	const n = 100_000
	g := &pipeline.Graph{Name: "chain"}
	var before *pipeline.Vertex
	for i := range n {
		v := g.Add("noop", fmt.Sprint(i), &noopConfig{})
		if before != nil {
			g.Connect(v, before, false) // from the last to the first
		}
		before = v
	}
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	order := g.Order()
	if len(order) != n || order[0] != n-1 || order[n-1] != 0 {
		t.Errorf("Order has %d vertices, from %d to %d", len(order), order[0], order[len(order)-1])
	}

	g.Connect(g.Vertices[0], g.Vertices[n-1], false)
	err := g.Compile(sinks.Options{})
	if err == nil || !strings.Contains(err.Error(), "cycle: noop[0] -> noop[99999] -> noop[99998]") || !strings.Contains(err.Error(), "99988 more") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error = %v, want one short cycle", err)
	}
}

func TestOrderKeepsEveryEdge(t *testing.T) {
	g, err := read("graph.yaml", []byte(`
graph: g
resources:
  noop: [{name: d}, {name: c}, {name: b}, {name: a}, {name: e}]
edges:
- noop[a] -> noop[b] -> noop[d]
- noop[a] -> noop[c] -> noop[d]
`), fileRegistry(t))
	if err != nil {
		t.Fatal(err)
	}
	order := g.Order()
	at := func(i int32) int { return slices.Index(order, i) }
	if len(order) != 5 {
		t.Fatalf("Order = %v, want all 5", order)
	}
	for _, e := range g.Edges {
		if at(e.From) > at(e.To) {
			t.Errorf("Order = %v: %d is not before %d", order, e.From, e.To)
		}
	}
}

func TestCompileChecksComposedGraphs(t *testing.T) {
	noop := func() sinks.Config { return &noopConfig{} }
	for _, test := range []struct {
		name    string
		compose func(g *pipeline.Graph)
		want    string
	}{
		{"nothing at all is a graph", func(*pipeline.Graph) {}, ""},
		{"two vertices and an edge", func(g *pipeline.Graph) { g.Connect(g.Add("noop", "a", noop()), g.Add("noop", "b", noop()), true) }, ""},
		{"an edge to an exported resource has no effect", func(g *pipeline.Graph) {
			g.Connect(g.Add("noop", "a", noop()), g.Add("noop", "@@b", noop()), true)
		}, ""},
		{"an empty name", func(g *pipeline.Graph) { g.Add("noop", "", noop()) }, "the name of a noop resource is empty"},
		{"an empty kind", func(g *pipeline.Graph) { g.Add("", "a", noop()) }, `the kind of the resource "a" is empty`},
		{"no Config", func(g *pipeline.Graph) { g.Add("noop", "a", nil) }, "noop[a]: it has no Config"},
		{"the same resource twice", func(g *pipeline.Graph) { g.Add("noop", "a", noop()); g.Add("noop", "a", noop()) },
			"noop[a] is described twice; give one of them another name"},
		{"the same exported resource twice", func(g *pipeline.Graph) { g.Add("noop", "@@a", noop()); g.Add("noop", "@@a", noop()) },
			"noop[@@a] is described twice; give one of them another name"},
		{"two that own the same path", func(g *pipeline.Graph) {
			g.Add("file", "/a", &fileConfig{})
			g.Add("file", "a", &fileConfig{Path: "/a"})
		}, "file[a] and file[/a] both manage the path /a; keep one of them"},
		{"one that is hidden owns nothing", func(g *pipeline.Graph) {
			g.Add("file", "/a", &fileConfig{})
			g.Add("file", "a", &fileConfig{Path: "/a"}, func(m *pipeline.Meta) { m.Hidden = true })
		}, ""},
		{"a wrong parameter", func(g *pipeline.Graph) { g.Add("file", "/a", &fileConfig{Mode: "rw"}) }, `file[/a]: mode: "rw" is not an octal mode`},
		{"a wrong meta-parameter", func(g *pipeline.Graph) {
			g.Add("noop", "a", noop(), func(m *pipeline.Meta) { m.Delay = -time.Second })
		}, "noop[a]: delay: -1s is negative, expected 0 or more"},
		{"an edge from nowhere", func(g *pipeline.Graph) { g.Connect(nil, g.Add("noop", "a", noop()), false) },
			"an edge has no vertex at one end; connect what Add has returned"},
		{"an edge to another graph", func(g *pipeline.Graph) {
			other := &pipeline.Graph{}
			g.Connect(g.Add("noop", "a", noop()), other.Add("noop", "b", noop()), false)
		}, "an edge leads to noop[b], which belongs to another graph; connect what Add of this graph has returned"},
		{"an edge out of range", func(g *pipeline.Graph) {
			g.Add("noop", "a", noop())
			g.Edges = append(g.Edges, pipeline.Edge{From: 0, To: 1})
		}, "an edge leads from vertex 0 to 1, but there are 1"},
		{"an edge to itself", func(g *pipeline.Graph) { a := g.Add("noop", "a", noop()); g.Connect(a, a, false) },
			"an edge leads from noop[a] to itself; remove the edge"},
		{"a cycle", func(g *pipeline.Graph) {
			a, b := g.Add("noop", "a", noop()), g.Add("noop", "b", noop())
			g.Connect(a, b, false)
			g.Connect(b, a, false)
		}, "the edges make a cycle: noop[a] -> noop[b] -> noop[a]; remove one of these edges"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &pipeline.Graph{Name: "composed"}
			test.compose(g)
			got := ""
			if err := g.Compile(sinks.Options{}); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("problems:\n%s\nwant:\n%s", got, test.want)
			}
			if err := g.Compile(sinks.Options{}); (err == nil) != (test.want == "") {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

func TestCompileMergesEdges(t *testing.T) {
	g := &pipeline.Graph{}
	var v []*pipeline.Vertex
	for i := range 3 {
		v = append(v, g.Add("noop", fmt.Sprint(i), &noopConfig{}))
	}
	g.Connect(v[0], v[1], false)
	g.Connect(v[0], v[2], false)
	g.Connect(v[0], v[1], true)
	g.Connect(v[1], v[2], true)
	g.Connect(v[0], v[2], false)
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	want := []pipeline.Edge{{From: 0, To: 1, Notify: true}, {From: 0, To: 2}, {From: 1, To: 2, Notify: true}}
	if diff := gocmp.Diff(want, g.Edges); diff != "" {
		t.Errorf("edges, -want +got:\n%s", diff)
	}
}

// warden is a resource that wants to know its siblings.
type warden struct {
	idle
	told *[]string
}

func (w warden) Owns() []string               { return []string{"path /srv"} }
func (w warden) Keeps() []string              { return []string{"path /srv/kept"} }
func (w warden) Siblings(names []string) bool { *w.told = names; return true }

type wardenConfig struct{ told *[]string }

func (c *wardenConfig) Build(string, sinks.Options) (sinks.Resource, error) {
	return warden{told: c.told}, nil
}

func TestCompileTellsWhatIsManaged(t *testing.T) {
	var told []string
	g := &pipeline.Graph{}
	g.Add("warden", "w", &wardenConfig{&told})
	g.Add("file", "/a", &fileConfig{})
	g.Add("file", "/b", &fileConfig{}, func(m *pipeline.Meta) { m.Hidden = true })
	g.Add("file", "@@/c", &fileConfig{})
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"path /srv", "path /srv/kept", "path /a"}
	if diff := gocmp.Diff(want, told); diff != "" {
		t.Errorf("told, -want +got:\n%s", diff)
	}
	if diff := gocmp.Diff(want, g.Managed()); diff != "" {
		t.Errorf("Managed, -want +got:\n%s", diff)
	}
}
