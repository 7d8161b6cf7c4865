package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// DefaultResync is the usual interval of Options.Resync.
const DefaultResync = 30 * time.Minute

// eventBuffer is how many events may wait between the sources and the engine.
const eventBuffer = 256

// Update is a new version of the graph: a compiled Graph, or the reason Err why there
// is none.
type Update struct {
	Graph *Graph
	Err   error
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
		ctx, cancel := context.WithCancel(ctx)
		e := newEngine(opts)
		markers := make(chan uint64, 1)
		var flushes sync.WaitGroup
		defer flushes.Wait()
		defer cancel()

		inputs := []streams.Observable[message]{
			streams.Map(graphs, func(u Update) message { return message{update: &u} }),
			streams.Map(streams.FromChan(markers), func(m uint64) message { return message{marker: m} }),
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
					streams.Send(ctx, markers, marker)
				})
			},
		})
		return converging.Subscribe(ctx, func(r operators.Result) bool {
			result, ok := e.result(r)
			return !ok || emit(result)
		})
	})
}

// message is what the engine's inputs are merged as: one of its fields is set.
type message struct {
	event  sources.Event
	update *Update
	marker uint64
	resync bool
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

	graph    *Graph
	units    []*unit // by vertex
	watching map[*unit][]sources.Watch
	watched  map[sources.Watch]*watched
	wake     []int32 // reused
	event    sources.Event
	swapped  Swap // the counts of the last swap, until its result is out

	mu    sync.RWMutex
	refs  []refInfo // by the Ref of an Input
	free  []int32
	stale []int32 // free after the next swap, since results may still name them

	watchMu  sync.Mutex // serialises Add and Remove
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

func newEngine(opts Options) *engine {
	e := &engine{
		opts:     opts,
		sources:  make(map[string]sources.Source, len(opts.Sources)),
		watching: map[*unit][]sources.Watch{},
		watched:  map[sources.Watch]*watched{},
		troubles: map[*unit][]trouble{},
		refs:     make([]refInfo, resyncRef+1),
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
	}
	return e.routeEvent(m.event), nil
}

func (e *engine) update(u Update) (operators.Input, error) {
	switch {
	case u.Err != nil && e.graph == nil:
		return operators.Input{}, u.Err
	case u.Err != nil:
		return operators.Input{Note: u.Err}, nil
	}
	return e.swap(u.Graph)
}

func (e *engine) routeEvent(ev sources.Event) operators.Input {
	e.event = ev
	e.wake = e.wake[:0]
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

// result turns a result of Sequence into one of Run. It reports false for what is of no
// interest outside.
func (e *engine) result(r operators.Result) (Result, bool) {
	out := Result{Time: r.Began, Refresh: r.Refresh, Took: r.Took, Left: r.Left}
	if u, ok := r.Sink.(*unit); ok {
		if out.Vertex = u.vertex; out.Vertex.Meta.Hidden {
			return Result{}, false
		}
	}
	switch r.Kind {
	case operators.Swapped:
		out.Kind, out.Graph, out.Swap = GraphSwapped, e.graph, e.swapped
	case operators.Noted:
		out.Kind, out.Err = GraphRejected, r.Note.(error)
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
