package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sinks"
)

// batch applies resources that group together. It is equal for those that may be.
type batch struct {
	engine    *engine
	kind, key string
	noop      bool
	timeout   time.Duration
}

var _ operators.Batch = batch{}

// CheckApply implements operators.Batch. Members that are notified, and those that do more
// then, are applied by themselves.
func (b batch) CheckApply(ctx context.Context, members []operators.Sink, runs []operators.Run) []operators.Outcome {
	outcomes := make([]operators.Outcome, len(members))
	var together []*attempt
	var places []int
	for i, m := range members {
		u := m.(*unit)
		resource := u.resource()
		_, refreshes := resource.(sinks.Refresher)
		if _, ok := resource.(sinks.Grouper); !ok || refreshes && runs[i].Refresh || len(members) == 1 {
			outcomes[i] = u.CheckApply(ctx, runs[i])
			continue
		}
		a := &attempt{u: u, run: runs[i]}
		if over, err := a.begin(ctx); over {
			outcomes[i] = a.end(sinks.Outcome{}, err)
			continue
		}
		together, places = append(together, a), append(places, i)
	}
	for j, r := range b.apply(ctx, together) {
		outcomes[places[j]] = together[j].end(r.Outcome, r.Err)
	}
	return outcomes
}

// apply is attempt.checkApply for several.
func (b batch) apply(ctx context.Context, together []*attempt) []sinks.GroupResult {
	if len(together) == 0 {
		return nil
	}
	if b.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, b.timeout, errTimeout)
		defer cancel()
	}
	results := make([]sinks.GroupResult, len(together))
	var apply []int // those that go on to be applied
	var ahead []int // those that have to be checked first
	for i, a := range together {
		if a.writesAhead() {
			ahead = append(ahead, i)
		} else {
			apply = append(apply, i)
		}
	}
	b.call(ctx, together, ahead, false, results)
	for _, i := range ahead {
		if r := &results[i]; r.Err == nil && r.Changed {
			if r.Err = together[i].announce(r.Changes); r.Err == nil {
				apply = append(apply, i)
			} else {
				r.Outcome = sinks.Outcome{}
			}
		}
	}
	b.call(ctx, together, apply, !b.noop, results)
	return results
}

// call calls the group of those that are listed, and files the results.
func (b batch) call(ctx context.Context, together []*attempt, which []int, apply bool, results []sinks.GroupResult) {
	if len(which) == 0 {
		return
	}
	list := make([]sinks.Resource, len(which))
	for n, i := range which {
		list[n] = together[i].resource
	}
	got := list[0].(sinks.Grouper).CheckApplyGroup(ctx, apply, list)
	for n, i := range which {
		if len(got) != len(which) {
			results[i] = sinks.GroupResult{Err: fmt.Errorf("the kind %s has returned %d results for a group of %d", b.kind, len(got), len(which))}
			continue
		}
		results[i] = got[n]
		results[i].Err = late(ctx, b.timeout, got[n].Err)
	}
}
