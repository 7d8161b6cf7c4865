package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
	"github.com/mgmtproject/mgmt/streams"
)

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
	kinds, err := sinks.NewRegistry(append(slices.Clone(allsinks.Specs), stepSpec)...)
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
