package pkg

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/pkg/backend"
)

var _ sinks.Grouper = (*pkg)(nil)

// Group implements sinks.Grouper: what is allowed to one is not allowed to others.
func (p *pkg) Group() string { return fmt.Sprintf("packages %+v", p.allow) }

// sharedKey is where the transactions of a run find each other.
type sharedKey struct{}

// options are those of a backend that logs for p.
func (p *pkg) options(log *slog.Logger) backend.Options {
	shared := p.opts.Space().Value(sharedKey{}, func() any { return backend.NewShared() })
	return backend.Options{Log: log, Shared: shared.(*backend.Shared)}
}

// CheckApplyGroup implements sinks.Grouper: one transaction for all that differ.
func (p *pkg) CheckApplyGroup(ctx context.Context, apply bool, members []sinks.Resource) []sinks.GroupResult {
	g := &group{results: make([]sinks.GroupResult, len(members))}
	for i, m := range members {
		g.members = append(g.members, m.(*pkg))
		g.all = append(g.all, i)
	}
	todo, err := g.look(ctx, p.options(p.opts.Logger()))
	switch {
	case err != nil:
		g.fail(g.all, err)
	case apply && len(todo) > 0:
		g.apply(ctx, p.options(p.opts.Logger()), todo)
	}
	g.send()
	return g.results
}

// group is one call of CheckApplyGroup. Lists of numbers are of members.
type group struct {
	members []*pkg
	all     []int
	results []sinks.GroupResult
	actions []backend.Action
	now     []backend.Status
}

// fail gives an error to members.
func (g *group) fail(which []int, err error) {
	for _, i := range which {
		g.results[i].Err = err
		g.results[i].Outcome = sinks.Outcome{}
	}
}

// names are those of members.
func (g *group) names(which []int) []string {
	names := make([]string, len(which))
	for n, i := range which {
		names[n] = g.members[i].name
	}
	return names
}

// look finds out what there is and returns the members that have something to do.
func (g *group) look(ctx context.Context, o backend.Options) ([]int, error) {
	b, err := backend.ForLooking(ctx, o)
	if err != nil {
		return nil, err
	}
	if g.now, err = b.Look(ctx, g.names(g.all)); err != nil {
		return nil, err
	}
	var those []int
	for i, m := range g.members {
		if m.state == newest {
			those = append(those, i)
		}
	}
	offered := make([]string, len(g.members))
	if len(those) > 0 {
		versions, err := b.Newest(ctx, g.names(those))
		if err != nil {
			return nil, err
		}
		for n, i := range those {
			offered[i] = versions[n]
		}
	}
	var todo []int
	g.actions = make([]backend.Action, len(g.members))
	for i, m := range g.members {
		act, differs := m.wish(g.now[i], offered[i])
		g.actions[i] = act
		if differs {
			todo = append(todo, i)
			g.results[i].Outcome = sinks.Outcome{Changed: true, Changes: []sinks.Change{m.change(act)}}
		}
	}
	return todo, nil
}

// apply does what there is to do, in one transaction if that succeeds.
func (g *group) apply(ctx context.Context, o backend.Options, todo []int) {
	b, err := backend.ForChanging(ctx, o)
	if err != nil {
		g.fail(todo, err)
		return
	}
	allow := g.members[todo[0]].allow
	var able []int
	for n, err := range b.Prepare(ctx, g.chosen(todo), allow) {
		if err != nil {
			g.fail(todo[n:n+1], err)
		} else {
			able = append(able, todo[n])
		}
	}
	if len(able) == 0 {
		return
	}
	err = b.Apply(ctx, g.chosen(able), allow)
	left := g.judge(ctx, b, able, err)
	if f, ok := b.(backend.Forgetter); ok && err == nil && len(left) > 0 && f.Forget() == nil {
		err = b.Apply(ctx, g.chosen(left), allow)
		able, left = left, g.judge(ctx, b, left, err)
	}
	if err == nil || len(able) == 1 || ctx.Err() != nil {
		return
	}
	o.Log.Info("the transaction of several packages has failed: changing them one by one", "packages", len(left), "err", err)
	for n, i := range left {
		if ctx.Err() != nil {
			g.fail(left[n:], context.Cause(ctx))
			return
		}
		g.judge(ctx, b, []int{i}, b.Apply(ctx, g.chosen([]int{i}), allow))
	}
}

// chosen are the actions of members.
func (g *group) chosen(which []int) []backend.Action {
	actions := make([]backend.Action, len(which))
	for n, i := range which {
		actions[n] = g.actions[i]
	}
	return actions
}

// judge looks at what a transaction has done, whatever it says of itself: an error may be
// about others. It returns the members that are not as they shall be.
func (g *group) judge(ctx context.Context, b backend.Backend, which []int, failed error) (left []int) {
	now, err := b.Look(context.WithoutCancel(ctx), g.names(which))
	if err != nil {
		g.fail(which, err)
		return nil
	}
	for n, i := range which {
		act := g.actions[i]
		g.now[i] = now[n]
		r := &g.results[i]
		r.Err, r.Outcome = nil, sinks.Outcome{Changed: true, Changes: []sinks.Change{g.members[i].change(act)}}
		if reached(act, now[n]) {
			continue
		}
		left = append(left, i)
		if r.Err = failed; failed == nil {
			r.Err = fmt.Errorf("%s has reported success, but the package is %s", b.Name(), describe(now[n]))
		}
		if now[n] == act.Now {
			r.Outcome = sinks.Outcome{}
		}
	}
	return left
}

// describe is what there is of a package, in words.
func describe(s backend.Status) string {
	switch {
	case s.Broken != "":
		return s.Broken
	case s.Version == "":
		return "not installed"
	}
	return "at " + s.Version
}
