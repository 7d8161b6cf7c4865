package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	allsinks "github.com/mgmtproject/mgmt/sinks/all"
	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
	"github.com/mgmtproject/mgmt/streams"
)

// faultySpec is a kind with a fault.
var faultySpec = sinks.Spec{Kind: "faulty", New: func() sinks.Config { return &faultyConfig{} }}

type faultyConfig struct{}

func (*faultyConfig) Build(string, sinks.Options) (sinks.Resource, error) { panic("a fault") }

// inTime is how long a test waits for what should happen at once.
const inTime = 20 * time.Second

// party is a host that takes part in an exchange, without a machine.
type party struct {
	t       testing.TB
	host    string
	options pipeline.ExchangeOptions
	store   mesh.Store
	opened  int // how often the store was asked for

	in     chan pipeline.Update
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	news   chan struct{} // closed at each update
	got    []pipeline.Update
	newest *pipeline.Graph
	log    bytes.Buffer
}

// join lets a host take part until the test ends. A nil store is one that nobody may open.
func join(t testing.TB, store mesh.Store, host string, change ...func(*pipeline.ExchangeOptions)) *party {
	t.Helper()
	kinds, err := sinks.NewRegistry(append(slices.Clone(allsinks.Specs), stepSpec, faultySpec)...)
	if err != nil {
		t.Fatal(err)
	}
	p := &party{t: t, host: host, store: store, in: make(chan pipeline.Update), news: make(chan struct{})}
	p.options = pipeline.ExchangeOptions{
		Host: host, Kinds: kinds, Log: slog.New(slog.NewTextHandler(lockedWriter{p}, nil)),
		Store: func() mesh.Store {
			if p.opened++; store == nil {
				t.Error("the store was opened")
			}
			return store
		},
	}
	for _, f := range change {
		f(&p.options)
	}
	p.start()
	t.Cleanup(p.stop)
	return p
}

type lockedWriter struct{ p *party }

func (w lockedWriter) Write(text []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.log.Write(text)
}

func (p *party) start() {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan error, 1)
	x := pipeline.NewExchange(p.options)
	go func() {
		p.done <- x.Graphs(streams.FromChan(p.in)).Subscribe(ctx, func(u pipeline.Update) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.got = append(p.got, u)
			if u.Graph != nil {
				p.newest = u.Graph
			}
			close(p.news)
			p.news = make(chan struct{})
			return true
		})
	}()
}

func (p *party) stop() {
	if p.cancel == nil {
		return
	}
	p.cancel()
	p.cancel = nil
	if err := <-p.done; err != nil && !errors.Is(err, context.Canceled) {
		p.t.Errorf("exchange of %s: %v", p.host, err)
	}
}

// load gives the host a new version of its graph.
func (p *party) load(text string) {
	p.t.Helper()
	g, err := pipeline.Load(p.host+".yaml", []byte(text), p.options.Kinds)
	if err == nil {
		err = g.Compile(sinks.Options{Dir: "/nowhere"})
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.in <- pipeline.Update{Graph: g}
}

// waitFor waits for something that an update or a line of the log may bring.
func (p *party) waitFor(what string, ok func() bool) {
	p.t.Helper()
	deadline := time.After(inTime)
	for {
		p.mu.Lock()
		news, fine := p.news, ok()
		p.mu.Unlock()
		if fine {
			return
		}
		select {
		case <-news:
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("%s has not come about at %s; the graph is\n%slog:\n%s", what, p.host, contents(p.newest), p.log.String())
		}
	}
}

// has waits until the graph of the host has just these resources, as contents shows them.
func (p *party) has(want ...string) {
	p.t.Helper()
	slices.Sort(want)
	p.waitFor("this graph: "+strings.Join(want, "; "), func() bool {
		return p.newest != nil && contents(p.newest) == strings.Join(append(slices.Clone(want), ""), "\n")
	})
}

// says waits for a line of the log.
func (p *party) says(parts ...string) {
	p.t.Helper()
	p.waitFor("the log with "+strings.Join(parts, ", "), func() bool {
		return slices.ContainsFunc(strings.Split(p.log.String(), "\n"), func(line string) bool {
			return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) })
		})
	})
}

// contents shows the resources of a graph in alphabetical order: "file[x] /path content".
func contents(g *pipeline.Graph) string {
	if g == nil {
		return ""
	}
	var lines []string
	for _, v := range g.Vertices {
		line := v.String()
		for _, param := range []string{"path", "content", "comment", "in"} {
			if value, ok := params.Get(v.Config, param); ok && value != nil && value != "" {
				line += fmt.Sprintf(" %v", value)
			}
		}
		if v.Host != "" {
			line += " of " + v.Host
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(append(lines, ""), "\n")
}

// noLeaks looks for goroutines that a test has left, when all its hosts have stopped.
func noLeaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

const collectAll = "collect: [{kind: file, pattern: /tmp/%[1]s/}]\n"

// exchanging is a graph with two files that are exported, and collects all.
func exchanging(host string) string {
	return fmt.Sprintf(`graph: g
resources:
  file:
  - {name: own%[1]s, path: /tmp/%[1]s/own, content: own}
  - {name: "@@f%[1]s", path: /tmp/%[1]s/f%[1]s, content: from %[1]s}
`+collectAll, host)
}

func TestHostsCollectWhatTheyExport(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	var hosts []*party
	for _, name := range []string{"a", "b", "c"} {
		p := join(t, node.Store(t, name), name)
		p.load(exchanging(name))
		hosts = append(hosts, p)
	}
	for _, p := range hosts {
		h := p.host
		want := []string{fmt.Sprintf("file[own%s] /tmp/%s/own own", h, h)}
		for _, from := range []string{"a", "b", "c"} {
			line := fmt.Sprintf("file[f%s] /tmp/%s/f%s from %s", from, h, from, from)
			if from != h {
				line += " of " + from
			}
			want = append(want, line)
		}
		p.has(want...)
	}

	t.Log("a change, and what is withdrawn")
	hosts[0].load(strings.Replace(exchanging("a"), "from a", "news", 1))
	hosts[1].has("file[ownb] /tmp/b/own own", "file[fb] /tmp/b/fb from b", "file[fa] /tmp/b/fa news of a", "file[fc] /tmp/b/fc from c of c")
	hosts[0].load("graph: g\n")
	hosts[1].has("file[ownb] /tmp/b/own own", "file[fb] /tmp/b/fb from b", "file[fc] /tmp/b/fc from c of c")
	hosts[0].has()

	t.Log("a host that is gone")
	hosts[2].stop()
	hosts[1].load(strings.Replace(exchanging("b"), "/tmp/b/}", "/srv}", 1))
	hosts[1].has("file[ownb] /tmp/b/own own", "file[fb] /srv/fb from b", "file[fc] /srv/fc from c of c")
}

func TestNothingIsSharedUnasked(t *testing.T) {
	noLeaks(t)
	p := join(t, nil, "a")
	p.load("graph: g\nresources: {file: [{name: /a}]}\n")
	p.has("file[/a]")
	p.in <- pipeline.Update{Err: errors.New("bad")}
	p.in <- pipeline.Update{Ask: 7}
	close(p.in)
	if err := <-p.done; err != nil {
		t.Error(err)
	}
	p.cancel = nil
	var got []string
	for _, u := range p.got {
		got = append(got, fmt.Sprint(u.Graph != nil, u.Err, u.Ask))
	}
	if diff := gocmp.Diff([]string{"true <nil> 0", "false bad 0", "false <nil> 7"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNotCollected(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	a := join(t, node.Store(t, "a"), "a")
	b := join(t, node.Store(t, "b"), "b")
	c := join(t, node.Store(t, "c"), "c")
	raw := node.Store(t, "z")

	put := func(host, kind, name, value string) {
		t.Helper()
		if _, err := raw.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put(mesh.ExportKey(host, kind, name), []byte(value))}}); err != nil {
			t.Fatal(err)
		}
	}
	put("z", "file", "junk", "no JSON")
	put("z", "file", "newer", `{"v": 2}`)
	put("z", "file", "param", `{"v": 1, "params": "flavour: sweet\n"}`)
	put("z", "file", "meta", `{"v": 1, "meta": "shiny: true\n"}`)
	put("z", "file", "value", `{"v": 1, "params": "mode: nonsense\npath: /z\n"}`)
	put("z", "file", "range", `{"v": 1, "meta": "retry: -7\n"}`)
	put("z", "faulty", "x", `{"v": 1}`)
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\\n"
	for c := 'b'; c < 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 10), ", "))
	}
	put("z", "file", "bomb", `{"v": 1, "params": "`+bomb+`"}`)
	put("z", "teapot", "kind", `{"v": 1}`)
	put("z", "exec", "true", `{"v": 1, "meta": "reverse: true\n"}`)
	put("z", "noop", "good", `{"v": 1, "params": "comment: good\n"}`)
	put("z", "file", "others", `{"v": 1, "hosts": ["c"], "params": "flavour: sweet\n"}`)

	b.load("graph: g\nresources: {noop: [{name: '@@twice', comment: b}, {name: '@@mine', comment: b}], file: [{name: '@@/both', content: b}, {name: '@@/mine', content: b}]}\n")
	c.load("graph: g\nresources: {noop: [{name: '@@twice', comment: c}], file: [{name: '@@other', path: /both, content: c}, {name: '@@alone', path: /alone}]}\n")
	a.load(`
graph: g
resources:
  noop: [{name: mine, comment: a}]
  file: [{name: own, path: /mine}]
collect: [{kind: noop}, {kind: file}, {kind: exec}, {kind: faulty}]
`)
	want := []string{"noop[mine] a", "file[own] /mine", "noop[good] good of z", "noop[twice] b of b", "file[/both] b of b", "file[alone] /alone of c"}
	a.has(want...)
	for res, why := range map[string]string{
		"file[junk] host=z":  "what was published is no resource",
		"file[newer] host=z": "published in form 2, and this version of mgmt knows form 1",
		"file[param] host=z": `doesn't know its parameter \"flavour\"`,
		"file[meta] host=z":  `doesn't know its meta-parameter \"shiny\"`,
		"file[value] host=z": "error=\"mode: ",
		"file[range] host=z": "retry: -7 is too small",
		"exec[true] host=z":  "can't be reversed",
		"faulty[x] host=z":   "internal error: a fault",
		"file[bomb] host=z":  "far more values than it has",
		"noop[mine] host=b":  "the graph of this host has a resource of this name",
		"noop[twice] host=c": "the host b exports one of the same name",
		"file[/mine] host=b": "file[own] of this host's graph manages the path /mine",
		"file[other] host=c": "file[/both] of the host b manages the path /both",
	} {
		a.says("not collected", "res="+res, why)
	}
	for _, silent := range []string{"teapot", "others"} { // nobody asks for them
		if strings.Contains(a.log.String(), silent) {
			t.Errorf("the log speaks of %s", silent)
		}
	}

	t.Log("what is good stays when it becomes bad, and all is well when it is good again")
	put("z", "noop", "good", `{"v": 1, "params": "flavour: sweet\n"}`)
	a.says("noop[good]", "flavour")
	put("z", "file", "value", `{"v": 1, "params": "mode: \"0600\"\npath: /z\n"}`)
	a.has(append(want, "file[value] /z of z")...)
	b.load("graph: g\n")
	a.has("noop[mine] a", "file[own] /mine", "noop[good] good of z", "noop[twice] c of c", "file[other] /both c of c", "file[alone] /alone of c", "file[value] /z of z")
}

func TestExportsForSomeHosts(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	text := `
graph: g
resources:
  noop:
  - {name: "@@all", comment: "1"}
  - {name: "@@forb", comment: "2", meta: {export: [b], retry: 3}}
  - {name: "@@forac", comment: "3", meta: {export: [c, a]}}
  - {name: here, comment: "4", meta: {export: ["*"]}}
  - {name: plain, comment: "5"}
edges: ["noop[plain] -> noop[forb]", "noop[forb] -> noop[here]", "noop[plain] -> noop[here]"]
collect: [{kind: noop}]
`
	a := join(t, node.Store(t, "a"), "a")
	a.load(text)
	a.has("noop[all] 1", "noop[forac] 3", "noop[here] 4", "noop[plain] 5")
	if got := len(a.newest.Edges); got != 1 {
		t.Errorf("%d edges are left, want 1", got)
	}
	for host, want := range map[string][]string{
		"b": {"noop[all] 1 of a", "noop[forb] 2 of a", "noop[here] 4 of a"},
		"c": {"noop[all] 1 of a", "noop[forac] 3 of a", "noop[here] 4 of a"},
	} {
		p := join(t, node.Store(t, host), host)
		p.load("graph: g\ncollect: [{kind: noop}]\n")
		p.has(want...)
		for _, v := range p.newest.Vertices {
			if v.Name == "forb" && v.Meta.Retry != 3 || v.Meta.Export != nil {
				t.Errorf("%v on %s has the meta-parameters %+v", v, host, v.Meta)
			}
		}
	}
}

func TestLiveHosts(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	a := join(t, node.Store(t, "a"), "a")
	a.load("graph: g\nresources: {noop: [{name: '@@x'}]}\n")
	b := join(t, node.Store(t, "b"), "b")
	b.load("graph: g\ncollect: [{kind: noop, live: true, grace: 300ms}]\n")
	b.has()
	die := node.Orphan(t, mesh.AlivePrefix+"a", []byte("{}"))
	b.has("noop[x] of a")
	gone := time.Now()
	die()
	b.has()
	if took := time.Since(gone); took < 300*time.Millisecond {
		t.Errorf("it was let go after %v", took)
	}
	die = node.Orphan(t, mesh.AlivePrefix+"a", []byte("{}"))
	b.has("noop[x] of a")
	b.load("graph: g\ncollect: [{kind: noop}]\n")
	die()
	time.Sleep(400 * time.Millisecond) // longer than it had counted
	b.has("noop[x] of a")
}

// hasty is a store that gives up soon.
type hasty struct{ *meshtest.Store }

func (h hasty) Write(ctx context.Context, t mesh.Txn) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	return h.Store.Write(ctx, t)
}

func TestAPartitionKeepsWhatWasCollected(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	dir := t.TempDir()
	keep := func(o *pipeline.ExchangeOptions) { o.Dir = dir + "/exchange" }
	a := join(t, hasty{node.Store(t, "a")}, "a")
	a.load("graph: g\nresources: {noop: [{name: '@@x', comment: '1'}, {name: '@@y', comment: hush, meta: {secret: true, export: [b]}}]}\n")
	b := join(t, node.Store(t, "b"), "b", keep)
	knownAs(t, b.store, "b")
	b.load("graph: g\nresources: {noop: [{name: '@@z'}]}\ncollect: [{kind: noop}]\n")
	b.has("noop[x] 1 of a", "noop[y] hush of a", "noop[z]")

	node.Stop()
	b.load("graph: g\nresources: {noop: [{name: own}]}\ncollect: [{kind: noop}]\n")
	b.has("noop[x] 1 of a", "noop[y] hush of a", "noop[own]")
	b.stop()
	kept, err := os.ReadFile(dir + "/exchange/exchange.json")
	if err != nil || bytes.Contains(kept, []byte("hush")) {
		t.Errorf("what is kept shows the secret: %s, %v", kept, err)
	}
	known, err := pipeline.NewExchange(b.options).Known(b.update("graph: g\nresources: {noop: [{name: plan}]}\ncollect: [{kind: noop}]\n").Graph)
	if want := "noop[plan]\nnoop[x] 1 of a\n"; err != nil || contents(known) != want {
		t.Errorf("a plan knows %v, %v; want %s", contents(known), err, want)
	}
	before := len(b.got)
	b.newest = nil
	b.start()
	b.load("graph: g\nresources: {noop: [{name: again}]}\ncollect: [{kind: noop}]\n")
	b.has("noop[x] 1 of a", "noop[y] hush of a", "noop[again]")
	if got := contents(b.got[before].Graph); !strings.Contains(got, "noop[x] 1 of a") {
		t.Errorf("the first graph lacks what was collected:\n%s", got)
	}
	a.load("graph: g\nresources: {noop: [{name: '@@x', comment: '2'}]}\n")
	a.says(`msg="not published"`, "the mesh can't be reached")
	if err := node.Restart(); err != nil {
		t.Fatal(err)
	}
	b.has("noop[x] 2 of a", "noop[again]")
	a.says("published again")
	list, err := node.Store(t, "c").List(t.Context(), mesh.ExportPrefix)
	if err != nil || len(list.Entries) != 1 {
		t.Errorf("the mesh has %v, %v; want the one export that is left", list, err)
	}
}

func TestExportsOfAnEarlierRunAreWithdrawn(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	dir := t.TempDir()
	store := node.Store(t, "a")
	a := join(t, store, "a", func(o *pipeline.ExchangeOptions) { o.Dir = dir })
	a.load("graph: g\nresources: {noop: [{name: '@@x'}, {name: '@@y'}]}\n")
	holds := func(want int) {
		t.Helper()
		a.waitFor(fmt.Sprintf("%d exports", want), func() bool {
			list, err := store.List(t.Context(), mesh.ExportPrefix)
			return err == nil && len(list.Entries) == want
		})
	}
	holds(2)
	a.stop()
	a.start()
	a.load("graph: g\n")
	holds(0)
	a.stop()
	a.start()
	asked := a.opened
	a.load("graph: g\n")
	a.has()
	if a.opened != asked {
		t.Error("the store is asked for although everything was withdrawn")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("something is kept although there is nothing to keep: %v, %v", left, err)
	}

	t.Log("what somebody else takes away is published again")
	a.load("graph: g\nresources: {noop: [{name: '@@x'}]}\n")
	holds(1)
	if _, err := node.Store(t, "b").Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Delete(mesh.ExportKey("a", "noop", "x"))}}); err != nil {
		t.Fatal(err)
	}
	a.says("somebody else has changed what this host exports")
	holds(1)
}

func TestOnlyWhatChangesIsPublished(t *testing.T) {
	noLeaks(t)
	const many = 3 * mesh.MaxOps
	store := meshtest.New(t, "a")
	a := join(t, store, "a")
	revisions := func(changed int64) map[int64]int {
		t.Helper()
		counts := map[int64]int{}
		a.waitFor("what is published", func() bool {
			list, err := store.List(t.Context(), mesh.ExportPrefix)
			clear(counts)
			for _, e := range list.Entries {
				counts[e.Revision]++
			}
			return err == nil && len(list.Entries) == many && counts[changed] == 1 || changed == 0
		})
		return counts
	}
	a.load(manyExports(many, "first"))
	a.waitFor("all exports", func() bool {
		list, err := store.List(t.Context(), mesh.ExportPrefix)
		return err == nil && len(list.Entries) == many
	})
	before := revisions(0)
	if len(before) != many/mesh.MaxOps {
		t.Errorf("%d exports were written in %d transactions", many, len(before))
	}
	last := slices.Max(slices.Collect(maps.Keys(before)))
	a.load(manyExports(many, "second"))
	after := revisions(last + 1)
	if len(after) != len(before)+1 {
		t.Errorf("revisions %v became %v", before, after)
	}
}

func TestNoopPublishesNothing(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	a := join(t, nil, "a", func(o *pipeline.ExchangeOptions) { o.Noop = true })
	a.load("graph: g\nresources: {noop: [{name: '@@x'}]}\n")
	a.has()
	store := node.Store(t, "b")
	b := join(t, store, "b", func(o *pipeline.ExchangeOptions) { o.Noop = true })
	b.load("graph: g\nresources: {noop: [{name: '@@x'}]}\ncollect: [{kind: noop}]\n")
	c := join(t, node.Store(t, "c"), "c")
	c.load("graph: g\nresources: {noop: [{name: '@@y'}]}\n")
	b.has("noop[x]", "noop[y] of c")
	list, err := store.List(t.Context(), mesh.ExportPrefix)
	if err != nil || len(list.Entries) != 1 {
		t.Errorf("the mesh has %v, %v; want what c exports", list, err)
	}
}

// knownAs writes what a host leaves for others to know of it.
func knownAs(t *testing.T, store mesh.Store, host string) {
	t.Helper()
	if _, err := store.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put(mesh.HostPrefix+host, []byte("{}"))}}); err != nil {
		t.Fatal(err)
	}
}

func TestSecretsAreSealed(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	stores := map[string]*meshtest.Store{}
	for _, host := range []string{"a", "b", "d"} {
		stores[host] = node.Store(t, host)
		knownAs(t, stores[host], host)
	}
	text := `
graph: g
resources:
  noop:
  - {name: "@@x", comment: hush, meta: {secret: true, export: [b, c]}}
  - {name: "@@y", comment: open, meta: {export: [b, c]}}
`
	a := join(t, stores["a"], "a")
	a.load(text)
	collect := "graph: g\ncollect: [{kind: noop}]\n"
	b := join(t, stores["b"], "b")
	b.load(collect)
	b.has("noop[x] hush of a", "noop[y] open of a")
	for _, v := range b.newest.Vertices {
		if v.Meta.Secret != (v.Name == "x") {
			t.Errorf("%v is secret: %v", v, v.Meta.Secret)
		}
	}
	for _, v := range b.newest.Vertices {
		x := pipeline.Explain(b.newest, v)
		if x.Host != "a" || x.File != "" {
			t.Errorf("%v is said to be of the file %q and the host %q", v, x.File, x.Host)
		}
		if shown := fmt.Sprint(x.Params); strings.Contains(shown, "hush") || v.Name == "y" && !strings.Contains(shown, "open") {
			t.Errorf("%v is explained as %s", v, shown)
		}
	}
	d := join(t, stores["d"], "d")
	d.load(collect)
	d.has()
	a.says("not published for all hosts", "noop[@@x]", "hosts=c")

	stores["c"] = node.Store(t, "c")
	c := join(t, stores["c"], "c")
	c.load(collect)
	c.says("not collected", "noop[x]", "not sealed for this host yet")
	c.has("noop[y] open of a")
	knownAs(t, stores["a"], "c")
	c.has("noop[x] hush of a", "noop[y] open of a")

	revisions := func() string {
		t.Helper()
		list, err := stores["a"].List(t.Context(), mesh.ExportPrefix)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, e := range list.Entries {
			if bytes.Contains(e.Value, []byte("hush")) {
				t.Errorf("%s shows the secret: %s", e.Key, e.Value)
			}
			fmt.Fprintln(&b, e.Key, e.Revision)
		}
		return b.String()
	}
	before := revisions()
	a.stop()
	a.start()
	a.load(text)
	a.load(text + "  - {name: '@@z'}\n")
	b.has("noop[x] hush of a", "noop[y] open of a", "noop[z] of a")
	if after := revisions(); !strings.HasPrefix(after, before) {
		t.Errorf("what was the same was sealed anew: %s then %s", before, after)
	}

	t.Log("somebody passes off a copy as an export of his own")
	entry, _, err := stores["a"].Get(t.Context(), mesh.ExportKey("a", "noop", "x"))
	if err == nil {
		_, err = stores["d"].Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put(mesh.ExportKey("0", "noop", "x"), entry.Value)}})
	}
	if err != nil {
		t.Fatal(err)
	}
	b.says("not collected", "noop[x]", "which was not exported here")
	b.has("noop[x] hush of a", "noop[y] open of a", "noop[z] of a")

	t.Log("another key of a host")
	knownAs(t, stores["a"], "b")
	a.waitFor("another seal", func() bool { return !strings.HasPrefix(revisions(), before) })

	t.Log("what was public is hidden at once")
	a.load(strings.ReplaceAll(text, "open, meta: {", "hush, meta: {secret: true, "))
	b.has("noop[x] hush of a", "noop[y] hush of a")
	revisions()
}

func TestSecretsAreNotForAll(t *testing.T) {
	reg := join(t, nil, "a").options.Kinds
	for _, test := range []struct{ name, text, want string }{
		{"a secret resource for all", "graph: g\nresources: {noop: [{name: '@@x', meta: {secret: true}}]}\n",
			`g:2:20: noop[@@x] holds something secret, and would be published for all hosts; name the hosts in meta.export`},
		{"a secret resource for all, in so many words", "graph: g\nresources: {noop: [{name: x, meta: {secret: true, export: [b, '*']}}]}\n",
			`g:2:20: noop[x] holds something secret, and would be published for all hosts; name the hosts in meta.export`},
		{"a secret that is received", "graph: g\nresources: {password: [{name: p}], file: [{name: '@@/x', content: {from: password[p]}}]}\n",
			`g:2:43: file[@@/x] holds something secret, and would be published for all hosts; name the hosts in meta.export`},
		{"a secret that is sent on", "graph: g\nresources: {step: [{name: p, in: hush, meta: {secret: true}}, {name: '@@q', in: {from: 'step[p]'}}]}\n",
			`g:2:63: step[@@q] holds something secret, and would be published for all hosts; name the hosts in meta.export`},
		{"a secret that is received, for one host", "graph: g\nresources: {password: [{name: p}], file: [{name: '@@/x', content: {from: password[p]}, meta: {export: [b]}}]}\n", ""},
		{"a secret that is not exported", "graph: g\nresources: {noop: [{name: x, meta: {secret: true}}]}\n", ""},
		{"an output that there is not", "graph: g\nresources: {step: [{name: p}, {name: '@@q', in: {from: 'step[p]', output: oot}}]}\n",
			`g:2:75: step[p] has no output "oot"; did you mean "out"?`},
		{"an output of the wrong type", "graph: g\nresources: {step: [{name: p}, {name: '@@q', takes: {from: 'step[p]'}}]}\n",
			`g:2:52: step[p] sends out, a string, but takes of step[@@q] is a duration`},
		{"one name twice", "graph: g\nresources: {noop: [{name: '@@x'}, {name: x, meta: {export: [b]}}]}\n",
			`g:2:35: noop[x] is exported, and so is noop[@@x]; give one of them another name, or remove meta.export`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			g, err := pipeline.Load("g", []byte(test.text), reg)
			if err == nil {
				err = g.Compile(sinks.Options{Dir: "/nowhere"})
			}
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// An exported resource that receives values is published when they are there, and again
// when they change.
func TestExportsReceive(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	knownAs(t, node.Store(t, "b"), "b")
	a := partyOf(t, node.Store(t, "a"), "a")
	ctx, cancel := context.WithCancel(t.Context())
	bells := newBelfry()
	run := runParty(ctx, a, pipeline.Options{Kinds: a.options.Kinds, Sources: []sources.Source{bells}})
	run.in <- a.update(`
graph: g
resources:
  step:
  - {name: open, watch: bell, outcomes: [change, change], values: ["1", "2"]}
  - {name: shut, hidden: true, values: [hush]}
  - {name: never, values: ["-"]}
  - {name: "@@x", in: {from: 'step[open]'}}
  - {name: "@@y", in: {from: 'step[shut]'}, meta: {export: [b]}}
  - {name: "@@z", in: {from: 'step[never]'}}
  - {name: here, in: {from: 'step[open]'}, meta: {export: [b]}}
`)
	store := node.Store(t, "b")
	b := join(t, store, "b")
	b.load("graph: g\ncollect: [{kind: step}]\n")
	b.has("step[x] 1 of a", "step[y] hush of a", "step[here] 1 of a")
	bells.rings <- sources.Event{Source: "bells", Watch: bell("bell")}
	b.has("step[x] 2 of a", "step[y] hush of a", "step[here] 2 of a")
	list, err := store.List(t.Context(), mesh.ExportPrefix)
	if err != nil || len(list.Entries) != 3 {
		t.Errorf("the mesh has %v, %v; want three", list, err)
	}
	for _, e := range list.Entries {
		if bytes.Contains(e.Value, []byte("hush")) {
			t.Errorf("%s shows the secret: %s", e.Key, e.Value)
		}
	}
	cancel()
	if err := run.wait(t); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// sharedModel says what the hosts of a mesh come to: what each exports, by name.
type sharedModel map[string]map[string]sharedExport

type sharedExport struct {
	comment string
	hosts   []string
}

func (e sharedExport) reaches(host string) bool {
	return e.hosts == nil || slices.Contains(e.hosts, host)
}

// graph is the graph of a host, which collects all.
func (m sharedModel) graph(host string) string {
	var b strings.Builder
	b.WriteString("graph: g\ncollect: [{kind: noop}]\nresources:\n  noop:\n")
	for _, name := range slices.Sorted(maps.Keys(m[host])) {
		e := m[host][name]
		fmt.Fprintf(&b, "  - {name: \"@@%s\", comment: %q, meta: {export: [%s]}}\n", name, e.comment, strings.Join(e.hosts, ", "))
	}
	return b.String()
}

// want is what the graph of a host comes to.
func (m sharedModel) want(host string) []string {
	var list []string
	taken := map[string]bool{}
	for _, from := range append([]string{host}, slices.Sorted(maps.Keys(m))...) {
		for name, e := range m[from] {
			if taken[name] || !e.reaches(host) {
				continue
			}
			taken[name] = true
			line := fmt.Sprintf("noop[%s] %s", name, e.comment)
			if from != host {
				line += " of " + from
			}
			list = append(list, line)
		}
	}
	return list
}

// TestRandomExchanges changes graphs, restarts agents, takes away keys and the whole mesh,
// and compares what everybody comes to with a simple model.
func TestRandomExchanges(t *testing.T) {
	noLeaks(t)
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			node := meshtest.Start(t)
			client := node.Client(t)
			hosts := []string{"a", "b", "c"}
			model, parties := sharedModel{}, map[string]*party{}
			for _, host := range hosts {
				dir := t.TempDir()
				parties[host] = join(t, node.Store(t, host), host, func(o *pipeline.ExchangeOptions) { o.Dir = dir })
			}
			change := func(host string) {
				exports := map[string]sharedExport{}
				for range random.IntN(5) {
					e := sharedExport{comment: fmt.Sprint("v", random.IntN(3))}
					if random.IntN(3) == 0 {
						e.hosts = hosts[random.IntN(3):]
					}
					exports[fmt.Sprint("x", random.IntN(6))] = e
				}
				model[host] = exports
				parties[host].load(model.graph(host))
			}
			for _, host := range hosts {
				change(host)
			}
			outage := 10 + random.IntN(20)
			for step := range 40 {
				p := parties[hosts[random.IntN(3)]]
				switch action := random.IntN(10); {
				case step == outage:
					node.Stop()
				case step == outage+5:
					if err := node.Restart(); err != nil {
						t.Fatal(err)
					}
				case action == 0:
					p.stop()
					p.start()
					p.load(model.graph(p.host))
				case action == 1 && (step < outage || step > outage+5):
					if _, err := client.Delete(t.Context(), mesh.ExportKey(p.host, "noop", "x0")); err != nil {
						t.Fatal(err)
					}
				case action == 2 && (step < outage || step > outage+5):
					now, err := client.Get(t.Context(), "x")
					if err == nil {
						_, err = client.Compact(t.Context(), now.Header.Revision)
					}
					if err != nil && !strings.Contains(err.Error(), "has been compacted") {
						t.Fatal(err)
					}
				default:
					change(p.host)
				}
			}
			for _, host := range hosts {
				parties[host].has(model.want(host)...)
			}
		})
	}
}

// What changes faster than it can be written comes to the newest, without anybody being
// blamed for it.
func TestManyChangesInARow(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	a, b := join(t, node.Store(t, "a"), "a"), join(t, node.Store(t, "b"), "b")
	b.load("graph: g\ncollect: [{kind: noop}]\n")
	const last = 200
	for i := range last + 1 {
		a.load(fmt.Sprintf("graph: g\nresources: {noop: [{name: '@@x', comment: 'v%d'}]}\n", i))
	}
	b.has(fmt.Sprintf("noop[x] v%d of a", last))
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.log.Len() > 0 {
		t.Errorf("the log says %s", a.log.String())
	}
}
