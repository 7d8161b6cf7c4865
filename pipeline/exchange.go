package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

// ExchangeOptions say with whom an Exchange exchanges.
type ExchangeOptions struct {
	// Host is the name of this host in the mesh. It is known without a mesh.
	Host string

	// Store returns the mesh. It is called once, when a graph first exports or collects
	// something, and not at all if none does. What it returns should be a mesh.Vault, too:
	// otherwise nothing that is secret is exchanged.
	Store func() mesh.Store

	// Kinds are those that may be collected.
	Kinds *sinks.Registry

	// Dir is the directory in which is kept what was collected, so that a restart without the
	// mesh does not lose it; it may not exist yet. With an empty one nothing is kept.
	Dir string

	// Noop publishes nothing.
	Noop bool

	// Together lets Results complete when all hosts of the mesh that run with it have
	// converged, at the same time. The mesh is used then in any case.
	Together bool

	// Log is where is told what was not exchanged, and why; nil discards.
	Log *slog.Logger
}

// Exchange exchanges resources with the other hosts of a mesh. It stands before and behind
// Run, and passes on what comes in as long as the graph neither exports nor collects:
//
//	x := pipeline.NewExchange(pipeline.ExchangeOptions{...})
//	results := x.Results(pipeline.Run(x.Graphs(graphs), options))
//
// What the newest good graph exports is published, as it is and as it changes; it stays
// published when the run ends. What others export and the graph collects becomes a part of
// the graph, at once, and leaves it when it is published no more. While the mesh is away
// the last known stays in force.
//
// A resource of the graph file itself counts more than one of the same name, or which
// manages the same thing, that is collected; among those the first by the name of the host
// does. What is left out, or can't be used on this host, is told in the log, and never
// keeps anything else from coming into force.
type Exchange struct {
	opts ExchangeOptions
	mail *mailbox[func()]

	wanted atomic.Pointer[map[string]bool] // the resources whose values are wanted

	// All below belongs to the goroutine of Graphs.
	ctx     context.Context
	emit    func(Update) bool
	work    sync.WaitGroup
	stopped bool // nobody wants updates any more
	over    bool // there are no more graphs
	failed  error

	local  *Graph        // the newest good one; nil before the first
	fresh  bool          // it was not passed on yet
	spent  bool          // it was passed on by itself, or must not be
	passed time.Time     // when the last one was
	took   time.Duration // to make it

	waiting    []chan struct{} // those who want to know when all is exchanged
	patience   time.Time       // until when they wait
	complained bool            // that it was in vain

	store  mesh.Store // nil until something is exchanged
	shares sharing    // what is watched
	leave  context.CancelFunc

	out   publisher
	in    collector
	kept  kept
	scope scope
}

// sharing is how much of the exports is watched.
type sharing int

const (
	nothing sharing = iota
	own             // those of this host
	everything
)

const (
	// pace is the least time between two updates that others lead to, so that a burst of
	// theirs leads to few. It is longer for a graph that takes long: half of the time is left
	// to the run.
	pace = time.Millisecond

	// aWhile is as long as nothing is due.
	aWhile = time.Hour
)

// NewExchange returns an Exchange for one run.
func NewExchange(opts ExchangeOptions) *Exchange {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	x := &Exchange{opts: opts, mail: newMailbox[func()]()}
	x.out.init(x)
	x.in.init(x)
	x.kept.x = x
	x.scope.init(x)
	return x
}

// Graphs returns the versions of the graph that are to be run: those that come in, which
// are compiled, with what is collected for them, and others whenever that changes. Failures
// and questions are passed on. It is subscribed once. It fails as graphs does, and
// completes with graphs if nothing is exchanged.
func (x *Exchange) Graphs(graphs streams.Observable[Update]) streams.Observable[Update] {
	return streams.New(func(ctx context.Context, emit func(Update) bool) error {
		ctx, cancel := context.WithCancel(ctx)
		defer x.kept.close()
		defer x.work.Wait()
		defer cancel()
		x.ctx, x.emit = ctx, emit
		x.work.Go(func() {
			err := graphs.Subscribe(ctx, func(u Update) bool {
				x.mail.post(func() { x.update(u) })
				return true
			})
			x.mail.post(func() { x.over, x.failed = true, err })
		})
		return x.loop(ctx)
	})
}

// Known returns a compiled graph with what an earlier run has collected for it and kept in
// Dir, as far as that was not sealed: what a run would begin with, for those who plan. The
// mesh is not asked. It is called on an Exchange that does nothing else.
func (x *Exchange) Known(g *Graph) (*Graph, error) {
	x.kept.load()
	local, spent := addressed(g, x.opts.Host)
	x.in.adopt(local)
	return x.in.merge(local, !spent)
}

// loop does what has come by mail, all at once, and then what follows from it.
func (x *Exchange) loop(ctx context.Context) error {
	timer := time.NewTimer(aWhile)
	defer timer.Stop()
	for {
		for _, step := range x.mail.take() {
			step()
		}
		next := x.settle(time.Now())
		switch {
		case x.stopped:
			return nil
		case x.over && (x.failed != nil || x.store == nil):
			return x.failed
		}
		wait := aWhile
		if !next.IsZero() {
			wait = time.Until(next)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-x.mail.signal:
		case <-timer.C:
		}
	}
}

// settle does what is due, and returns when something is next; zero if nothing is.
func (x *Exchange) settle(now time.Time) (next time.Time) {
	for _, due := range []func(time.Time) time.Time{x.out.publish, x.in.expire, x.pass, x.kept.save, x.scope.settle, x.answer} {
		if at := due(now); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// later does something in the goroutine of Graphs, from any other.
func (x *Exchange) later(step func()) { x.mail.post(step) }

// update takes in what comes from graphs.
func (x *Exchange) update(u Update) {
	if u.Graph == nil {
		x.passNow() // what came before
		x.send(u)
		return
	}
	x.kept.load()
	x.fresh = true
	x.local, x.spent = addressed(u.Graph, x.opts.Host)
	x.out.adopt(x.local)
	x.connect()
	x.in.adopt(x.local)
}

func (x *Exchange) send(u Update) {
	if !x.stopped && x.ctx.Err() == nil && !x.emit(u) {
		x.stopped = true
	}
}

// pass passes the graph on, if it is another than before.
func (x *Exchange) pass(now time.Time) time.Time {
	switch at := x.passed.Add(max(pace, 2*x.took)); {
	case !x.fresh && !x.in.changed:
		return time.Time{}
	case !x.fresh && now.Before(at):
		return at
	}
	x.passNow()
	return time.Time{}
}

func (x *Exchange) passNow() {
	if x.local == nil || !x.fresh && !x.in.changed {
		return
	}
	began := time.Now()
	g, err := x.in.merge(x.local, !x.spent)
	x.spent = x.spent || g == x.local
	x.fresh, x.in.changed = false, false
	x.passed = time.Now()
	x.took = x.passed.Sub(began)
	x.send(Update{Graph: g, Err: err})
}

// connect begins to watch what the graph makes necessary.
func (x *Exchange) connect() {
	if x.opts.Together && x.store == nil {
		x.store = x.opts.Store()
		x.scope.begin()
	}
	needs := nothing
	switch {
	case len(x.local.Collect) > 0:
		needs = everything
	case x.opts.Noop:
	case x.out.any() || x.kept.Published:
		needs = own
	}
	if needs == nothing {
		return
	}
	if x.store == nil {
		x.store = x.opts.Store()
	}
	if needs > x.shares {
		x.share(needs)
	}
	if !x.opts.Noop && !x.out.knows && x.out.secrets > 0 {
		x.out.knows = true
		x.watch(x.ctx, mesh.Below(mesh.HostPrefix), x.out.hosts)
	}
	if !x.in.watching && slices.ContainsFunc(x.local.Collect, func(c Collect) bool { return c.Live }) {
		x.in.watching = true
		x.watch(x.ctx, mesh.Below(mesh.AlivePrefix), x.in.presence)
	}
}

// share watches exports, in place of those that it has watched before.
func (x *Exchange) share(needs sharing) {
	if x.leave != nil {
		x.leave()
	}
	var ctx context.Context
	ctx, x.leave = context.WithCancel(x.ctx)
	x.shares = needs
	prefix := mesh.ExportPrefix
	if needs == own {
		prefix += x.opts.Host + "/"
	}
	x.watch(ctx, mesh.Below(prefix), x.change)
}

// watch calls f with all changes, until ctx is done.
func (x *Exchange) watch(ctx context.Context, w mesh.Watch, f func(mesh.Change)) {
	const first, most = time.Second, 5 * time.Minute
	store := x.store
	x.work.Go(func() {
		for wait := first; ctx.Err() == nil; wait = min(2*wait, most) {
			err := store.Changes(w).Subscribe(ctx, func(c mesh.Change) bool {
				wait = first
				x.later(func() {
					if ctx.Err() == nil {
						f(c)
					}
				})
				return true
			})
			if ctx.Err() != nil {
				return
			}
			x.opts.Log.Warn("nothing comes from the mesh", "keys", w.String(), "error", err, "next", wait)
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	})
}

// change takes in what has been published or withdrawn.
func (x *Exchange) change(c mesh.Change) {
	var seen map[string]bool
	if c.Reset {
		seen = make(map[string]bool, len(c.Put))
	}
	for _, e := range c.Put {
		host, kind, name, err := mesh.ParseExportKey(e.Key)
		switch {
		case err != nil:
			x.opts.Log.Debug("unexpected key", "error", err)
		case host == x.opts.Host:
			x.out.has(e, c.Reset)
		default:
			x.in.put(e, host, kind, name)
		}
		if c.Reset {
			seen[e.Key] = true
		}
	}
	if c.Reset {
		x.out.reset(seen, c.Revision)
		x.in.reset(seen)
	}
	for _, key := range c.Deleted {
		x.out.lacks(key, c.Revision)
		x.in.drop(key)
	}
	if x.shares == everything {
		x.in.revision = c.Revision
	}
}

// addressed is g without what was collected of its own exports for other hosts than this
// one. It reports whether that differs from g: then it is not compiled.
func addressed(g *Graph, host string) (*Graph, bool) {
	others := func(v *Vertex) bool { return v.collected && !meantFor(hostsOf(v), host) }
	if !slices.ContainsFunc(g.Vertices, others) {
		return g, false
	}
	out := *g
	place := make([]int32, len(g.Vertices))
	out.Vertices = nil
	for i, v := range g.Vertices {
		if place[i] = int32(len(out.Vertices)); others(v) {
			place[i] = -1
			continue
		}
		out.Vertices = append(out.Vertices, v)
	}
	out.Edges, out.Links = nil, nil
	for _, e := range g.Edges {
		if e.From, e.To = place[e.From], place[e.To]; e.From >= 0 && e.To >= 0 {
			out.Edges = append(out.Edges, e)
		}
	}
	for _, l := range g.Links {
		if l.From, l.To = place[l.From], place[l.To]; l.From >= 0 && l.To >= 0 {
			out.Links = append(out.Links, l)
		}
	}
	return &out, true
}
