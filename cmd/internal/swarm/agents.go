package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
	"github.com/mgmtproject/mgmt/streams"
)

// figures are what is measured for a number of agents.
type figures struct {
	agents        int
	all, change   time.Duration // until all have everything; until all have a change, the median
	bytes, cpu    float64       // of an agent until all have everything
	changeBytes   float64       // of an agent for a change
	changeCPU     time.Duration // of an agent
	serverCPU     time.Duration // of all servers until all have everything
	serverChange  time.Duration // of all servers for a change
	serverMemory  int64
	processMemory int64
}

const head = `agents  all have all   KiB/agent  CPU/agent    a change   B/agent  CPU/agent   servers' CPU  for a change   largest server  agents' memory`

// String is a line below head.
func (f figures) String() string {
	return fmt.Sprintf("%6d  %12v  %10.1f  %9v  %10v  %8.0f  %9v  %13v  %12v  %11.1f MiB  %10.1f MiB",
		f.agents, f.all.Round(time.Millisecond), f.bytes/1024, time.Duration(f.cpu).Round(10*time.Microsecond),
		f.change.Round(100*time.Microsecond), f.changeBytes, f.changeCPU.Round(time.Microsecond),
		f.serverCPU.Round(time.Millisecond), f.serverChange.Round(100*time.Microsecond),
		float64(f.serverMemory)/(1<<20), float64(f.processMemory)/(1<<20))
}

// agent is a light one.
type agent struct {
	name   string
	graphs chan pipeline.Update // nil if it does not compile
	client *clientv3.Client
	store  *etcd.Store

	have    atomic.Int64 // resources of the newest graph
	version atomic.Int64 // of what is changed, in the newest graph
}

// measure runs n agents against fresh servers.
func measure(ctx context.Context, s settings, n int) (f figures, err error) {
	dir, err := os.MkdirTemp("", "mgmt-swarm-")
	if err != nil {
		return f, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	servers, err := start(ctx, dir, s.servers)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, servers.stop()) }()
	return run(ctx, s, n, servers)
}

func run(ctx context.Context, s settings, n int, servers *voters) (f figures, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var t traffic
	news := make(chan struct{}, 1)
	agents := make([]*agent, n)
	if err := settle(ctx, servers.endpoints); err != nil {
		return f, err
	}
	began, cpuBefore := time.Now(), ownCPU()
	serversBefore, _, err := servers.cpu()
	if err != nil {
		return f, err
	}
	failed := make(chan error, 2*n)
	for i := range agents {
		a := &agent{name: fmt.Sprintf("agent%05d", i)}
		agents[i] = a
		cfg := etcd.Config(rotated(servers.endpoints, i), nil)
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithContextDialer(t.dial))
		if a.client, err = clientv3.New(cfg); err != nil {
			return f, err
		}
		a.store = etcd.New(a.client, a.name, etcd.Options{})
		if s.compile {
			a.graphs = make(chan pipeline.Update, 1)
			wg.Go(func() { failed <- a.run(ctx, news) })
		} else {
			wg.Go(func() { failed <- a.watch(ctx, news) })
		}
		wg.Go(func() {
			if err := a.load(ctx, s.exports, 0); err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}
	want := int64((n - 1) * s.exports) // its own ones an agent has from its graph file
	if err := until(ctx, news, failed, func() bool {
		return !slices.ContainsFunc(agents, func(a *agent) bool { return a.have.Load() < want })
	}); err != nil {
		return f, err
	}
	f = figures{agents: n, all: time.Since(began), bytes: float64(t.total()) / float64(n), cpu: float64(ownCPU()-cpuBefore) / float64(n)}
	serversNow, _, err := servers.cpu()
	if err != nil {
		return f, err
	}
	f.serverCPU = serversNow - serversBefore
	if err := change(ctx, s, &f, agents, servers, &t, news, failed); err != nil {
		return f, err
	}
	_, f.processMemory, err = usage(os.Getpid())
	return f, err
}

// change lets one agent change one export, some times over.
func change(ctx context.Context, s settings, f *figures, agents []*agent, servers *voters, t *traffic, news chan struct{}, failed chan error) error {
	bytes, cpu := t.total(), ownCPU()
	serversBefore, _, err := servers.cpu()
	if err != nil {
		return err
	}
	var took []time.Duration
	for version := range int64(s.changes) {
		began := time.Now()
		if err := agents[0].load(ctx, s.exports, version+1); err != nil {
			return err
		}
		if err := until(ctx, news, failed, func() bool {
			return !slices.ContainsFunc(agents[1:], func(a *agent) bool { return a.version.Load() <= version })
		}); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	each := float64(s.changes * len(agents))
	serversNow, memory, err := servers.cpu()
	f.change = took[len(took)/2]
	f.changeBytes = float64(t.total()-bytes) / each
	f.changeCPU = time.Duration(float64(ownCPU()-cpu) / each)
	f.serverChange = (serversNow - serversBefore) / time.Duration(s.changes)
	f.serverMemory = memory
	return err
}

// until waits for a condition, which is looked at whenever there is news.
func until(ctx context.Context, news <-chan struct{}, failed <-chan error, met func() bool) error {
	for !met() {
		select {
		case <-news:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// settle waits until the servers have a leader.
func settle(ctx context.Context, endpoints []string) error {
	client, err := clientv3.New(etcd.Config(endpoints, nil))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if _, err = client.Get(ctx, mesh.IDKey); err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func rotated(list []string, by int) []string {
	by %= len(list)
	return slices.Concat(list[by:], list[:by])
}

// run exchanges until ctx is done.
func (a *agent) run(ctx context.Context, news chan<- struct{}) error {
	defer func() { _ = a.client.Close() }()
	reg, err := sinks.NewRegistry(file.Spec)
	if err != nil {
		return err
	}
	x := pipeline.NewExchange(pipeline.ExchangeOptions{
		Host:  a.name,
		Store: func() mesh.Store { return a.store },
		Kinds: reg,
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	err = x.Graphs(streams.FromChan(a.graphs)).Subscribe(ctx, func(u pipeline.Update) bool {
		if u.Graph != nil {
			a.have.Store(int64(len(u.Graph.Vertices)))
			for _, v := range u.Graph.Vertices {
				if v.Name == changing {
					a.version.Store(versionOf(v.Config))
				}
			}
			select {
			case news <- struct{}{}:
			default:
			}
		}
		return true
	})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", a.name, err)
}

// changing is the resource that is changed, of the first agent.
const changing = "/swarm/agent00000-0"

// graph is what an agent runs: some exports, all of which it collects.
func (a *agent) graph(exports int, version int64) (*pipeline.Graph, error) {
	g := &pipeline.Graph{Name: "swarm", Collect: []pipeline.Collect{{Kind: "file", Pattern: "/collected/" + a.name}}}
	for i := range exports {
		cfg := file.Spec.New().(*file.Config)
		text := fmt.Sprintf("%d: some words about a host, such as a line of its configuration", version)
		cfg.Content = &text
		g.Add("file", fmt.Sprintf("@@/swarm/%s-%d", a.name, i), cfg)
	}
	return g, g.Compile(sinks.Options{})
}

// load makes a version of what the agent exports its newest.
func (a *agent) load(ctx context.Context, exports int, version int64) error {
	if a.graphs == nil {
		return a.write(ctx, exports, version)
	}
	g, err := a.graph(exports, version)
	if err == nil {
		a.graphs <- pipeline.Update{Graph: g}
	}
	return err
}

func versionOf(cfg sinks.Config) (version int64) {
	if c := cfg.(*file.Config); c.Content != nil {
		_, _ = fmt.Sscan(*c.Content, &version)
	}
	return version
}
