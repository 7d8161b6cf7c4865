package operators

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/streams"
)

// All stands for every vertex in Input.Wake.
const All = int32(-1)

// Input is one thing that happens to a running Sequence: a swap, a wake-up or a marker.
type Input struct {
	// Graph, if not nil, takes the place of the running graph. Carry then has an entry
	// for every vertex of it, or is nil when nothing is carried over.
	Graph *Graph
	Carry []Carry

	// Wake lists vertices that have to look again, or is just All. The sink is told
	// Ref. Sequence does not keep the slice.
	Wake []int32
	Ref  int32

	// Refresh also sets a notification on them.
	Refresh bool

	// Marker, if not zero, comes out as a Marked result, after everything that the
	// inputs before it have made busy has been announced.
	Marker uint64

	// Note, if not nil, comes out as a Noted result.
	Note any
}

// Carry says what a vertex of a new graph takes over from the old one.
type Carry struct {
	Old     int32 // the vertex it was, or -1 for a new one
	Same    bool  // its desired state and its sink are the same: it is not run again
	Refresh bool  // a notification is pending, as if by Input.Refresh; it makes no vertex run
}

// ResultKind says what a Result tells.
type ResultKind uint8

// The kinds of results, and which fields of a Result they use beside Kind.
const (
	Swapped   ResultKind = iota // Graph is in force
	Woken                       // Sink, Cause: a vertex was woken by an Input (only with Trace)
	Started                     // Sink, Cause, Refresh: a CheckApply begins (only with Trace)
	Finished                    // Sink, Cause, Refresh, Outcome, Began, Took, Left: a CheckApply has ended
	Blocked                     // Sink, By: the vertex is pending, but its ancestor By has failed
	Busy                        // Epoch: something has become pending
	Idle                        // Epoch: nothing is pending that could run
	Marked                      // Epoch: the Marker of an Input
	Noted                       // Note: that of an Input
	Converged                   // Epoch: nothing has been pending for the timeout
)

// String is the kind in one word: "finished".
func (k ResultKind) String() string {
	return [...]string{"swapped", "woken", "started", "finished", "blocked", "busy", "idle", "marked", "noted", "converged"}[k]
}

// Result is one thing that Sequence reports. See ResultKind for the fields in use.
type Result struct {
	Kind    ResultKind
	Refresh bool
	Left    bool // the vertex has left the graph, or was changed, while it ran: its outcome counts for nothing
	Batch   int  // how many vertices ran together with this one, itself included; 0 for one alone
	Sink    Sink
	Cause   Cause
	Outcome Outcome
	Began   time.Time
	Took    time.Duration
	By      Sink
	Graph   *Graph
	Epoch   uint64
	Note    any
}

// SequenceOptions tune Sequence. The zero value works.
type SequenceOptions struct {
	// Workers is how many CheckApplys run at once that work in this process; those that
	// wait, and batches, come on top. 0 means two a processor, but at least four.
	Workers int

	// MaxParallel caps all CheckApplys that run at once, a batch as one. 0 is no cap.
	MaxParallel int

	// Trace adds Woken and Started results.
	Trace bool
}

// Sequence runs the sinks of a graph along its edges, as the inputs ask for it.
//
// It begins with an empty graph and waits for the first swap. It keeps these promises,
// whatever the graph and the order of inputs: a vertex starts only when no ancestor is
// pending, running or failed; it runs once at a time, and inputs during a run lead to
// exactly one more; after the last input for a vertex a CheckApply that started later
// ends, or the vertex is reported as failed or blocked; whatever may run does at once,
// within the options and the Schedule of its sink; a vertex that changed something makes
// its successors run, one that was right does not; a failure holds back its descendants
// only; and without input nothing happens. An input for one vertex of a quiet graph
// costs O(1).
//
// It completes when in has completed and nothing is pending. The results come from
// several goroutines, one at a time; those of one vertex are in order.
func Sequence(in streams.Observable[Input], opts SequenceOptions) streams.Observable[Result] {
	if opts.Workers <= 0 {
		opts.Workers = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if opts.MaxParallel > 0 {
		opts.Workers = min(opts.Workers, opts.MaxParallel)
	}
	return streams.New(func(ctx context.Context, emit func(Result) bool) error {
		ctx, cancel := context.WithCancelCause(ctx)
		s := &sequencer{
			opts: opts, ctx: ctx, cancel: cancel, emit: emit,
			machine: machine{g: &Graph{off: []int32{0}}, lazy: none},
			workers: make([]job, opts.Workers),
			waiters: map[*waiter]bool{}, pauses: map[*pause]bool{}, until: map[int32]time.Time{},
		}
		s.cond.L = &s.mu
		for i := range s.workers {
			s.workers[i].v = none
			s.wg.Go(func() { s.work(&s.workers[i]) })
		}
		stop := context.AfterFunc(ctx, s.cancelled)
		defer func() { // also when an input panics
			stop()
			cancel(nil)
			s.cancelled()
			s.wg.Wait()
		}()

		err := in.Subscribe(ctx, s.input)
		s.mu.Lock()
		s.closed = true
		s.cond.Broadcast()
		s.mu.Unlock()
		if err != nil {
			cancel(err)
		}
		s.wg.Wait()
		return context.Cause(ctx)
	})
}

// cancelled ends the waits of workers and the pauses.
func (s *sequencer) cancelled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pauses {
		s.stop(p)
	}
	s.cond.Broadcast()
}

// sequencer is the concurrent shell around the machine: workers, timers and results.
type sequencer struct {
	opts   SequenceOptions
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	emitting sync.Mutex
	emit     func(Result) bool
	ended    bool // emit has said false, or panicked

	mu      sync.Mutex
	cond    sync.Cond // workers wait for ready vertices
	machine           // all of it guarded by mu
	workers []job
	waiters map[*waiter]bool
	pauses  map[*pause]bool
	until   map[int32]time.Time // the end of a rest
	parked  int
	running int // CheckApplys, a batch as one
	closed  bool
	epoch   uint64
	isBusy  bool
}

// out emits rs. It must not be called with mu held.
func (s *sequencer) out(rs ...Result) {
	s.emitting.Lock()
	s.emitAll(rs)
}

// emitAll is entered with emitting held and returns without it.
func (s *sequencer) emitAll(rs []Result) {
	defer s.emitting.Unlock()
	defer func() {
		if p := recover(); p != nil {
			s.ended = true
			s.cancel(&streams.PanicError{Value: p, Stack: debug.Stack()})
		}
	}()
	for i := range rs {
		if s.ended {
			return
		}
		if !s.emit(rs[i]) {
			s.ended = true
			s.cancel(nil)
		}
	}
}

// input handles one Input; it is the consumer of the upstream.
func (s *sequencer) input(in Input) bool {
	if s.ctx.Err() != nil {
		return false
	}
	if in.Graph != nil && !s.swap(in) {
		return false
	}
	if in.Graph == nil && len(in.Wake) > 0 && !s.wake(in) {
		return false
	}
	if in.Note != nil {
		s.out(Result{Kind: Noted, Note: in.Note})
	}
	if in.Marker != 0 {
		s.out(Result{Kind: Marked, Epoch: in.Marker})
	}
	return true
}

// known reports false, and ends the stream, if g has no such vertex as in wakes.
func (s *sequencer) known(g *Graph, in Input) bool {
	for _, v := range in.Wake {
		if v != All && (v < 0 || int(v) >= g.Len()) {
			s.cancel(fmt.Errorf("an input wakes vertex %d of a graph of %d", v, g.Len()))
			return false
		}
	}
	return true
}

// wake reports false, and ends the stream, if the graph has no such vertex.
func (s *sequencer) wake(in Input) bool {
	if !s.known(s.g, in) {
		return false
	}
	if s.opts.Trace {
		s.traceWake(in)
	}
	s.mu.Lock()
	s.machine.wake(in.Wake, in.Ref, in.Refresh)
	s.settle(0)
	return true
}

func (s *sequencer) traceWake(in Input) {
	cause := Cause{Kind: CauseEvent, Ref: in.Ref}
	if in.Wake[0] == All {
		s.out(Result{Kind: Woken, Cause: cause})
		return
	}
	for _, v := range in.Wake {
		s.out(Result{Kind: Woken, Sink: s.g.sinks[v], Cause: cause})
	}
}

// swap reports false, and ends the stream, if the graph can't be run. What the input
// wakes is woken together with the start of what is new: that must not overtake it.
func (s *sequencer) swap(in Input) bool {
	wishes, err := wishes(in.Graph)
	if err != nil {
		s.cancel(err)
		return false
	}
	if !s.known(in.Graph, in) {
		return false
	}
	s.mu.Lock()
	from := s.machine.swap(in.Graph, in.Carry, wishes)
	for i := range s.workers {
		s.moveJob(&s.workers[i], from)
	}
	var left []context.CancelFunc
	for w := range s.waiters {
		if s.moveWaiter(w, from) {
			left = append(left, w.cancel)
		}
	}
	s.movePauses(from)
	s.busy++ // the swap itself: what ends before start must not find that all is idle
	s.mu.Unlock()
	s.out(Result{Kind: Swapped, Graph: in.Graph})
	for _, cancel := range left {
		cancel()
	}
	if s.opts.Trace && len(in.Wake) > 0 {
		s.traceWake(in)
	}

	s.mu.Lock()
	s.busy--
	s.machine.start()
	if len(in.Wake) > 0 {
		s.machine.wake(in.Wake, in.Ref, in.Refresh)
	}
	if s.busy == 0 {
		s.isBusy = true // so that settle announces an epoch even if nothing is to be done
		s.epoch++
	}
	s.settle(0)
	return true
}

// settle is called with mu held after the machine was changed, and unlocks it: it wakes
// workers for what is ready, but for as many vertices as the caller keeps for itself, and
// announces Busy, Blocked and Idle.
func (s *sequencer) settle(keep int) {
	var results [3]Result
	rs := results[:0]
	if len(s.delayed) > 0 {
		s.startRests()
	}
	if s.busy > 0 && !s.isBusy {
		s.isBusy = true
		s.epoch++
		rs = append(rs, Result{Kind: Busy, Epoch: s.epoch})
	}
	s.startWaiters()
	wakeups := min(len(s.ready)-keep, s.parked)
	if s.busy == 0 {
		s.eachBlocked(func(v, by int32) {
			rs = append(rs, Result{Kind: Blocked, Sink: s.g.sinks[v], By: s.g.sinks[by]})
		})
	}
	if s.busy == 0 && s.isBusy {
		s.isBusy = false
		rs = append(rs, Result{Kind: Idle, Epoch: s.epoch})
		if s.closed {
			s.cond.Broadcast()
		}
	}
	if s.ctx.Err() != nil {
		rs = nil // what a cancel has ended says nothing about the graph
	}
	if len(rs) > 0 {
		s.emitting.Lock() // before mu is released, so that these come out in their order
	}
	s.mu.Unlock()
	for range wakeups {
		s.cond.Signal()
	}
	if len(rs) > 0 {
		s.emitAll(rs)
	}
}

func (s *sequencer) mayRun() bool {
	return s.opts.MaxParallel <= 0 || s.running < s.opts.MaxParallel
}

// work is the loop of one worker. Ready vertices are taken last in, first out: a chain
// stays on one worker, in its caches.
func (s *sequencer) work(j *job) {
	s.mu.Lock()
	for {
		for (len(s.ready) == 0 || !s.mayRun()) && s.ctx.Err() == nil {
			if s.closed && s.busy == 0 {
				s.mu.Unlock()
				return
			}
			s.parked++
			s.cond.Wait()
			s.parked--
		}
		if s.ctx.Err() != nil {
			s.mu.Unlock()
			return
		}
		v := s.ready[len(s.ready)-1]
		s.ready = s.ready[:len(s.ready)-1]
		if !s.take(v) {
			s.settle(1)
			s.mu.Lock()
			continue
		}
		j.v, j.holds = v, s.needs(v)
		s.running++
		s.perform(s.ctx, j)
		s.mu.Lock()
	}
}

// perform runs the vertex of j, which take has marked as running. It is entered with mu
// held, and returns without it.
func (s *sequencer) perform(ctx context.Context, j *job) {
	sink := s.g.sinks[j.v]
	run := s.run(j.v)
	s.mu.Unlock()

	began := time.Now()
	if s.opts.Trace {
		s.out(Result{Kind: Started, Sink: sink, Cause: run.Cause, Refresh: run.Refresh, Began: began})
	}
	o := protect(ctx, sink, run)
	took := time.Since(began)
	s.mu.Lock()
	left := j.v == none
	s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.out(Result{
			Kind: Finished, Sink: sink, Cause: run.Cause, Refresh: run.Refresh,
			Outcome: o, Began: began, Took: took, Left: left,
		})
	}
	s.mu.Lock()
	s.running--
	s.conclude(j, &o)
	s.settle(1) // the worker comes back for the next vertex itself
}

// protect turns a panic of a sink into its failure.
func protect(ctx context.Context, sink Sink, run Run) (o Outcome) {
	defer func() {
		if p := recover(); p != nil {
			o = Outcome{Err: &streams.PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	return sink.CheckApply(ctx, run)
}
