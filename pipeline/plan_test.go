package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/exec"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sources"
	allsources "github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/streams"
)

// planned is a kind whose checks end as its fields say. It fails the test when it is
// applied, or asked in another way than it should be.
type plannedConfig struct {
	t       testing.TB
	changes bool
	err     error
	panics  bool
	hangs   bool
	reads   []string
	owns    string
	field   string // of the change
	asked   func(refresh bool)
}

type plannedResource struct{ plannedConfig }

func (c *plannedConfig) Build(string, sinks.Options) (sinks.Resource, error) {
	return &plannedResource{*c}, nil
}

func (p *plannedResource) Watches() []sources.Watch { p.t.Error("it is watched"); return nil }
func (p *plannedResource) Reads() []string          { return p.reads }

func (p *plannedResource) Owns() []string {
	if p.owns == "" {
		return nil
	}
	return []string{"path " + p.owns}
}

func (p *plannedResource) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return p.look(ctx, apply, false)
}

func (p *plannedResource) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return p.look(ctx, apply, true)
}

func (p *plannedResource) look(ctx context.Context, apply, refresh bool) (out sinks.Outcome, err error) {
	if apply {
		p.t.Error("it is applied")
	}
	if p.asked != nil {
		p.asked(refresh)
	}
	if p.panics {
		panic("boom")
	}
	if p.hangs {
		<-ctx.Done()
		return out, context.Cause(ctx)
	}
	if out.Changed = p.changes || refresh; out.Changed {
		field := "state"
		if p.field != "" {
			field = p.field
		}
		out.Changes = []sinks.Change{{Field: field, From: "absent", To: "exists"}}
	}
	return out, p.err
}

// stepsOf lists the states of the steps by name: "a right, b after a".
func stepsOf(f pipeline.Forecast) string {
	var list []string
	for _, s := range f.Steps {
		text := s.Ref()
		if s.Vertex != nil {
			text = s.Vertex.Name
		}
		text += " " + string(s.State)
		for _, v := range s.After {
			text += " " + v.Name
		}
		if s.By != nil {
			text += " " + s.By.Name
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

// composed makes a graph of names and edges: "a>b" orders, "a~b" notifies.
func composed(t testing.TB, kinds map[string]plannedConfig, names string, edges ...string) *pipeline.Graph {
	t.Helper()
	g := &pipeline.Graph{Name: "g"}
	vertices := map[string]*pipeline.Vertex{}
	for name := range strings.FieldsSeq(names) {
		c := kinds[name]
		c.t = t
		vertices[name] = g.Add("planned", name, &c, func(m *pipeline.Meta) {
			m.Hidden = strings.HasPrefix(name, "hidden")
			m.Noop = strings.HasPrefix(name, "noop")
			if c.hangs {
				m.Timeout = time.Millisecond
			}
		})
	}
	for _, e := range edges {
		from, to, notify := strings.Cut(e, "~")
		if !notify {
			from, to, _ = strings.Cut(e, ">")
		}
		g.Connect(vertices[from], vertices[to], notify)
	}
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestPlan(t *testing.T) {
	missing := errors.New("it is missing")
	change, fails := plannedConfig{changes: true}, plannedConfig{err: missing}
	for _, c := range []struct {
		name  string
		kinds map[string]plannedConfig
		names string
		edges []string
		want  string
	}{
		{"what fails behind a change is after that", map[string]plannedConfig{"a": change, "b": fails}, "a b", []string{"a>b"}, "a change, b after a"},
		{"what fails beside a change fails", map[string]plannedConfig{"a": change, "b": fails}, "a b", nil, "a change, b failed"},
		{"the nearest that changes counts, through what is right, hidden or noop", map[string]plannedConfig{"a": change, "b": change, "z": fails, "noop": change}, "a b right noop hidden z",
			[]string{"a>b", "b>right", "right>noop", "noop>hidden", "hidden>z"}, "a change, b change, right right, noop noop, z after b"},
		{"all of the nearest count", map[string]plannedConfig{"a": change, "b": change, "z": fails}, "a b c z", []string{"a>c", "b>z", "c>z"}, "a change, b change, c right, z after a b"},
		{"what is after others may bring something about too", map[string]plannedConfig{"a": change, "b": fails, "c": fails}, "a b c", []string{"a>b", "b>c"}, "a change, b after a, c after b"},
		{"a failure holds back all behind it", map[string]plannedConfig{"a": fails, "d": change}, "a b c d", []string{"a>b", "b>c"}, "a failed, b blocked a, c blocked a, d change"},
		{"a failure holds back what others would bring on", map[string]plannedConfig{"a": change, "b": fails}, "a b z", []string{"a>z", "b>z"}, "a change, b failed, z blocked b"},
		{"the order of the file is kept", map[string]plannedConfig{"b": change}, "c b a", []string{"a>b"}, "c right, a right, b change"},
		{"a notification goes on as long as something changes", map[string]plannedConfig{"a": change}, "a b c d", []string{"a~b", "b~c", "c>d"}, "a change, b change, c change, d right"},
		{"a noop notifies nobody", map[string]plannedConfig{"noop": change}, "noop b", []string{"noop~b"}, "noop noop, b right"},
		{"a panic is a failure", map[string]plannedConfig{"a": {panics: true}}, "a", nil, "a failed"},
		{"a timeout is a failure", map[string]plannedConfig{"a": {hangs: true}}, "a", nil, "a failed"},
		{"who looks at what is changed before it is after that", map[string]plannedConfig{"a": {changes: true, owns: "/x/y"}, "b": {reads: []string{"path /x"}}, "c": {reads: []string{"path /x/y"}},
			"d": {reads: []string{"path /x/y/z"}}, "e": {reads: []string{"path /x/yz"}}, "f": {reads: []string{"mode /x/y"}}},
			"a b c d e f g", []string{"a>g", "g>b", "g>c", "g>d", "g>e", "g>f"}, "a change, g right, b after a, c after a, d right, e right, f right"},
		{"who does not come after it is not", map[string]plannedConfig{"a": {changes: true, owns: "/x"}, "b": {reads: []string{"path /x"}}, "z": change}, "a z b", []string{"z>b"}, "a change, z change, b right"},
		{"a mode matters to those who look at it", map[string]plannedConfig{"a": {changes: true, owns: "/x", field: "mode of y"}, "b": {reads: []string{"path /x"}}, "c": {reads: []string{"mode /x"}}, "d": {reads: []string{"mode /x/z"}}},
			"a b c d", []string{"a>b", "a>c", "a>d"}, "a change, b right, c after a, d right"},
		{"what is removed takes all below it along", map[string]plannedConfig{"a": {changes: true, owns: "/x", field: "purge of y"}, "b": {reads: []string{"path /x/y/z"}}}, "a b", []string{"a>b"}, "a change, b after a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := pipeline.Plan(t.Context(), composed(t, c.kinds, c.names, c.edges...), pipeline.PlanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := stepsOf(f); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestPlanErrors(t *testing.T) {
	f, err := pipeline.Plan(t.Context(), composed(t, map[string]plannedConfig{"a": {panics: true}, "b": {hangs: true}}, "a b"), pipeline.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*streams.PanicError](f.Steps[0].Err); !ok {
		t.Errorf("a panic became %v", f.Steps[0].Err)
	}
	if err := f.Steps[1].Err; err == nil || !strings.HasPrefix(err.Error(), "not done after 1ms, the timeout of its meta-parameters") {
		t.Errorf("a timeout became %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	g := composed(t, map[string]plannedConfig{"a": {asked: func(bool) { cancel(stop) }}, "b": {panics: true}}, "a b", "a>b")
	if _, err := pipeline.Plan(ctx, g, pipeline.PlanOptions{}); !errors.Is(err, stop) {
		t.Errorf("a cancelled plan ends with %v", err)
	}
	if _, err := pipeline.Plan(t.Context(), g, pipeline.PlanOptions{State: brokenState{}}); !errors.Is(err, errBrokenState) {
		t.Errorf("without its state the plan ends with %v", err)
	}
	raw := &pipeline.Graph{}
	raw.Add("planned", "a", &plannedConfig{t: t})
	if _, err := pipeline.Plan(t.Context(), raw, pipeline.PlanOptions{}); err == nil {
		t.Error("a graph that is not compiled has a plan")
	}
}

var errBrokenState = errors.New("the state is broken")

type brokenState struct{}

func (brokenState) Load() (pipeline.Saved, error)    { return pipeline.Saved{}, errBrokenState }
func (brokenState) Save(pipeline.StateChanges) error { panic("a plan saves") }

type savedState pipeline.Saved

func (s savedState) Load() (pipeline.Saved, error)  { return pipeline.Saved(s), nil }
func (savedState) Save(pipeline.StateChanges) error { panic("a plan saves") }

func TestPlanTakesWhatIsOwedIntoAccount(t *testing.T) {
	refreshed := map[string]bool{}
	asks := func(name string) plannedConfig {
		return plannedConfig{asked: func(refresh bool) { refreshed[name] = refresh }}
	}
	g := composed(t, map[string]plannedConfig{"a": asks("a"), "b": asks("b")}, "a b", "a>b")
	const removed = "state: absent\n"
	state := savedState{
		Refreshes: []string{"planned[b]", "planned[gone]"},
		Reversals: []pipeline.Reversal{
			{Kind: "file", Name: "/d/", Params: removed}, {Kind: "planned", Name: "a", Params: removed},
			{Kind: "file", Name: "/d/a", Params: removed, Before: []string{"file[/d/]", "planned[a]"}},
			{Kind: "file", Name: "/d/b", Params: removed, Before: []string{"file[/d/]"}},
		},
	}
	f, err := pipeline.Plan(t.Context(), g, pipeline.PlanOptions{State: state})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := stepsOf(f), "a right, b change, file[/d/a] undo, file[/d/b] undo, file[/d/] undo"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if refreshed["a"] || !refreshed["b"] || f.Steps[0].Refresh || !f.Steps[1].Refresh {
		t.Errorf("refreshed were %v; the steps say %v and %v", refreshed, f.Steps[0].Refresh, f.Steps[1].Refresh)
	}
	if !f.Changes() || f.Fails() || f.Count(pipeline.StepUndo) != 3 {
		t.Errorf("it changes: %v, it fails: %v", f.Changes(), f.Fails())
	}
}

// A level of many is checked by several workers, and listed as always.
func TestPlanOfMany(t *testing.T) {
	names := make([]string, 500)
	kinds := map[string]plannedConfig{}
	for i := range names {
		names[i] = fmt.Sprint("n", i)
		kinds[names[i]] = plannedConfig{changes: i%3 == 0}
	}
	g := composed(t, kinds, strings.Join(names, " "))
	f, err := pipeline.Plan(t.Context(), g, pipeline.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range f.Steps {
		if s.Vertex.Name != names[i] || (s.State == pipeline.StepChange) != (i%3 == 0) {
			t.Fatalf("step %d is %s, %s", i, s.Ref(), s.State)
		}
	}
	if states := slices.Clone(pipeline.StepStates); f.Count(states...) != len(names) {
		t.Errorf("%d steps are in one of all states", f.Count(states...))
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := &pipeline.Graph{Name: "g"}
			var before *pipeline.Vertex
			for i := range n {
				v := g.Add("planned", fmt.Sprint(i), &plannedConfig{t: b, changes: true, owns: fmt.Sprint("/srv/", i%100, "/", i), reads: []string{fmt.Sprint("path /srv/x/", i)}})
				if i%10 > 0 {
					g.Connect(before, v, i%2 == 0)
				}
				before = v
			}
			if err := g.Compile(sinks.Options{}); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := pipeline.Plan(b.Context(), g, pipeline.PlanOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExamplePlan() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	g := &pipeline.Graph{Name: "site"}
	content := "hello"
	motd := g.Add("file", dir+"/motd", &file.Config{Content: &content})
	announce := g.Add("exec", "announce", &exec.Config{Cmd: "wall hello", Creates: "/etc/passwd"})
	g.Connect(motd, announce, true)
	if err := g.Compile(sinks.Options{}); err != nil {
		panic(err)
	}
	f, err := pipeline.Plan(context.Background(), g, pipeline.PlanOptions{})
	if err != nil {
		panic(err)
	}
	for _, s := range f.Steps {
		fmt.Println(s.State, strings.ReplaceAll(s.Ref(), dir, ""), s.Outcome.Changes)
	}
	// Output:
	// change file[/motd] [state: absent -> exists content: "" -> hello]
	// run exec[announce] [cmd: (not run) -> wall hello]
}

// What a reversed graph has made is undone by a run of another graph, as its plan says.
func TestPlanOfWhatIsUndone(t *testing.T) {
	dir := t.TempDir()
	text := func(of string) string { return strings.ReplaceAll(of, "$DIR", dir) }
	state := &memory{}
	run := func(of string) (changed []string) {
		opts := pipeline.Options{Sources: allsources.New(nil), State: state, Kinds: allKinds(t), ConvergedExit: true}
		for r, err := range pipeline.Run(streams.Of(pipeline.Update{Graph: loadKinds(t, text(of))}), opts).Seq(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Kind == pipeline.Finished && r.Outcome.Changed {
				changed = append(changed, r.Vertex.String())
			}
		}
		return changed
	}
	run(`
graph: before
resources:
  file:
  - {name: $DIR/d/, state: exists, meta: {reverse: true}}
  - {name: $DIR/d/a, content: a, meta: {reverse: true}}
  - {name: $DIR/b, content: b, meta: {reverse: true}}
  - {name: $DIR/c, content: c, meta: {reverse: true}}
`)
	if err := os.Remove(dir + "/c"); err != nil {
		t.Fatal(err)
	}
	const after = "graph: after\nresources:\n  file:\n  - {name: other, path: $DIR/b, content: b}\n"
	f, err := pipeline.Plan(t.Context(), loadKinds(t, text(after)), pipeline.PlanOptions{State: state, Kinds: allKinds(t)})
	if err != nil {
		t.Fatal(err)
	}
	want := text("other right, file[$DIR/d/a] undo, file[$DIR/d/] undo")
	if got := stepsOf(f); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if changes := f.Steps[1].Outcome.Changes; len(changes) != 1 || changes[0].To != "absent" {
		t.Errorf("undoing would change %v", changes)
	}
	if got := run(after); !slices.Equal(got, []string{text("file[$DIR/d/a]"), text("file[$DIR/d/]")}) {
		t.Errorf("the run has undone %q", got)
	}
	f, err = pipeline.Plan(t.Context(), loadKinds(t, text(after)), pipeline.PlanOptions{State: state, Kinds: allKinds(t)})
	if err != nil || f.Changes() || f.Fails() {
		t.Errorf("afterwards: %s, %v", stepsOf(f), err)
	}
}
