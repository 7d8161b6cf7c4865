package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// unit runs one resource as a sink of Sequence, by its meta-parameters. It lives as long
// as the resource's desired state stays the same, across swaps.
type unit struct {
	engine  *engine
	vertex  *Vertex
	index   int32       // in the running graph; belongs to route
	retries int32       // left; belongs to CheckApply
	ailing  atomic.Bool // some of its watches do not work: see watching.go
}

// detail is what a CheckApply hands on to its result.
type detail struct {
	outcome sinks.Outcome
	noop    bool
}

var _ operators.Scheduled = (*unit)(nil)

// Schedule implements operators.Scheduled.
func (u *unit) Schedule() operators.Schedule {
	w, ok := u.vertex.Resource.(sinks.Waiter)
	return operators.Schedule{Waits: ok && w.Waits()}
}

func (u *unit) acts() bool {
	a, ok := u.vertex.Resource.(sinks.Actor)
	return ok && a.Acts()
}

func (u *unit) noop() bool { return u.vertex.Meta.Noop || u.engine.opts.Noop }

// CheckApply implements operators.Sink.
func (u *unit) CheckApply(ctx context.Context, run operators.Run) operators.Outcome {
	if u.vertex.Meta.Hidden {
		return operators.Outcome{}
	}
	watchErr := u.engine.rewatch(u)
	outcome, err := u.checkApply(ctx, run.Refresh)
	if err == nil {
		err = watchErr
	}
	noop := u.noop()
	out := operators.Outcome{Changed: outcome.Changed && !noop, Err: err}
	if outcome.Changed || len(outcome.Values) > 0 {
		out.Detail = &detail{outcome, noop}
	}
	meta := u.vertex.Meta
	switch {
	case err == nil:
		if meta.RetryReset {
			u.retries = int32(meta.Retry)
		}
	case meta.Retry < 0:
		out.Retry, out.RetryAfter = true, meta.Delay
	case u.retries > 0:
		u.retries--
		out.Retry, out.RetryAfter = true, meta.Delay
	}
	return out
}

func (u *unit) checkApply(ctx context.Context, refresh bool) (sinks.Outcome, error) {
	limit := u.vertex.Meta.Timeout
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errTimeout)
		defer cancel()
	}
	f := u.vertex.Resource.CheckApply
	if r, ok := u.vertex.Resource.(sinks.Refresher); ok && refresh {
		f = r.Refresh
	}
	outcome, err := f(ctx, !u.noop())
	if err != nil && limit > 0 && errors.Is(context.Cause(ctx), errTimeout) {
		err = fmt.Errorf("not done after %v, the timeout of its meta-parameters (%w)", limit, err)
	}
	return outcome, err
}

var errTimeout = errors.New("timeout")

// used is how many of its retries the resource has used up.
func (u *unit) used() int32 { return max(0, int32(u.vertex.Meta.Retry)-u.retries) }

func newUnit(e *engine, v *Vertex, index int32) *unit {
	return &unit{engine: e, vertex: v, index: index, retries: int32(v.Meta.Retry)}
}

// watches is what wakes the resource.
func (u *unit) watches() []sources.Watch {
	switch {
	case u.vertex.Meta.Hidden:
		return nil
	case u.vertex.Meta.Poll > 0:
		return []sources.Watch{sources.Interval{Every: max(u.vertex.Meta.Poll, time.Millisecond)}}
	}
	return u.vertex.Resource.Watches()
}
