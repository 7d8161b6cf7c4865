package pipeline

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/streams"
)

// StepState says what a run would do with a resource.
type StepState string

// The states of a Step.
const (
	StepRight   StepState = "right"   // nothing: all is as desired
	StepChange  StepState = "change"  // change what Outcome says
	StepRun     StepState = "run"     // run the command that Outcome names
	StepAfter   StepState = "after"   // act after resources of After have, which decides how
	StepNoop    StepState = "noop"    // report what Outcome says, and change nothing
	StepWaiting StepState = "waiting" // wait for a value that By does not send
	StepBlocked StepState = "blocked" // nothing, because By would fail
	StepFailed  StepState = "failed"  // fail with Err
	StepUndo    StepState = "undo"    // undo what Reversal remembers
)

// StepStates lists all states.
var StepStates = []StepState{
	StepChange, StepRun, StepAfter, StepUndo, StepNoop, StepWaiting, StepBlocked, StepFailed, StepRight,
}

// changes says whether what depends on the resource has to expect something.
func (s StepState) changes() bool { return s == StepChange || s == StepRun || s == StepAfter }

// Step is what a run would do with one resource.
type Step struct {
	// Vertex is the resource; nil for what is undone.
	Vertex *Vertex

	// Reversal is what is undone: by a StepUndo, or a StepFailed.
	Reversal *Reversal

	State StepState

	// Outcome holds the changes, also those that would only be reported. They are hidden
	// where the resource is sent something secret.
	Outcome sinks.Outcome

	// Refresh says that the resource would be notified, or has been and owes it.
	Refresh bool

	// After lists, for StepAfter, the resources that it depends on and that would bring
	// about what decides.
	After []*Vertex

	// By is who holds the resource back.
	By *Vertex

	// Err is the failure, without the resource's name; for StepAfter, why the resource
	// can't be judged now, if it was an error.
	Err error

	resource sinks.Resource // that was asked; nil if none was
}

// Ref is the resource as users write it.
func (s Step) Ref() string {
	if s.Vertex == nil {
		return s.Reversal.Ref()
	}
	return s.Vertex.String()
}

// Forecast is what a run would do.
type Forecast struct {
	// Steps are in an order in which a run could take them, without hidden resources:
	// that of the file, as far as the edges permit it. What would be undone follows.
	Steps []Step
}

// Count returns how many steps are in one of the states.
func (f Forecast) Count(states ...StepState) int {
	n := 0
	for _, s := range f.Steps {
		if slices.Contains(states, s.State) {
			n++
		}
	}
	return n
}

// Changes says whether a run would change anything.
func (f Forecast) Changes() bool {
	return f.Count(StepChange, StepRun, StepAfter, StepUndo) > 0
}

// Fails says whether a resource would fail, or be held back for good.
func (f Forecast) Fails() bool { return f.Count(StepFailed, StepBlocked, StepWaiting) > 0 }

// PlanOptions tune Plan.
type PlanOptions struct {
	// State holds what earlier runs have left to be done; nil is nothing. It is only read.
	State State

	// Kinds are those of what is to be undone; without them it is listed, but not judged.
	Kinds *sinks.Registry
}

// Plan foretells what a run of a compiled graph would do, and changes nothing. The
// graph is its own: none of its resources may run meanwhile. A resource that can't be
// judged yet since a predecessor would change what it needs, or what it looks at, is
// StepAfter; what fails without such an excuse is StepFailed and holds back its
// descendants, as in a run. The error is that of the State, or of ctx.
func Plan(ctx context.Context, g *Graph, opts PlanOptions) (Forecast, error) {
	p := &planner{g: g, opts: opts, steps: make([]Step, len(g.Vertices)), behind: make([]bool, len(g.Vertices)), pending: map[string]bool{}}
	var saved Saved
	if opts.State != nil {
		var err error
		if saved, err = opts.State.Load(); err != nil {
			return Forecast{}, err
		}
		for _, name := range saved.Refreshes {
			p.pending[name] = true
		}
	}
	for _, v := range g.Vertices {
		if v.Resource == nil {
			return Forecast{}, fmt.Errorf("%s is not built: compile the graph", v)
		}
	}
	p.connect()
	for _, level := range p.levels(g.Order()) {
		if err := p.foresee(ctx, level); err != nil {
			return Forecast{}, err
		}
	}
	f := Forecast{Steps: make([]Step, 0, len(g.Vertices))}
	for _, v := range p.inFileOrder() {
		if !g.Vertices[v].Meta.Hidden {
			p.steps[v].Outcome.Values = nil // which may be secret
			f.Steps = append(f.Steps, p.steps[v])
		}
	}
	f.Steps = append(f.Steps, p.undoing(ctx, saved.Reversals)...)
	if ctx.Err() != nil {
		return Forecast{}, context.Cause(ctx)
	}
	return f, nil
}

// planner makes a Forecast, level by level: what is in one does not depend on each other.
type planner struct {
	g       *Graph
	opts    PlanOptions
	pending map[string]bool // refreshes that are owed
	steps   []Step          // by vertex
	behind  []bool          // by vertex: some ancestor would change something
	into    incoming
	links   map[int32][]Link // by receiver
	touched touched
	managed func() []string
}

// incoming lists the edges that lead to each vertex, in compressed form.
type incoming struct {
	start []int32 // of each vertex in list; one more than there are vertices
	list  []int32 // indices into Edges
}

func (in incoming) edges(vertex int32) []int32 { return in.list[in.start[vertex]:in.start[vertex+1]] }

func (p *planner) connect() {
	g := p.g
	p.into = incoming{start: make([]int32, len(g.Vertices)+1), list: make([]int32, len(g.Edges))}
	for _, e := range g.Edges {
		p.into.start[e.To+1]++
	}
	for v := range g.Vertices {
		p.into.start[v+1] += p.into.start[v]
	}
	next := slices.Clone(p.into.start)
	for i, e := range g.Edges {
		p.into.list[next[e.To]] = int32(i)
		next[e.To]++
	}
	p.links = make(map[int32][]Link, len(g.Links))
	for _, l := range g.Links {
		p.links[l.To] = append(p.links[l.To], l)
	}
	p.managed = sync.OnceValue(g.Managed)
}

// inFileOrder lists all vertices such that every edge leads forward: of those that could
// come next, always the one that is the first in the file.
func (p *planner) inFileOrder() []int32 {
	out := newAdjacency(p.g)
	missing := make([]int, len(p.g.Vertices)) // predecessors that have not come yet
	var ready firsts
	for v := range p.g.Vertices {
		if missing[v] = len(p.into.edges(int32(v))); missing[v] == 0 {
			ready = append(ready, int32(v)) // which is a heap, as it is sorted
		}
	}
	order := make([]int32, 0, len(p.g.Vertices))
	for len(ready) > 0 {
		v := heap.Pop(&ready).(int32)
		order = append(order, v)
		for _, e := range out.edges(v) {
			to := p.g.Edges[e].To
			if missing[to]--; missing[to] == 0 {
				heap.Push(&ready, to)
			}
		}
	}
	return order
}

// firsts is a heap of vertices, for container/heap.
type firsts []int32

// Len implements heap.Interface.
func (f firsts) Len() int { return len(f) }

// Less implements heap.Interface.
func (f firsts) Less(i, j int) bool { return f[i] < f[j] }

// Swap implements heap.Interface.
func (f firsts) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

// Push implements heap.Interface.
func (f *firsts) Push(v any) { *f = append(*f, v.(int32)) }

// Pop implements heap.Interface.
func (f *firsts) Pop() any {
	last := len(*f) - 1
	v := (*f)[last]
	*f = (*f)[:last]
	return v
}

// levels puts each vertex behind all that it depends on, in the order that is given.
func (p *planner) levels(order []int32) [][]int32 {
	var levels [][]int32
	depth := make([]int, len(p.g.Vertices))
	for _, v := range order {
		for _, e := range p.into.edges(v) {
			depth[v] = max(depth[v], depth[p.g.Edges[e].From]+1)
		}
		if depth[v] == len(levels) {
			levels = append(levels, nil)
		}
		levels[depth[v]] = append(levels[depth[v]], v)
	}
	return levels
}

// foresee judges the vertices of a level, several at once.
func (p *planner) foresee(ctx context.Context, level []int32) error {
	workers := min(len(level), max(4, 2*runtime.GOMAXPROCS(0)))
	var next atomic.Int32
	var all sync.WaitGroup
	work := func() {
		for i := next.Add(1) - 1; int(i) < len(level) && ctx.Err() == nil; i = next.Add(1) - 1 {
			p.steps[level[i]] = p.step(ctx, level[i])
		}
	}
	for range workers - 1 {
		all.Go(work)
	}
	work()
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, v := range level {
		p.touched.add(v, &p.steps[v])
	}
	return nil
}

// step judges one vertex, all of whose predecessors have been.
func (p *planner) step(ctx context.Context, at int32) Step {
	v := p.g.Vertices[at]
	s := Step{Vertex: v, State: StepRight, Refresh: p.pending[v.String()]}
	for _, i := range p.into.edges(at) {
		e := p.g.Edges[i]
		from := &p.steps[e.From]
		changes := from.State.changes()
		p.behind[at] = p.behind[at] || changes || p.behind[e.From]
		s.Refresh = s.Refresh || e.Notify && changes
		switch {
		case from.State == StepFailed:
			s.State, s.By = StepBlocked, from.Vertex
		case from.State == StepBlocked || from.State == StepWaiting && s.State != StepBlocked:
			s.State, s.By = from.State, from.By
		}
	}
	if v.Meta.Hidden || s.State != StepRight {
		return s
	}
	if r := p.receive(at, &s); s.State == StepRight {
		p.judge(ctx, at, r, &s)
	}
	p.hide(at, &s)
	if v.Meta.Noop && s.State.changes() {
		s.State = StepNoop
	}
	return s
}

// judge asks the resource what it would do.
func (p *planner) judge(ctx context.Context, at int32, r sinks.Resource, s *Step) {
	s.resource = r
	s.Outcome, s.Err = foretell(ctx, s.Vertex, r, s.Refresh)
	switch open := p.looksAtTouched(at, r); {
	case len(open) > 0 && !(s.Outcome.Changed && s.Err == nil && edits(r)): // who edits does so after that, too
		s.State, s.After, s.Outcome = StepAfter, open, sinks.Outcome{}
	case s.Err != nil && p.behind[at]:
		s.State, s.After, s.Outcome = StepAfter, p.nearest(at), sinks.Outcome{}
	case s.Err != nil:
		s.State = StepFailed
	case !s.Outcome.Changed:
	default:
		s.State = StepChange
		if _, runs := r.(sinks.Planner); runs {
			s.State = StepRun
		}
	}
}

// foretell calls the resource as a run would, without anything being changed.
func foretell(ctx context.Context, v *Vertex, r sinks.Resource, refresh bool) (out sinks.Outcome, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = &streams.PanicError{Value: panicked, Stack: debug.Stack()}
		}
	}()
	limit := v.Meta.Timeout
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errTimeout)
		defer cancel()
	}
	if planner, ok := r.(sinks.Planner); ok {
		out, err = planner.Plan(ctx, v.Meta.Safe, refresh)
	} else if refresher, ok := r.(sinks.Refresher); ok && refresh {
		out, err = refresher.Refresh(ctx, false)
	} else {
		out, err = r.CheckApply(ctx, false)
	}
	if err != nil && limit > 0 && errors.Is(context.Cause(ctx), errTimeout) {
		err = fmt.Errorf("not done after %v, the timeout of its meta-parameters (%w)", limit, err)
	}
	return out, err
}

// nearest lists the ancestors that would change something and that no other such lies
// behind, on the way up.
func (p *planner) nearest(at int32) []*Vertex {
	var found []int32
	p.climb(at, func(v int32) bool {
		if p.steps[v].State.changes() {
			found = append(found, v)
			return false
		}
		return p.behind[v]
	})
	return p.vertices(found)
}

// climb visits the ancestors of a vertex, each once, above those where visit says so.
func (p *planner) climb(at int32, visit func(int32) bool) {
	seen := map[int32]bool{}
	queue := []int32{at}
	for i := 0; i < len(queue); i++ {
		for _, e := range p.into.edges(queue[i]) {
			if from := p.g.Edges[e].From; !seen[from] {
				seen[from] = true
				if visit(from) {
					queue = append(queue, from)
				}
			}
		}
	}
}

// vertices are those of the indices, in file order.
func (p *planner) vertices(indices []int32) []*Vertex {
	slices.Sort(indices)
	list := make([]*Vertex, 0, len(indices))
	for _, v := range slices.Compact(indices) {
		list = append(list, p.g.Vertices[v])
	}
	return list
}

// looksAtTouched lists the ancestors that would change something at which the resource
// looks, so that what it says now means little.
func (p *planner) looksAtTouched(at int32, r sinks.Resource) []*Vertex {
	if !p.behind[at] {
		return nil
	}
	by := p.touched.by(reads(r))
	if len(by) == 0 {
		return nil
	}
	editor := edits(r)
	var found []int32
	p.climb(at, func(v int32) bool {
		if by[v] && !(editor && edits(p.g.Vertices[v].Resource)) {
			found = append(found, v)
		}
		return p.behind[v]
	})
	return p.vertices(found)
}
