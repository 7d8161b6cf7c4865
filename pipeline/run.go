package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// DefaultResync is the usual interval of Options.Resync.
const DefaultResync = 30 * time.Minute

// eventBuffer is how many events may wait between the sources and the engine.
const eventBuffer = 256

// Update is a new version of the graph: a compiled Graph, or the reason Err why there
// is none. With Ask it is no version but a question, which is Answered once the engine
// has taken in all that came before it: that shows that it has, and that it is alive.
type Update struct {
	Graph *Graph
	Err   error
	Ask   int // not 0: comes back as the Count of the answer
}

// Options tune Run. The zero value works for resources that watch nothing.
type Options struct {
	// Sources serve the watches of the resources. Each belongs to this run alone.
	Sources []sources.Source

	// Log is where the engine logs what no Result tells; nil discards.
	Log *slog.Logger

	// Noop makes every resource check and report, and change nothing.
	Noop bool

	// MaxParallel caps the CheckApplys that run at once; 0 is no cap beyond the number
	// of workers for those that work in this process.
	MaxParallel int

	// Resync is the mean interval after which resources that watch something are
	// checked even without an event, since not every change makes one. 0 means never.
	Resync time.Duration

	// ConvergedTimeout is how long nothing may be pending before Converged is emitted.
	ConvergedTimeout time.Duration

	// ConvergedExit completes the run at the first Converged.
	ConvergedExit bool

	// Trace adds results of the kinds Woken and Started.
	Trace bool

	// State keeps notifications that nobody has acted on yet, and how to undo what resources
	// with meta.reverse have done, beyond the end of the process. With nil the run itself
	// remembers them. It belongs to this run alone.
	State State

	// Kinds are those that may stand in State.
	Kinds *sinks.Registry

	// Fights says when a resource counts as being fought over.
	Fights Fights
}

// Run brings this host to the state that the newest graph describes, keeps it there,
// and emits what happens. It ends when its subscription is cancelled, at convergence if
// the options say so, or with an error: of a source, or of the first Update, since
// then there is nothing to run. A later Update with an error changes nothing but is
// reported as GraphRejected.
//
// The whole engine is one dataflow: sources and graphs are merged, route turns them into
// inputs, Sequence runs the sinks along the edges and Converge watches over all.
func Run(graphs streams.Observable[Update], opts Options) streams.Observable[Result] {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return streams.New(func(ctx context.Context, emit func(Result) bool) error {
		ledger, err := openLedger(opts.State)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		e := newEngine(opts, ledger)
		var flushes sync.WaitGroup
		defer e.close()
		defer flushes.Wait()
		defer cancel()

		inputs := []streams.Observable[message]{
			streams.Map(graphs, func(u Update) message { return message{update: &u} }),
			e.mail.messages(),
		}
		for _, s := range opts.Sources {
			inputs = append(inputs, streams.Map(s.Events(), func(ev sources.Event) message { return message{event: ev} }))
		}
		if opts.Resync > 0 {
			inputs = append(inputs, resync(opts.Resync))
		}
		routed := streams.New(func(ctx context.Context, emit func(operators.Input) bool) error {
			var failed error
			err := streams.Merge(eventBuffer, inputs...).Subscribe(ctx, func(m message) bool {
				in, err := e.route(m)
				if err != nil {
					failed = err
					return false
				}
				return emit(in)
			})
			return errors.Join(failed, err)
		})
		sequenced := operators.Sequence(routed, operators.SequenceOptions{MaxParallel: opts.MaxParallel, Trace: opts.Trace})
		converging := operators.Converge(sequenced, operators.ConvergedOptions{
			Timeout: opts.ConvergedTimeout,
			Exit:    opts.ConvergedExit,
			Barrier: func(marker uint64) {
				flushes.Go(func() {
					e.flush(ctx)
					e.mail.post(message{marker: marker})
				})
			},
		})
		return converging.Subscribe(ctx, func(r operators.Result) bool { return e.results(r, emit) })
	})
}

// message is what the engine's inputs are merged as: one of its fields is set.
type message struct {
	event   sources.Event
	update  *Update
	marker  uint64
	resync  bool
	steady  *unit // something that was fought over is not any more
	ready   bool  // an update that is held back may be let in, in any case if overdue
	overdue bool
}

// resync emits at intervals around d, jittered by a tenth so that hosts that were
// started together drift apart.
func resync(d time.Duration) streams.Observable[message] {
	return streams.New(func(ctx context.Context, emit func(message) bool) error {
		for {
			t := time.NewTimer(time.Duration(float64(d) * (0.9 + 0.2*rand.Float64())))
			select {
			case <-ctx.Done():
				t.Stop()
				return context.Cause(ctx)
			case <-t.C:
				if !emit(message{resync: true}) {
					return nil
				}
			}
		}
	})
}

// engine holds the running graph and what is watched for it. Its maps belong to the one
// goroutine that calls route; what others read is guarded by mu.
type engine struct {
	opts    Options
	sources map[string]sources.Source

	graph   *Graph
	units   []*unit // by vertex
	wake    []int32 // reused
	event   sources.Event
	swapped Swap // the counts of the last swap, until its result is out

	ledger  *ledger
	semas   *holding // those of the mesh
	mail    *mailbox[message]
	fights  Fights
	held    *Graph                // an update that waits, by meta.realize
	holding atomic.Bool           // there is one
	inForce atomic.Pointer[Graph] // graph, for others than route
	values  sync.RWMutex          // guards each inbox
	closing sync.WaitGroup        // Closers of resources that have left

	timersMu sync.Mutex
	timers   map[*time.Timer]struct{} // nil when the run is over
	firing   sync.WaitGroup

	mu    sync.RWMutex
	refs  []refInfo // by the Ref of an Input
	free  []int32
	stale []int32 // free after the next swap, since results may still name them

	watchMu  sync.Mutex // guards all below, and serialises Add and Remove
	watching map[*unit][]sources.Watch
	watched  map[sources.Watch]*watched
	troubles map[*unit][]trouble
}

// refInfo is what a Ref of an Input stands for.
type refInfo struct {
	watch  sources.Watch
	source string // all watches of it
}

// The Refs that stand for no watch.
const (
	swapRef   = int32(iota) // a swap has changed what the resource has to spare
	resyncRef               // a resync
)

func newEngine(opts Options, l *ledger) *engine {
	e := &engine{
		opts:     opts,
		sources:  make(map[string]sources.Source, len(opts.Sources)),
		watching: map[*unit][]sources.Watch{},
		watched:  map[sources.Watch]*watched{},
		troubles: map[*unit][]trouble{},
		refs:     make([]refInfo, resyncRef+1),
		ledger:   l,
		semas:    newHolding(opts.Log),
		mail:     newMailbox[message](),
		fights:   opts.Fights.withDefaults(),
		timers:   map[*time.Timer]struct{}{},
	}
	for _, s := range opts.Sources {
		e.sources[s.Name()] = s
		e.refs = append(e.refs, refInfo{source: s.Name()})
	}
	return e
}

// flush waits until all sources have emitted what happened before the call.
func (e *engine) flush(ctx context.Context) {
	for _, s := range e.opts.Sources {
		if f, ok := s.(sources.Flusher); ok {
			if err := f.Flush(ctx); err != nil && ctx.Err() == nil {
				e.opts.Log.Warn("events may be late", "source", s.Name(), "error", err)
			}
		}
	}
}

// route turns a message into an input of Sequence. It is called by one goroutine, the
// one in which Sequence consumes the input afterwards.
func (e *engine) route(m message) (operators.Input, error) {
	switch {
	case m.update != nil:
		return e.update(*m.update)
	case m.marker != 0:
		return operators.Input{Marker: m.marker}, nil
	case m.resync:
		return e.resync(), nil
	case m.steady != nil:
		return operators.Input{Note: Result{Kind: Steady, Vertex: m.steady.vertex}}, nil
	case m.ready:
		return e.letIn(m.overdue)
	}
	return e.routeEvent(m.event), nil
}

func (e *engine) update(u Update) (operators.Input, error) {
	switch {
	case u.Ask != 0:
		return operators.Input{Note: Result{Kind: Answered, Count: u.Ask}}, nil
	case u.Err != nil && e.graph == nil:
		return operators.Input{}, u.Err
	case u.Err != nil:
		return operators.Input{Note: Result{Kind: GraphRejected, Err: u.Err}}, nil
	}
	if v := e.unrealized(u.Graph); v != nil {
		first := e.held == nil
		e.held = u.Graph
		e.holding.Store(true)
		if first {
			return operators.Input{Note: Result{Kind: SwapDelayed, Vertex: v}}, nil
		}
		return operators.Input{}, nil
	}
	e.held = nil
	e.holding.Store(false)
	return e.swap(u.Graph)
}

// unrealized returns a resource that has to run once before g may remove or change it.
func (e *engine) unrealized(g *Graph) *Vertex {
	var in map[identity]*Vertex
	for _, u := range e.units {
		if !u.vertex.Meta.Realize || u.is(realized) || u.vertex.Meta.Hidden {
			continue
		}
		if in == nil {
			in = make(map[identity]*Vertex, len(g.Vertices))
			for _, v := range g.Vertices {
				in[identity{v.Kind, v.Name}] = v
			}
		}
		if v := in[identity{u.vertex.Kind, u.vertex.Name}]; v == nil || !same(u.vertex, v) {
			return u.vertex
		}
	}
	return nil
}

// reconsider lets in an update that is held back, if nothing is in its way any more: or
// in any case if all that could run has run, since then nothing would ever let it in.
func (e *engine) reconsider(overdue bool) {
	if e.holding.Load() {
		e.mail.post(message{ready: true, overdue: overdue})
	}
}

func (e *engine) letIn(overdue bool) (operators.Input, error) {
	if e.held == nil || !overdue && e.unrealized(e.held) != nil {
		return operators.Input{}, nil
	}
	g := e.held
	e.held = nil
	e.holding.Store(false)
	return e.swap(g)
}

// graphOptions are what resources of the running graph are built with.
func (e *engine) graphOptions() sinks.Options { return e.inForce.Load().options }

// later calls f after d, unless the run is over or the function that it returns is
// called before.
func (e *engine) later(d time.Duration, f func()) (stop func()) {
	e.timersMu.Lock()
	defer e.timersMu.Unlock()
	if e.timers == nil {
		return func() {}
	}
	var t *time.Timer
	e.firing.Add(1)
	over := sync.OnceFunc(e.firing.Done)
	forget := func() {
		e.timersMu.Lock()
		defer e.timersMu.Unlock()
		delete(e.timers, t)
	}
	t = time.AfterFunc(d, func() {
		defer over()
		forget()
		f()
	})
	e.timers[t] = struct{}{}
	return func() {
		if t.Stop() {
			forget()
			over()
		}
	}
}

// close ends what the run has left: timers, and what resources hold open.
func (e *engine) close() {
	e.timersMu.Lock()
	for t := range e.timers {
		if t.Stop() {
			e.firing.Done()
		}
	}
	e.timers = nil
	e.timersMu.Unlock()
	e.firing.Wait()
	e.closeAll(e.units)
	e.closing.Wait()
	e.semas.close()
}

// closeAll closes the resources of units that hold something open, beside each other and
// beside what else happens.
func (e *engine) closeAll(units []*unit) {
	for _, u := range units {
		s := u.special.Load()
		if s == nil || s.closed == nil {
			continue
		}
		e.closing.Go(func() {
			s.applying.Lock()
			defer s.applying.Unlock()
			defer close(s.closed)
			c, ok := u.resource().(sinks.Closer)
			if !ok {
				return
			}
			if err := c.Close(); err != nil {
				e.opts.Log.Warn("not closed in order", "res", u.vertex.String(), "error", err)
			}
		})
	}
}

func (e *engine) routeEvent(ev sources.Event) operators.Input {
	e.event = ev
	e.wake = e.wake[:0]
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	if ev.Watch != nil {
		w := e.watched[ev.Watch]
		if w == nil {
			return operators.Input{}
		}
		for _, u := range w.units {
			if ev.Err != nil {
				e.noteTrouble(u, trouble{watch: ev.Watch, err: ev.Err, counted: true})
			}
			e.wake = append(e.wake, u.index)
		}
		return operators.Input{Wake: e.wake, Ref: w.ref}
	}
	for u, ws := range e.watching {
		for _, w := range ws {
			if w.Source() == ev.Source {
				e.wake = append(e.wake, u.index)
				break
			}
		}
	}
	slices.Sort(e.wake)
	for ref := range e.refs {
		if e.refs[ref].source == ev.Source {
			return operators.Input{Wake: e.wake, Ref: int32(ref)}
		}
	}
	return operators.Input{}
}

// resync wakes what could have drifted without an event: all that watches something,
// but not what acts each time it runs, and not what is polled anyway.
func (e *engine) resync() operators.Input {
	e.event = sources.Event{Source: "resync", What: "due"}
	e.wake = e.wake[:0]
	e.watchMu.Lock()
	defer e.watchMu.Unlock()
	for u := range e.watching {
		if u.vertex.Meta.Poll == 0 && !u.acts() {
			e.wake = append(e.wake, u.index)
		}
	}
	slices.Sort(e.wake)
	return operators.Input{Wake: e.wake, Ref: resyncRef}
}

// cause says in words and facts why a vertex ran.
func (e *engine) cause(c operators.Cause) Cause {
	out := Cause{Kind: c.Kind.String()}
	switch c.Kind {
	case operators.CausePredecessor:
		out.Vertex = c.Sink.(*unit).vertex
	case operators.CauseEvent:
		e.mu.RLock()
		info := e.refs[c.Ref]
		e.mu.RUnlock()
		out.Watch, out.Source = info.watch, info.source
		switch {
		case c.Ref == swapRef:
			out.Kind = operators.CauseSwap.String()
		case c.Ref == resyncRef:
			out.Kind = "resync"
		case info.watch != nil:
			out.Source = info.watch.Source()
		}
	}
	return out
}

// results emits what a result of Sequence tells.
func (e *engine) results(r operators.Result, emit func(Result) bool) bool {
	if r.Kind == operators.Idle {
		e.reconsider(true)
	}
	out, ok := e.result(r)
	if !ok {
		return true
	}
	d, ok := r.Outcome.Detail.(*detail)
	if ok && d.waiting != nil && !out.Left {
		out.Kind, out.By, out.Output, out.Err = Waiting, d.waiting.By, d.waiting.Output, nil
	}
	if !emit(out) {
		return false
	}
	if !ok || d.fight == nil || out.Left {
		return true
	}
	return emit(Result{Kind: Flapping, Time: time.Now(), Vertex: out.Vertex, Cause: out.Cause, Count: d.fight.count, RetryAfter: d.fight.rest})
}

// result turns a result of Sequence into one of Run. It reports false for what is of no
// interest outside.
func (e *engine) result(r operators.Result) (Result, bool) {
	out := Result{Time: r.Began, Refresh: r.Refresh, Took: r.Took, Left: r.Left, Batch: r.Batch}
	if u, ok := r.Sink.(*unit); ok {
		if out.Vertex = u.vertex; out.Vertex.Meta.Hidden {
			return Result{}, false
		}
	}
	switch r.Kind {
	case operators.Swapped:
		out.Kind, out.Graph, out.Swap = GraphSwapped, e.graph, e.swapped
	case operators.Noted:
		out = r.Note.(Result)
	case operators.Woken:
		out.Kind, out.Cause, out.Event = Woken, e.cause(r.Cause), e.event
	case operators.Started:
		out.Kind, out.Cause = Started, e.cause(r.Cause)
	case operators.Finished:
		out.Kind, out.Cause = Finished, e.cause(r.Cause)
		out.Err, out.WillRetry, out.RetryAfter = r.Outcome.Err, r.Outcome.Retry, r.Outcome.RetryAfter
		if d, ok := r.Outcome.Detail.(*detail); ok {
			out.Outcome, out.Noop = d.outcome, d.noop
		}
	case operators.Blocked:
		out.Kind, out.By = Blocked, r.By.(*unit).vertex
	case operators.Converged:
		out.Kind = Converged
	default:
		return Result{}, false
	}
	if out.Time.IsZero() {
		out.Time = time.Now()
	}
	return out, true
}
