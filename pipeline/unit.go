package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// unit runs one resource as a sink of Sequence, by its meta-parameters. It lives as long
// as the resource's desired state stays the same, across swaps.
type unit struct {
	engine  *engine
	vertex  *Vertex
	index   int32         // in the running graph; belongs to route
	retries int32         // left; belongs to CheckApply
	flags   atomic.Uint32 // see below
	wiring  atomic.Pointer[wiring]
	special atomic.Pointer[special]
}

// The flags of a unit.
const (
	ailing   uint32 = 1 << iota // some of its watches do not work: see watching.go
	gone                        // it has left the graph: see ledger.notify
	realized                    // it has succeeded, or finally failed, once
)

func (u *unit) is(flag uint32) bool { return u.flags.Load()&flag != 0 }

// set reports whether the flag was not set before.
func (u *unit) set(flag uint32) bool { return u.flags.Or(flag)&flag == 0 }

func (u *unit) clear(flag uint32) { u.flags.And(^flag) }

// wiring is what a unit has to know of the running graph. Most have none. It is replaced,
// never changed, when a graph is swapped.
type wiring struct {
	inputs    []input         // the values that it is sent
	receivers []*unit         // to which it sends values
	outputs   map[string]bool // those that it sends
	notifies  []string        // resources that a change of it notifies
	reverse   bool            // what it does is to be undone when it leaves the graph
	above     []string        // resources of that sort on which it depends, the nearest ones
}

// special is what only some units need. Its fields belong to CheckApply, but for those
// that are safe by themselves.
type special struct {
	limiter *rate.Limiter               // of meta.limit; safe
	backoff *backoff.ExponentialBackOff // while it fails, by meta.backoff
	fight   *fight                      // see fights.go
	inbox   inbox                       // what it has received; guarded by engine.values
	shared  []meshSemaphore             // which it holds while it runs; safe
	done    bool                        // an undo that has succeeded
	settled bool                        // it is noted that it has been as desired

	applying sync.Mutex    // held while its Closer runs or is closed
	prior    chan struct{} // closed when the resource in whose place it came is
	closed   chan struct{} // closed when its own resource is
}

// extra returns the special of u, and makes it if there is none.
func (u *unit) extra() *special {
	if s := u.special.Load(); s != nil {
		return s
	}
	u.special.CompareAndSwap(nil, &special{})
	return u.special.Load()
}

// detail is what a CheckApply hands on to its result.
type detail struct {
	outcome sinks.Outcome
	noop    bool
	fight   *fighting
	waiting *WaitingError
}

var _ operators.Scheduled = (*unit)(nil)

// Schedule implements operators.Scheduled.
func (u *unit) Schedule() operators.Schedule {
	meta := u.vertex.Meta
	if meta.Hidden {
		return operators.Schedule{}
	}
	var s operators.Schedule
	resource := u.resource()
	if w, ok := resource.(sinks.Waiter); ok {
		s.Waits = w.Waits()
	}
	for _, text := range meta.Sema {
		id, count, _ := parseSema(text) // Validate has seen it
		if strings.HasPrefix(id, meshMark) {
			s.Waits = true
		} else {
			s.Semaphores = append(s.Semaphores, operators.Semaphore{Name: id, Count: count})
		}
	}
	alone := u.vertex.Undo || u.receives() || len(s.Semaphores) < len(meta.Sema)
	if g, ok := resource.(sinks.Grouper); ok && meta.AutoGroup && !alone {
		if key := g.Group(); key != "" {
			s.Batch = batch{engine: u.engine, kind: u.vertex.Kind, key: key, noop: u.noop(), timeout: meta.Timeout}
		}
	}
	return s
}

// resource is the one in force: what was compiled, or what was built of received values.
func (u *unit) resource() sinks.Resource {
	if s := u.special.Load(); s != nil {
		u.engine.values.RLock()
		defer u.engine.values.RUnlock()
		if s.inbox.built != nil {
			return s.inbox.built
		}
	}
	return u.vertex.Resource
}

// receives says that the unit is sent values.
func (u *unit) receives() bool {
	w := u.wiring.Load()
	return w != nil && len(w.inputs) > 0
}

func (u *unit) acts() bool {
	a, ok := u.resource().(sinks.Actor)
	return ok && a.Acts()
}

func (u *unit) noop() bool { return u.vertex.Meta.Noop || u.engine.opts.Noop }

// attempt is one CheckApply of a unit, from begin to end.
type attempt struct {
	u        *unit
	run      operators.Run
	resource sinks.Resource
	wiring   *wiring
	special  *special
	watchErr error
	ticket   *ticket // for its semaphores of the mesh
	notified uint64  // the notification that it acts on
	noted    bool    // the ledger has it
}

// CheckApply implements operators.Sink.
func (u *unit) CheckApply(ctx context.Context, run operators.Run) operators.Outcome {
	switch {
	case u.vertex.Meta.Hidden:
		return operators.Outcome{}
	case u.plain(run):
		// The way of nearly every run, which finds all to be right, allocates nothing.
		watchErr := u.engine.rewatch(u)
		outcome, err := u.vertex.Resource.CheckApply(ctx, !u.noop())
		if err == nil && watchErr == nil && !outcome.Changed && !outcome.Rewatch && len(outcome.Values) == 0 {
			return operators.Outcome{}
		}
		a := attempt{u: u, run: run, resource: u.vertex.Resource, watchErr: watchErr}
		return a.end(outcome, err)
	}
	a := attempt{u: u, run: run}
	defer func() { a.ticket.release() }()
	over, err := a.begin(ctx)
	if over {
		return a.end(sinks.Outcome{}, err)
	}
	outcome, err := a.checkApply(ctx)
	return a.end(outcome, err)
}

// plain says that nothing but the resource itself has a say in a run of the unit.
func (u *unit) plain(run operators.Run) bool {
	m := u.vertex.Meta
	return !run.Refresh && u.wiring.Load() == nil && u.special.Load() == nil && !u.vertex.Undo &&
		m.Timeout == 0 && !m.RetryReset && !m.Realize
}

// begin gets everything ready. It reports true if that is all.
func (a *attempt) begin(ctx context.Context) (over bool, err error) {
	u := a.u
	a.wiring, a.special = u.wiring.Load(), u.special.Load()
	if s := a.special; s != nil {
		if s.done {
			return true, nil
		}
		if s.prior != nil {
			select {
			case <-s.prior:
				s.prior = nil
			case <-ctx.Done():
				return true, context.Cause(ctx)
			}
		}
		if s.limiter != nil && limited(a.run.Cause) {
			s.limiter.ReserveN(time.Now(), 1)
		}
	}
	if a.run.Refresh {
		a.notified, a.noted = u.engine.ledger.seen(u.vertex.String())
	}
	if err := a.receive(); err != nil {
		return true, err
	}
	if s := a.special; s != nil && len(s.shared) > 0 {
		if a.ticket, err = u.engine.semas.take(ctx, u.engine.graphOptions().Mesh, u.vertex.String(), s.shared); err != nil {
			return true, err
		}
		if err := a.receive(); err != nil { // what has come meanwhile
			return true, err
		}
	}
	a.resource = u.resource()
	a.watchErr = u.engine.rewatch(u)
	return false, nil
}

// receive takes in what the unit is sent.
func (a *attempt) receive() error {
	if a.wiring == nil || len(a.wiring.inputs) == 0 {
		return nil
	}
	return a.u.receive(a.wiring, a.special)
}

// limited says that a run counts against meta.limit: something has happened, and it is
// not the engine's own doing.
func limited(c operators.Cause) bool {
	return c.Kind == operators.CausePredecessor || c.Kind == operators.CauseEvent && c.Ref != swapRef
}

var errTimeout = errors.New("timeout")

// checkApply calls the resource, within the timeout.
func (a *attempt) checkApply(ctx context.Context) (sinks.Outcome, error) {
	u := a.u
	limit := u.vertex.Meta.Timeout
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errTimeout)
		defer cancel()
	}
	if a.special != nil && a.special.closed != nil {
		a.special.applying.Lock()
		defer a.special.applying.Unlock()
	}
	f := a.resource.CheckApply
	if r, ok := a.resource.(sinks.Refresher); ok && a.run.Refresh {
		f = r.Refresh
	}
	outcome, err := a.ahead(ctx, f)
	return outcome, late(ctx, limit, err)
}

// late says of an error that the timeout has led to it, if it has.
func late(ctx context.Context, limit time.Duration, err error) error {
	if err != nil && limit > 0 && errors.Is(context.Cause(ctx), errTimeout) {
		return fmt.Errorf("not done after %v, the timeout of its meta-parameters (%w)", limit, err)
	}
	return err
}

// writesAhead says that something has to be noted before a change is made.
func (a *attempt) writesAhead() bool {
	w := a.wiring
	return w != nil && !a.u.noop() && (w.reverse || len(w.notifies) > 0 && a.u.engine.ledger.durable())
}

// ahead calls f, and notes what follows from a change right before it is made.
func (a *attempt) ahead(ctx context.Context, f func(context.Context, bool) (sinks.Outcome, error)) (sinks.Outcome, error) {
	if !a.writesAhead() {
		return f(ctx, !a.u.noop())
	}
	if _, ok := a.resource.(sinks.Announcer); ok && !a.wiring.reverse {
		return f(sinks.WithBeforeChange(ctx, func() error { return a.announce(nil) }), true)
	}
	outcome, err := f(ctx, false)
	if err != nil || !outcome.Changed {
		return outcome, err
	}
	if err := a.announce(outcome.Changes); err != nil {
		return sinks.Outcome{}, err
	}
	return f(ctx, true)
}

// announce notes what follows from changes that are about to be made.
func (a *attempt) announce(changes []sinks.Change) error {
	u := a.u
	var undo *reversal
	if a.wiring.reverse {
		var err error
		if undo, err = u.undoOf(a.wiring, changes); err != nil {
			return err
		}
	}
	return u.engine.ledger.notify(u, a.wiring.notifies, undo)
}

// end turns what came of the attempt into its outcome for Sequence.
func (a *attempt) end(outcome sinks.Outcome, err error) operators.Outcome {
	u := a.u
	if err == nil {
		err = a.watchErr
	}
	noop := u.noop()
	if a.wiring != nil {
		err = a.hide(&outcome, err)
	}
	out := operators.Outcome{Changed: outcome.Changed && !noop, Err: err}
	var d detail
	if s := a.special; s != nil && s.limiter != nil {
		out.Rest = rest(s.limiter)
	}
	if err == nil {
		a.succeed(&out, outcome)
		d.fight = u.contend(a.run, out.Changed)
		if d.fight != nil {
			out.Rest = max(out.Rest, d.fight.rest)
		}
	} else {
		a.fail(&out)
	}
	if outcome.Rewatch && u.engine.opts.Sources != nil {
		u.engine.redeclare(u, a.resource, true)
	}
	if d.waiting = waitingFor(err); d.waiting != nil && u.engine.opts.Noop {
		out.Err = nil // what would be sent is not known: go on
	}
	if outcome.Changed || len(outcome.Values) > 0 || d.fight != nil || d.waiting != nil {
		d.outcome, d.noop = outcome, noop
		out.Detail = &d
	}
	if u.vertex.Meta.Realize && !out.Retry && u.set(realized) {
		u.engine.reconsider(false)
	}
	return out
}

// succeed is the part of end for a success.
func (a *attempt) succeed(out *operators.Outcome, outcome sinks.Outcome) {
	u := a.u
	if u.vertex.Meta.RetryReset {
		u.retries = int32(u.vertex.Meta.Retry)
	}
	if s := a.special; s != nil {
		s.backoff = nil
	}
	if u.vertex.Undo && !u.noop() {
		u.extra().done = true
		if err := u.engine.ledger.forget([]string{u.vertex.String()}, true); err != nil {
			u.engine.opts.Log.Error("it may be undone again", "res", u.vertex.String(), "error", err)
		}
	}
	if a.noted && !u.is(gone) {
		if err := u.engine.ledger.done(u.vertex.String(), a.notified); err != nil {
			u.engine.opts.Log.Error("it may be refreshed again", "res", u.vertex.String(), "error", err)
		}
	}
	if a.wiring != nil && a.wiring.reverse && !u.noop() && !u.is(gone) {
		if err := u.settle(a.wiring); err != nil {
			u.engine.opts.Log.Error("what others change later may be undone, too", "res", u.vertex.String(), "error", err)
		}
	}
	if a.wiring != nil && len(a.wiring.receivers) > 0 {
		out.Sent = u.publish(a.wiring, outcome.Values)
	}
}

// fail is the part of end for a failure: it decides on another attempt.
func (a *attempt) fail(out *operators.Outcome) {
	u, meta := a.u, a.u.vertex.Meta
	switch {
	case waitingFor(out.Err) != nil: // nothing but the value can help
		return
	case meta.Retry < 0:
	case u.retries > 0:
		u.retries--
	default:
		return
	}
	out.Retry, out.RetryAfter, out.Rest = true, max(u.delay(), out.Rest), 0
}

// delay is the wait before the next attempt.
func (u *unit) delay() time.Duration {
	meta := u.vertex.Meta
	if !meta.Backoff {
		return meta.Delay
	}
	s := u.extra()
	if s.backoff == nil {
		s.backoff = backoff.NewExponentialBackOff()
		s.backoff.InitialInterval = meta.Delay
		if meta.Delay == 0 {
			s.backoff.InitialInterval = 100 * time.Millisecond
		}
		s.backoff.Multiplier = 2
		s.backoff.MaxInterval = max(meta.MaxDelay, s.backoff.InitialInterval)
		s.backoff.Reset()
	}
	return min(s.backoff.NextBackOff(), s.backoff.MaxInterval)
}

// rest is how long it takes until a limiter lets an event through.
func rest(l *rate.Limiter) time.Duration {
	missing := 1 - l.Tokens()
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing / float64(l.Limit()) * float64(time.Second))
}

// used is how many of its retries the resource has used up.
func (u *unit) used() int32 { return max(0, int32(u.vertex.Meta.Retry)-u.retries) }

// newUnit makes the unit of a vertex. Was is the one in whose place it comes, or nil.
func newUnit(e *engine, v *Vertex, index int32, was *unit) *unit {
	u := &unit{engine: e, vertex: v, index: index, retries: int32(v.Meta.Retry)}
	if !math.IsInf(v.Meta.Limit, 1) && !v.Meta.Hidden {
		u.extra().limiter = rate.NewLimiter(rate.Limit(v.Meta.Limit), v.Meta.Burst)
	}
	if list := meshSemaphores(v.Meta.Sema); len(list) > 0 && !v.Meta.Hidden {
		u.extra().shared = list
	}
	if _, ok := v.Resource.(sinks.Closer); ok || len(v.receives) > 0 {
		u.extra().closed = make(chan struct{})
	}
	if was == nil {
		return u
	}
	old := was.special.Load()
	if old != nil && old.closed != nil {
		u.extra().prior = old.closed
	}
	if v.Meta.Reset {
		return u
	}
	u.retries = max(0, u.retries-was.used())
	if s := u.special.Load(); s != nil && s.limiter != nil && old != nil && old.limiter != nil {
		limit, burst := s.limiter.Limit(), s.limiter.Burst()
		s.limiter = old.limiter
		s.limiter.SetLimit(limit)
		s.limiter.SetBurst(burst)
	}
	return u
}

// watches is what wakes a unit whose resource is r.
func (u *unit) watches(r sinks.Resource) []sources.Watch {
	switch {
	case u.vertex.Meta.Hidden || u.vertex.Undo:
		return nil
	case u.vertex.Meta.Poll > 0:
		return []sources.Watch{sources.Interval{Every: max(u.vertex.Meta.Poll, time.Millisecond)}}
	}
	return r.Watches()
}
