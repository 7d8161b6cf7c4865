package pipeline_test

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/exec"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/timer"
)

// lockerConfig is a kind with parameters of all sorts.
type lockerConfig struct {
	Name   string            `param:"name"`
	Code   string            `param:"code" secret:"true"`
	Spare  *string           `param:"spare" secret:"true"`
	Wait   time.Duration     `param:"wait" unit:"s"`
	Rate   float64           `param:"rate"`
	Words  []string          `param:"words"`
	Env    map[string]string `param:"env"`
	Open   *bool             `param:"open"`
	Old    string            `param:"old" legacy:"true"`
	Older  string            `param:"older" legacy:"true"`
	Broken bool              `param:"broken"`
}

func (c *lockerConfig) Build(string, sinks.Options) (sinks.Resource, error) {
	if c.Broken {
		return nil, fmt.Errorf("it can't be built")
	}
	return &idler{}, nil
}

func (*lockerConfig) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "label", Type: sinks.TypeString, Doc: "What is on it."}, {Name: "key", Type: sinks.TypeString, Secret: true, Doc: "What opens it."}}
}

func TestExplainShowsParametersAfterDefaults(t *testing.T) {
	g := &pipeline.Graph{}
	v := g.Add("locker", "x", &lockerConfig{Code: "hunter2", Wait: 250 * time.Millisecond, Rate: math.Inf(1), Words: []string{"a", "b"}, Older: "yes"})
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(pipeline.Explain(g, v).Params)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"name":"name","value":""},{"name":"code","value":"(secret)","secret":true},{"name":"spare","value":null,"secret":true},` +
		`{"name":"wait","value":"250ms"},{"name":"rate","value":".inf"},{"name":"words","value":["a","b"]},{"name":"env","value":null},` +
		`{"name":"open","value":null},{"name":"older","value":"yes"},{"name":"broken","value":false}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestExplainShowsMetaParametersThatAreSet(t *testing.T) {
	g := &pipeline.Graph{}
	plain := g.Add("locker", "plain", &lockerConfig{})
	v := g.Add("locker", "x", &lockerConfig{}, func(m *pipeline.Meta) {
		m.Retry, m.Delay, m.Sema, m.AutoEdge, m.Limit, m.Burst = -1, time.Second, []string{"a:2"}, false, 0.5, 1
	})
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := pipeline.Explain(g, plain).Meta; len(got) != 0 {
		t.Errorf("of one that sets none: %+v", got)
	}
	got, err := json.Marshal(pipeline.Explain(g, v).Meta)
	const want = `[{"name":"retry","value":-1},{"name":"delay","value":"1s"},{"name":"limit","value":0.5},{"name":"burst","value":1},` +
		`{"name":"sema","value":["a:2"]},{"name":"autoedge","value":false}]`
	if err != nil || string(got) != want {
		t.Errorf("got  %s (%v)\nwant %s", got, err, want)
	}
}

func TestExplainShowsNeighbours(t *testing.T) {
	g := &pipeline.Graph{}
	first := g.Add("locker", "first", &lockerConfig{})
	x := g.Add("locker", "x", &lockerConfig{})
	before := g.Add("locker", "before", &lockerConfig{})
	after := g.Add("locker", "after", &lockerConfig{})
	last := g.Add("locker", "last", &lockerConfig{})
	g.Add("locker", "beside", &lockerConfig{})
	g.Connect(first, before, false)
	g.Connect(first, last, false)
	g.Connect(before, x, true)
	g.Connect(x, after, false)
	g.Connect(after, last, false)
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	g.Edges[len(g.Edges)-1].Why = "which it needs"
	got := pipeline.Explain(g, x)
	if len(got.After) != 1 || got.After[0].Resource != "locker[before]" || !got.After[0].Notify || !got.After[0].Declared || got.AllAfter != 2 {
		t.Errorf("after %+v, %d in all", got.After, got.AllAfter)
	}
	if len(got.Before) != 1 || got.Before[0].Resource != "locker[after]" || got.AllBefore != 2 {
		t.Errorf("before %+v, %d in all", got.Before, got.AllBefore)
	}
	if end := pipeline.Explain(g, last); len(end.After) != 2 || end.After[0].Resource != "locker[first]" || end.AllAfter != 4 || end.AllBefore != 0 ||
		end.After[1].Declared || end.After[1].Why != "which it needs" {
		t.Errorf("of the last one: %+v", end)
	}
}

func TestExplainShowsWhatIsSent(t *testing.T) {
	g := &pipeline.Graph{}
	from := g.Add("locker", "from", &lockerConfig{})
	to := g.Add("locker", "to", &lockerConfig{Name: "counts for nothing"})
	g.Send(from, "label", to, "name")
	g.Send(from, "key", to, "env.KEY")
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	got := pipeline.Explain(g, to)
	if len(got.After) != 1 || got.After[0].Declared || got.After[0].Why != "" || fmt.Sprint(got.After[0].Sends) != "[{label name  false} {key env KEY true}]" {
		t.Errorf("after %+v", got.After)
	}
	params := map[string]pipeline.ExplainedParam{}
	for _, p := range got.Params {
		params[p.Name+p.Key] = p
	}
	if p := params["name"]; p.From != "locker[from]" || p.Output != "label" || p.Value != nil || p.Secret {
		t.Errorf("name is %+v", p)
	}
	if p := params["envKEY"]; p.From != "locker[from]" || p.Output != "key" || !p.Secret {
		t.Errorf("a key of env is %+v", p)
	}
	if p, ok := params["env"]; !ok || p.From != "" {
		t.Errorf("the rest of env is %+v, %v", p, ok)
	}
	if sender := pipeline.Explain(g, from); len(sender.Before) != 1 || len(sender.Before[0].Sends) != 2 {
		t.Errorf("before %+v", sender.Before)
	}
}

func TestExplainAsksForWatchesWithoutTouchingTheResource(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  sinks.Config
		meta func(*pipeline.Meta)
		want string
	}{
		{"what the kind watches", &idlerConfig{Bell: "dinner"}, nil, "[{bells dinner}]"},
		{"a timer", &timer.Config{Interval: 5 * time.Second}, nil, "[{timer every 5s}]"},
		{"nothing", &idlerConfig{}, nil, "[]"},
		{"what is polled", &idlerConfig{Bell: "dinner"}, func(m *pipeline.Meta) { m.Poll = time.Minute }, "[{timer every 1m0s}]"},
		{"what is hidden", &idlerConfig{Bell: "dinner"}, func(m *pipeline.Meta) { m.Hidden = true }, "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &pipeline.Graph{}
			if c.meta == nil {
				c.meta = func(*pipeline.Meta) {}
			}
			v := g.Add("x", "x", c.cfg, c.meta)
			if err := g.Compile(sinks.Options{}); err != nil {
				t.Fatal(err)
			}
			v.Resource = nil // so that it would panic
			if got := fmt.Sprint(pipeline.Explain(g, v).Watches); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestForeseeLooksAtNothingElse(t *testing.T) {
	dir := t.TempDir()
	g := &pipeline.Graph{}
	touch := func(name string) *file.Config { return &file.Config{Path: filepath.Join(dir, name), State: "exists"} }
	beside := g.Add("broken", "beside", &lockerConfig{})
	first := g.Add("file", "first", touch("sub/"))
	x := g.Add("file", "x", touch("sub/x"))
	last := g.Add("broken", "last", &lockerConfig{})
	g.Connect(first, x, false)
	g.Connect(x, last, false)
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	beside.Resource, last.Resource = nil, nil // so that to plan them would be an error
	if _, err := pipeline.Plan(t.Context(), g, pipeline.PlanOptions{}); err == nil {
		t.Fatal("to plan everything is no error")
	}
	for _, c := range []struct {
		v    *pipeline.Vertex
		want pipeline.StepState
	}{{first, pipeline.StepChange}, {x, pipeline.StepAfter}} {
		s, err := pipeline.Foresee(t.Context(), g, c.v, pipeline.PlanOptions{})
		if err != nil || s.Vertex != c.v || s.State != c.want && s.State != pipeline.StepChange {
			t.Errorf("%v: %v, %v, want %v", c.v, s.State, err, c.want)
		}
	}
}

func TestLookup(t *testing.T) {
	g := &pipeline.Graph{}
	motd := g.Add("file", "/etc/motd", nil)
	g.Add("file", "twice", nil)
	g.Add("exec", "twice", nil)
	odd := g.Add("exec", "a[b]", nil)
	g.Add("file", "@@/etc/shared", nil)
	for _, c := range []struct {
		name string
		ref  string
		want *pipeline.Vertex
		err  string
	}{
		{"by its name", "file[/etc/motd]", motd, ""},
		{"in capitals", "File[/etc/motd]", motd, ""},
		{"by the bare name", "/etc/motd", motd, ""},
		{"with brackets in its name", "exec[a[b]]", odd, ""},
		{"by a bare name with brackets", "a[b]", odd, ""},
		{"by a bare name of two", "twice", nil, "file[twice] and exec[twice] are both called that; name the kind as well"},
		{"misspelt", "file[/etc/mtod]", nil, "there is no resource file[/etc/mtod] in the graph; did you mean file[/etc/motd]?"},
		{"misspelt and bare", "/etc/mtod", nil, "there is no resource /etc/mtod in the graph; did you mean file[/etc/motd]?"},
		{"unlike any", "nspawn[a-container]", nil, "there is no resource nspawn[a-container] in the graph"},
		{"of another host", "file[/etc/shared]", nil, "file[@@/etc/shared] is exported, and not applied on this host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := g.Lookup(c.ref)
			if got != c.want || c.err != "" && (err == nil || err.Error() != c.err) || c.err == "" && err != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// Explain tells what a graph does with a resource, without running it.
func ExampleExplain() {
	g := &pipeline.Graph{}
	conf := g.Add("file", "/etc/app.conf", &file.Config{Content: new("port = 80\n"), Mode: "0644"})
	restart := g.Add("exec", "restart", &exec.Config{Cmd: "app --restart"})
	g.Connect(conf, restart, true)
	if err := g.Compile(sinks.Options{}); err != nil {
		panic(err)
	}
	x := pipeline.Explain(g, conf)
	for _, p := range x.Params {
		if p.Value != nil && p.Value != "" && p.Value != false {
			fmt.Printf("%s: %q\n", p.Name, p.Value)
		}
	}
	for _, w := range x.Watches {
		fmt.Println("watches", strings.Join([]string{w.Source, w.Watch}, " "))
	}
	fmt.Println(x.Before[0].Resource, "comes after it, and is notified:", x.Before[0].Notify)
	// Output:
	// content: "port = 80\n"
	// mode: "0644"
	// watches inotify /etc/app.conf
	// exec[restart] comes after it, and is notified: true
}
