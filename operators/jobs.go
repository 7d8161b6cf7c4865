package operators

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/mgmtproject/mgmt/streams"
)

// A job is one vertex that runs.
type job struct {
	v     int32        // its vertex now; none when idle or when the vertex has left the graph
	holds []*semaphore // until the job ends
}

// A waiter is a goroutine that runs a vertex, or a batch of them, beside the workers.
type waiter struct {
	jobs   []job
	batch  *batch
	here   int // how many of the jobs are for vertices of the graph
	cancel context.CancelFunc
}

// moveJob renumbers a job. The new graph's vertices start only after the jobs of those
// that it dropped or changed have ended, so that two versions of a resource never work on
// the same thing.
func (s *sequencer) moveJob(j *job, from []int32) {
	if j.v == none {
		return
	}
	if j.v = from[j.v]; j.v == none {
		s.orphans++
		s.busy++
	}
}

// moveWaiter renumbers the jobs of w, and reports whether the last of them has left.
func (s *sequencer) moveWaiter(w *waiter, from []int32) bool {
	before := w.here
	w.here = 0
	for i := range w.jobs {
		if s.moveJob(&w.jobs[i], from); w.jobs[i].v != none {
			w.here++
		}
	}
	return before > 0 && w.here == 0
}

// conclude records the outcome of j.
func (s *sequencer) conclude(j *job, o *Outcome) {
	v := j.v
	j.v = none
	if len(j.holds) > 0 {
		s.free(j.holds)
		s.grant()
		j.holds = nil
	}
	retry := o.Err != nil && o.Retry && s.ctx.Err() == nil
	if v != none && o.Rest > 0 && !retry {
		s.until[v] = time.Now().Add(o.Rest)
		s.rest(v)
	}
	switch {
	case v == none:
		s.busy--
		if s.orphans--; s.orphans == 0 {
			s.release()
		}
	case retry:
		s.fail(v, o.Changed, true)
		s.pause(v, o.RetryAfter, false)
	case o.Err != nil:
		s.fail(v, o.Changed, false)
	default:
		s.succeed(v, o.Changed, o.Sent)
	}
}

// startWaiters gives each ready vertex that waits, and each batch, a goroutine for the
// length of its CheckApply.
func (s *sequencer) startWaiters() {
	for len(s.readyWaiters) > 0 && s.mayRun() && s.ctx.Err() == nil {
		v := s.readyWaiters[0]
		s.readyWaiters = s.readyWaiters[1:]
		vertices, b := s.takeWaiters(v)
		if len(vertices) == 0 {
			continue
		}
		ctx, cancel := context.WithCancel(s.ctx)
		w := &waiter{jobs: make([]job, len(vertices)), batch: b, here: len(vertices), cancel: cancel}
		for i, v := range vertices {
			w.jobs[i] = job{v: v, holds: s.needs(v)}
		}
		s.waiters[w] = true
		s.running++
		s.wg.Go(func() {
			defer cancel()
			s.attend(ctx, w)
		})
	}
}

// attend runs the vertices of w that a swap has not removed since it was made.
func (s *sequencer) attend(ctx context.Context, w *waiter) {
	n := len(w.jobs)
	at := make([]int, 0, n) // indices of jobs
	members, runs := make([]Sink, 0, n), make([]Run, 0, n)
	s.mu.Lock()
	for i, j := range w.jobs {
		if j.v != none {
			at, members, runs = append(at, i), append(members, s.g.sinks[j.v]), append(runs, s.run(j.v))
		}
	}
	s.mu.Unlock()
	outcomes := make([]Outcome, n)
	if len(members) > 0 {
		s.call(ctx, w, at, members, runs, outcomes)
	}

	s.mu.Lock()
	s.running--
	delete(s.waiters, w)
	for i := range w.jobs {
		s.conclude(&w.jobs[i], &outcomes[i])
	}
	if w.batch != nil {
		s.batchEnded(w.batch)
	}
	s.settle(0)
}

// call runs members, which belong to these jobs of w, fills in the outcomes of the jobs
// and announces it all.
func (s *sequencer) call(ctx context.Context, w *waiter, at []int, members []Sink, runs []Run, outcomes []Outcome) {
	rs := make([]Result, len(members))
	began := time.Now()
	for i, run := range runs {
		rs[i] = Result{Kind: Started, Sink: members[i], Cause: run.Cause, Refresh: run.Refresh, Began: began}
		if len(members) > 1 {
			rs[i].Batch = len(members)
		}
	}
	if s.opts.Trace {
		s.out(rs...)
	}
	var done []Outcome
	if w.batch == nil {
		done = []Outcome{protect(ctx, members[0], runs[0])}
	} else {
		done = protectBatch(ctx, w.batch.key, members, runs)
	}
	took := time.Since(began)
	s.mu.Lock()
	for i, o := range done {
		outcomes[at[i]] = o
		rs[i].Kind, rs[i].Outcome, rs[i].Took = Finished, o, took
		rs[i].Left = w.jobs[at[i]].v == none
	}
	s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.out(rs...)
	}
}

// protectBatch turns what a batch gets wrong into the failure of all members.
func protectBatch(ctx context.Context, b Batch, members []Sink, runs []Run) (outcomes []Outcome) {
	fail := func(err error) {
		outcomes = make([]Outcome, len(runs))
		for i := range outcomes {
			outcomes[i].Err = err
		}
	}
	n := len(members)
	defer func() {
		if p := recover(); p != nil {
			fail(&streams.PanicError{Value: p, Stack: debug.Stack()})
		}
	}()
	if outcomes = b.CheckApply(ctx, members, runs); len(outcomes) != n {
		fail(fmt.Errorf("a batch of %d returned %d outcomes: it has to return one for each", n, len(outcomes)))
	}
	return outcomes
}
