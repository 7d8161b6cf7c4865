package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

func TestCompileChecksLinks(t *testing.T) {
	app := func() sinks.Config { return &appConfig{URL: "http://a/"} }
	for _, test := range []struct {
		name    string
		compose func(g *pipeline.Graph)
		want    string
	}{
		{"a value is sent", func(g *pipeline.Graph) {
			g.Send(g.Add("exec", "a", &execConfig{}), "stdout", g.Add("app", "b", app()), "tags")
		}, ""},
		{"a key is sent, by an old name of its own", func(g *pipeline.Graph) {
			g.Send(g.Add("exec", "a", &execConfig{}), "exit", g.Add("app", "b", app()), "env.A.B")
		}, ""},
		{"the only output needs no name", func(g *pipeline.Graph) {
			g.Send(g.Add("password", "a", &passwordConfig{}), "", g.Add("app", "b", app()), "env.A")
		}, ""},
		{"to an exported resource it has no effect", func(g *pipeline.Graph) {
			g.Send(g.Add("exec", "a", &execConfig{}), "none", g.Add("app", "@@b", app()), "none")
		}, ""},
		{"what the Config says counts for nothing", func(g *pipeline.Graph) {
			g.Send(g.Add("exec", "a", &execConfig{}), "stdout", g.Add("file", "/b", &fileConfig{Content: new("b")}), "content")
		}, ""},
		{"an output without a name, of several", func(g *pipeline.Graph) {
			g.Send(g.Add("exec", "a", &execConfig{}), "", g.Add("app", "b", app()), "tags")
		}, `exec[a] sends several values, and it is not said which; add "output: " with one of stdout, exit`},
		{"from nobody", func(g *pipeline.Graph) { g.Send(nil, "stdout", g.Add("app", "b", app()), "tags") },
			"a link has no vertex at one end; connect what Add has returned"},
		{"to another graph", func(g *pipeline.Graph) {
			g.Send(g.Add("exec", "a", &execConfig{}), "stdout", (&pipeline.Graph{}).Add("app", "b", app()), "tags")
		}, "a link leads to app[b], which belongs to another graph; connect what Add of this graph has returned"},
		{"out of range", func(g *pipeline.Graph) {
			g.Add("noop", "a", &noopConfig{})
			g.Links = append(g.Links, pipeline.Link{From: 0, To: 1}, pipeline.Link{From: -1, To: 0})
		}, "a link leads from vertex -1 to 0, but there are 1\na link leads from vertex 0 to 1, but there are 1"},
		{"to itself", func(g *pipeline.Graph) { a := g.Add("exec", "a", &execConfig{}); g.Send(a, "stdout", a, "cmd") },
			"exec[a] receives from itself; receive it from another resource"},
		{"from a kind that sends nothing", func(g *pipeline.Graph) {
			g.Send(g.Add("noop", "a", &noopConfig{}), "x", g.Add("app", "b", app()), "tags")
		},
			"noop[a] sends nothing; receive from a kind that has outputs"},
		{"from and to what has no Config", func(g *pipeline.Graph) { g.Send(g.Add("noop", "a", nil), "x", g.Add("noop", "b", nil), "tags") },
			"noop[a] sends nothing; receive from a kind that has outputs\nnoop[a]: it has no Config\nnoop[b]: it has no Config"},
		{"to a parameter that is not there", func(g *pipeline.Graph) {
			g.Send(g.Add("exec", "a", &execConfig{}), "stdout", g.Add("app", "b", app()), "tag")
		}, `unknown parameter "tag" of app; did you mean "tags"?`},
		{"from two", func(g *pipeline.Graph) {
			a, b, c := g.Add("exec", "a", &execConfig{}), g.Add("exec", "b", &execConfig{}), g.Add("app", "c", app())
			g.Send(a, "stdout", c, "url")
			g.Send(b, "stdout", c, "address")
		}, "url of app[c] is received from exec[b], and url from exec[a]; keep one of them"},
		{"a key, and all of them", func(g *pipeline.Graph) {
			a, b, c := g.Add("exec", "a", &execConfig{}), g.Add("app", "b", app()), g.Add("app", "c", app())
			g.Send(a, "stdout", c, "env.A")
			g.Send(b, "env", c, "env")
		}, "env of app[c] is received from app[b], and env.A from exec[a]; keep one of them"},
		{"in a circle", func(g *pipeline.Graph) {
			a, b := g.Add("exec", "a", &execConfig{}), g.Add("exec", "b", &execConfig{})
			g.Send(a, "stdout", b, "cmd")
			g.Send(b, "stdout", a, "cmd")
		}, "the edges make a cycle: exec[a] -> exec[b] -> exec[a]; remove one of these edges"},
		{"a secret to where it is shown", func(g *pipeline.Graph) {
			g.Send(g.Add("password", "a", &passwordConfig{}), "password", g.Add("print", "b", &printConfig{}), "msg")
		}, "password[a] sends password, which is secret, but msg of print[b] is shown; send it to a parameter that is not shown"},
		{"to a resource that nothing can mend", func(g *pipeline.Graph) {
			g.Send(g.Add("exec", "a", &execConfig{}), "stdout", g.Add("file", "b", &fileConfig{}), "content")
		}, `file[b]: path "b" is not absolute`},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := &pipeline.Graph{Name: "composed"}
			test.compose(g)
			for _, when := range []string{"the first time", "the second time"} {
				got := ""
				if err := g.Compile(sinks.Options{}); err != nil {
					got = err.Error()
				}
				if got != test.want {
					t.Errorf("%s:\n%s\nwant:\n%s", when, got, test.want)
				}
			}
		})
	}
}

// TestLinksMakeEdges has each link lead along an edge: one that is declared, or one of its
// own, which says what it sends.
func TestLinksMakeEdges(t *testing.T) {
	g := &pipeline.Graph{}
	a, b, c := g.Add("exec", "a", &execConfig{}), g.Add("app", "b", &appConfig{URL: "http://b/"}), g.Add("app", "c", &appConfig{})
	g.Send(a, "stdout", b, "tags")
	g.Send(a, "stdout", c, "url")
	g.Send(a, "exit", c, "count")
	g.Send(a, "stdout", c, "tags")
	g.Connect(a, b, true)
	want := []pipeline.Edge{{From: 0, To: 1, Notify: true}, {From: 0, To: 2, Why: "sends stdout, exit"}}
	for range 2 {
		if err := g.Compile(sinks.Options{}); err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want, g.Edges); diff != "" {
			t.Errorf("edges, -want +got:\n%s", diff)
		}
		if diff := gocmp.Diff([]string{"exit", "stdout"}, a.Sends()); diff != "" {
			t.Errorf("sends, -want +got:\n%s", diff)
		}
		if diff := gocmp.Diff([]string{"exit of exec[a] as count.", "stdout of exec[a] as tags.", "stdout of exec[a] as url."}, c.Receives()); diff != "" {
			t.Errorf("receives, -want +got:\n%s", diff)
		}
	}
}

func TestSameLinks(t *testing.T) {
	compile := func(compose func(g *pipeline.Graph, a, b, c *pipeline.Vertex)) *pipeline.Graph {
		g := &pipeline.Graph{}
		a, b, c := g.Add("exec", "a", &execConfig{}), g.Add("password", "b", &passwordConfig{}), g.Add("app", "c", &appConfig{URL: "http://c/"})
		compose(g, a, b, c)
		if err := g.Compile(sinks.Options{}); err != nil {
			t.Fatal(err)
		}
		return g
	}
	none := func(*pipeline.Graph, *pipeline.Vertex, *pipeline.Vertex, *pipeline.Vertex) {}
	stdout := func(g *pipeline.Graph, a, _, c *pipeline.Vertex) { g.Send(a, "stdout", c, "env.A") }
	for _, test := range []struct {
		name     string
		was, now func(g *pipeline.Graph, a, b, c *pipeline.Vertex)
		want     [3]bool
	}{
		{"no links", none, none, [3]bool{true, true, true}},
		{"the same link", stdout, stdout, [3]bool{true, true, true}},
		{"another link", none, stdout, [3]bool{false, true, false}},
		{"one link fewer: the sender need not care", stdout, none, [3]bool{true, true, false}},
		{"another key", stdout, func(g *pipeline.Graph, a, _, c *pipeline.Vertex) { g.Send(a, "stdout", c, "env.B") }, [3]bool{true, true, false}},
		{"another output", stdout, func(g *pipeline.Graph, a, _, c *pipeline.Vertex) { g.Send(a, "exit", c, "env.A") }, [3]bool{false, true, false}},
		{"another sender", stdout, func(g *pipeline.Graph, _, b, c *pipeline.Vertex) { g.Send(b, "password", c, "env.A") }, [3]bool{true, false, false}},
		{"what it is sent has become secret", stdout, func(g *pipeline.Graph, a, b, c *pipeline.Vertex) {
			g.Send(a, "stdout", c, "env.A")
			g.Send(b, "password", a, "args")
		}, [3]bool{false, false, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			was, now := compile(test.was), compile(test.now)
			for i, want := range test.want {
				if got := pipeline.SameLinks(was.Vertices[i], now.Vertices[i]); got != want {
					t.Errorf("%v is the same: %v, want %v", now.Vertices[i], got, want)
				}
			}
		})
	}
}

// talkative is a resource that says much of itself.
type talkative struct {
	idle
	path, owner string
}

func (r talkative) Owns() []string  { return []string{"path " + r.path, "name fixed"} }
func (r talkative) Keeps() []string { return []string{"path " + r.path + ".part", "path /kept"} }
func (r talkative) Provides() []sinks.Fact {
	return []sinks.Fact{{Space: sinks.SpaceFile, Name: r.path}}
}
func (r talkative) Waits() bool { return true }
func (r talkative) Acts() bool  { return true }
func (r talkative) Needs() []sinks.Need {
	return []sinks.Need{
		{Fact: sinks.Fact{Space: sinks.SpaceUser, Name: r.owner}},
		{Fact: sinks.Fact{Space: sinks.SpaceDir, Name: r.path}, Above: true},
	}
}

// talkativeConfig notes with what it is built.
type talkativeConfig struct {
	Path  string   `param:"path"`
	Owner string   `param:"owner"`
	Force bool     `param:"force"`
	Said  []string `param:"said"`

	built *[]sinks.Options
}

func (c *talkativeConfig) Build(_ string, opts sinks.Options) (sinks.Resource, error) {
	if c.built != nil {
		*c.built = append(*c.built, opts)
	}
	switch {
	case !strings.HasPrefix(c.Path, "/"):
		return nil, fmt.Errorf("path %q is not absolute", c.Path)
	case !c.Force && c.Owner == "force":
		return nil, &sinks.ParamError{Param: "owner", Err: errors.New("it needs force")}
	}
	return talkative{path: c.Path, owner: c.Owner}, nil
}

func (*talkativeConfig) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "path", Type: sinks.TypeString}, {Name: "force", Type: sinks.TypeBool}}
}

// TestReceiversStandIn has a resource that is not built yet say what holds whatever it
// will receive.
func TestReceiversStandIn(t *testing.T) {
	for _, test := range []struct {
		name     string
		cfg      talkativeConfig
		receives []string
		owns     []string
		needs    []string
	}{
		{"what it receives does not matter", talkativeConfig{Path: "/p", Owner: "joe"}, []string{"said"}, []string{"path /p", "name fixed"}, []string{"joe", "/p"}},
		{"a path", talkativeConfig{Path: "/p", Owner: "joe"}, []string{"path"}, []string{"name fixed"}, []string{"joe"}},
		{"an owner", talkativeConfig{Path: "/p", Owner: "joe"}, []string{"owner"}, []string{"path /p", "name fixed"}, []string{"/p"}},
		{"everything", talkativeConfig{}, []string{"owner", "path", "said"}, []string{"name fixed"}, nil},
		{"a bool that has to be true", talkativeConfig{Path: "/p", Owner: "force"}, []string{"force"}, []string{"path /p", "name fixed"}, []string{"force", "/p"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var built []sinks.Options
			before := test.cfg
			test.cfg.built, before.built = &built, &built
			g := &pipeline.Graph{}
			from, to := g.Add("talk", "from", &talkativeConfig{Path: "/from"}), g.Add("talk", "to", &test.cfg)
			for _, param := range test.receives {
				output := "path"
				if param == "force" {
					output = param
				}
				g.Send(from, output, to, param)
			}
			shared := &sinks.Shared{}
			log := slog.New(slog.DiscardHandler)
			// Only the receiver is of interest: the sender owns a name, too.
			from.Meta = new(pipeline.DefaultMeta())
			from.Meta.Hidden = true
			if err := g.Compile(sinks.Options{Shared: shared, Log: log, Dir: "/dir"}); err != nil {
				t.Fatal(err)
			}
			for _, opts := range built {
				if opts.Shared == shared || opts.Shared == nil || opts.Log != nil || opts.Dir != "/dir" || opts.Ref != "talk[to]" {
					t.Errorf("it was built with %+v", opts)
				}
			}
			if len(built) == 0 {
				t.Error("it was not built")
			}
			if diff := gocmp.Diff(before.Path+before.Owner, test.cfg.Path+test.cfg.Owner); diff != "" || test.cfg.Said != nil || test.cfg.Force {
				t.Errorf("the Config has changed: %+v", test.cfg)
			}
			checkStandIn(t, to.Resource, test.owns, test.needs)
			if diff := gocmp.Diff(test.owns, g.Managed()[:len(test.owns)]); diff != "" {
				t.Errorf("Managed, -want +got:\n%s", diff)
			}
		})
	}
}

func checkStandIn(t *testing.T, r sinks.Resource, owns, needs []string) {
	t.Helper()
	if diff := gocmp.Diff(owns, r.(sinks.Owner).Owns()); diff != "" {
		t.Errorf("Owns, -want +got:\n%s", diff)
	}
	var names []string
	for _, need := range r.(sinks.Needer).Needs() {
		names = append(names, need.Name)
	}
	if diff := gocmp.Diff(needs, names); diff != "" {
		t.Errorf("Needs, -want +got:\n%s", diff)
	}
	facts, keeps := r.(sinks.Provider).Provides(), r.(sinks.Keeper).Keeps()
	if fixed := slices.Contains(owns, "path /p"); fixed != (len(facts) == 1) || fixed != (len(keeps) == 2) {
		t.Errorf("it provides %v and keeps %v", facts, keeps)
	}
	if !r.(sinks.Waiter).Waits() || !r.(sinks.Actor).Acts() || r.Watches() != nil {
		t.Error("it does not wait and act, or it watches")
	}
	if _, err := r.CheckApply(context.Background(), true); err == nil {
		t.Error("it is applied")
	}
}

// blank is a kind that no guess will ever please.
type blankConfig struct {
	Code string `param:"code"`
}

func (c *blankConfig) Build(string, sinks.Options) (sinks.Resource, error) {
	if c.Code != "open sesame" {
		return nil, &sinks.ParamError{Param: "code", Err: errors.New("it is wrong")}
	}
	return idle{}, nil
}

func TestAReceiverThatCantBeGuessedIsNotRefused(t *testing.T) {
	g := &pipeline.Graph{}
	from := g.Add("exec", "a", &execConfig{})
	to := g.Add("blank", "b", &blankConfig{})
	g.Send(from, "stdout", to, "code")
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	r := to.Resource
	if len(r.(sinks.Owner).Owns()) > 0 || len(r.(sinks.Provider).Provides()) > 0 || r.(sinks.Actor).Acts() || !r.(sinks.Waiter).Waits() {
		t.Errorf("it knows too much: %+v", r)
	}
}

// A resource is told which of its outputs somebody receives.
func TestBuildIsToldWhatIsReceived(t *testing.T) {
	var built []sinks.Options
	g := &pipeline.Graph{}
	a, b := g.Add("talk", "a", &talkativeConfig{Path: "/a", built: &built}), g.Add("app", "b", &appConfig{URL: "http://b/"})
	g.Send(a, "path", b, "env.A")
	g.Send(a, "force", b, "env.B")
	g.Send(a, "path", b, "tags")
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	if len(built) != 1 || !slices.Equal(built[0].Sends, []string{"force", "path"}) {
		t.Errorf("built with %+v", built)
	}
}

// TestSecretsOfRandomGraphs follows secrets the slow and obvious way.
func TestSecretsOfRandomGraphs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 8).Draw(t, "vertices")
		g := &pipeline.Graph{}
		var secret []bool
		for i := range n {
			secret = append(secret, rapid.IntRange(0, 3).Draw(t, "secret") == 0)
			if secret[i] {
				g.Add("password", fmt.Sprint(i), &passwordConfig{})
			} else {
				g.Add("app", fmt.Sprint(i), &appConfig{URL: "http://a/"})
			}
		}
		order := rapid.Permutation(makeRange(n)).Draw(t, "order")
		type way struct{ from, to int }
		text := map[way]bool{}
		for range rapid.IntRange(0, 2*n).Draw(t, "links") {
			i := rapid.IntRange(0, n-2).Draw(t, "from")
			j := rapid.IntRange(i+1, n-1).Draw(t, "to")
			w := way{order[i], order[j]}
			if _, twice := text[w]; twice || secret[w.to] {
				continue
			}
			output := "password"
			text[w] = secret[w.from] || rapid.Bool().Draw(t, "text")
			if !secret[w.from] {
				// The only text of an app that fits a key is none: its bool does, and carries nothing.
				output = "up"
				if text[w] {
					output = "tags"
				}
			}
			if output == "tags" {
				g.Send(g.Vertices[w.from], output, g.Vertices[w.to], "tags")
				if slices.ContainsFunc(g.Links[:len(g.Links)-1], func(l pipeline.Link) bool { return l.To == int32(w.to) && l.Param == "tags" }) {
					g.Links = g.Links[:len(g.Links)-1] // which is received already
					delete(text, w)
				}
				continue
			}
			g.Send(g.Vertices[w.from], output, g.Vertices[w.to], fmt.Sprintf("env.K%d", w.from))
		}
		if err := g.Compile(sinks.Options{}); err != nil {
			t.Fatal(err)
		}
		tainted := make([]bool, n)
		for range n {
			for w, carries := range text {
				tainted[w.to] = tainted[w.to] || secret[w.from] || carries && tainted[w.from]
			}
		}
		for i, v := range g.Vertices {
			if v.Tainted() != tainted[i] {
				t.Errorf("%v has received a secret: %v, want %v", v, v.Tainted(), tainted[i])
			}
		}
		for _, l := range g.Links {
			if want := secret[l.From] || tainted[l.From] && text[way{int(l.From), int(l.To)}]; l.Secret != want {
				t.Errorf("%+v: want secret %v", l, want)
			}
		}
	})
}

func makeRange(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// A program sends values like a graph file does.
func ExampleGraph_Send() {
	g := &pipeline.Graph{Name: "values"}
	count := g.Add("exec", "nproc", &execConfig{})
	app := g.Add("app", "web", &appConfig{URL: "http://localhost/"})
	g.Send(count, "stdout", app, "env.WORKERS")
	if err := g.Compile(sinks.Options{}); err != nil {
		panic(err)
	}
	e := g.Edges[0]
	fmt.Println(g.Vertices[e.From], e.Why, "to", g.Vertices[e.To])

	g.Send(count, "stdout", app, "count")
	fmt.Println(g.Compile(sinks.Options{}))
	// Output:
	// exec[nproc] sends stdout to app[web]
	// exec[nproc] sends stdout, a string, but count of app[web] is a whole number
}
