package pipeline

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/mgmtproject/mgmt/sinks"
)

// undoing are the steps for what earlier runs have remembered of resources that are not in
// the graph any more.
func (p *planner) undoing(ctx context.Context, reversals []Reversal) []Step {
	in := make(map[identity]bool, len(p.g.Vertices))
	for _, v := range p.g.Vertices {
		in[identity{v.Kind, v.Name}] = true
	}
	gone := map[string]*Reversal{}
	for i, r := range reversals {
		if !in[identity{r.Kind, r.Name}] {
			gone[r.Ref()] = &reversals[i]
		}
	}
	var steps []Step
	excused := map[string]bool{} // since what is undone before them would change something
	for _, r := range dependentsFirst(gone) {
		s := p.undo(ctx, r)
		if s.State == StepFailed && excused[r.Ref()] {
			s.State, s.Outcome = StepUndo, sinks.Outcome{Changed: true}
		}
		if s.State == StepUndo {
			for _, name := range r.Before {
				excused[name] = true
			}
		}
		if s.State != StepRight {
			steps = append(steps, s)
		}
	}
	return steps
}

// dependentsFirst lists what is undone: what depended on another before that.
func dependentsFirst(gone map[string]*Reversal) []*Reversal {
	var list []*Reversal
	done := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		r := gone[name]
		if r == nil || done[name] {
			return
		}
		done[name] = true
		for _, before := range r.Before {
			visit(before)
		}
		list = append(list, r)
	}
	backwards := func(a, b string) int { return cmp.Compare(b, a) }
	for _, name := range slices.SortedFunc(maps.Keys(gone), backwards) {
		visit(name)
	}
	slices.Reverse(list)
	return list
}

// undo judges what undoes as a run would: it is right if there is nothing to undo any
// more, or if another resource manages the same now.
func (p *planner) undo(ctx context.Context, saved *Reversal) Step {
	s := Step{Reversal: saved, State: StepUndo, Outcome: sinks.Outcome{Changed: true}}
	r := reversal{Reversal: *saved}
	switch {
	case r.nothing():
		return Step{Reversal: saved, State: StepRight}
	case p.opts.Kinds == nil:
		return s
	}
	fails := func(err error) Step {
		s.State, s.Err, s.Outcome = StepFailed, err, sinks.Outcome{}
		return s
	}
	cfg, err := r.undoOf(p.opts.Kinds)
	if err != nil {
		return fails(err)
	}
	opts := p.g.options
	opts.Ref = r.Ref()
	resource, err := cfg.Build(r.Name, opts)
	if err != nil {
		return fails(err)
	}
	if owner, ok := resource.(sinks.Owner); ok {
		managed := p.managed()
		if slices.ContainsFunc(owner.Owns(), func(name string) bool { return slices.Contains(managed, name) }) {
			s.State = StepRight
			return s
		}
	}
	s.Outcome, err = foretell(ctx, &Vertex{Kind: r.Kind, Name: r.Name, Meta: &undoMeta}, resource, false)
	if err != nil {
		return fails(err)
	}
	s.Outcome.Values = nil
	if !s.Outcome.Changed {
		s.State = StepRight
	}
	return s
}
