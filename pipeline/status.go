package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
)

// Status is what a run has come to: how its resources are, which have failed and why,
// and what came of the last run of each. Its zero value is the status of a run that has
// not begun. Feed it every Result in order; it is not safe for use by several goroutines.
//
// It takes 40 bytes a resource, beside what there is to tell of those that changed
// something or are in trouble.
type Status struct {
	Loaded    bool // a graph is in force
	Converged bool // nothing has been pending for the timeout, since the last disturbance
	Resources int  // in the graph

	graph   *Graph
	out     adjacency         // of graph; made when it is needed
	since   time.Time         // when graph came into force
	records []record          // by the place of the vertex in graph
	moved   map[*Vertex]int32 // the places of those that were elsewhere in the graph that they came with
	counts  [conditions]int
	trouble int // records that Failures has to tell of
	changed int // records that have changed something

	flapping map[*Vertex]dispute
	strays   map[*Vertex]error // failures of what is in no graph any more
}

// condition is how a resource is.
type condition uint8

const (
	conditionPending condition = iota // it has not run yet, or has to run again
	conditionRight
	conditionDiffers // it is not as desired, and not changed either, as was asked for
	conditionFailed
	conditionRetrying // it has failed and will be tried again
	conditionBlocked
	conditionWaiting
	conditionHidden
	conditions
)

// String is the condition as a Snapshot has it.
func (c condition) String() string {
	return [...]string{"pending", "right", "differs", "failed", "retrying", "blocked", "waiting", "hidden"}[c]
}

// record is what is kept of a resource.
type record struct {
	began   int64 // of the last run, in nanoseconds since 1970; 0 if it has not run
	took    int64
	cause   *Cause
	more    *particulars // nil if there are none
	changes uint32       // how often it has changed something
	after   condition    // what the last run, or the lack of one, has led to
	running bool
	due     bool // an event has come, and it has not started since
	content bool // it waits in a run that changes nothing, which is no trouble
}

// condition is how the resource is now.
func (rec *record) condition() condition {
	if rec.running || rec.due {
		return conditionPending
	}
	return rec.after
}

func (rec *record) troubled() bool {
	switch rec.after {
	case conditionFailed, conditionRetrying, conditionBlocked:
		return true
	case conditionWaiting:
		return !rec.content
	}
	return false
}

// particulars are what only some resources have to tell.
type particulars struct {
	err     error
	changed bool
	noop    bool
	changes []sinks.Change
	retry   time.Time
	batch   int
	by      *Vertex
	output  string
}

// dispute is a resource that something else keeps undoing.
type dispute struct {
	cause Cause
	count int
	until time.Time
}

// The causes that say nothing more than their kind, shared by all records.
var causeSwap, causeRetry, causeResync = &Cause{Kind: "swap"}, &Cause{Kind: "retry"}, &Cause{Kind: "resync"}

// Observe takes r into account.
func (s *Status) Observe(r Result) {
	switch r.Kind {
	case GraphSwapped:
		s.Loaded, s.Converged, s.Resources = true, false, len(r.Graph.Vertices)
		s.swap(&r)
		return
	case Converged:
		s.Converged = true
		return
	case Woken, Started, Finished, Blocked, Waiting, Flapping, Steady:
	default:
		return
	}
	i, ok := s.place(r.Vertex)
	if !ok {
		s.stray(&r)
		return
	}
	rec := &s.records[i]
	before, troubled, changes := rec.condition(), rec.troubled(), rec.changes
	s.update(rec, &r)
	if changes == 0 && rec.changes > 0 {
		s.changed++
	}
	if now := rec.condition(); now != before {
		s.counts[before]--
		s.counts[now]++
	}
	if now := rec.troubled(); now != troubled {
		s.trouble--
		if now {
			s.trouble += 2
		}
	}
}

func (s *Status) update(rec *record, r *Result) {
	switch r.Kind {
	case Woken:
		// Those that are held back stay so: nothing else is told of them until they run.
		rec.due = rec.after != conditionBlocked && rec.after != conditionWaiting
	case Started:
		rec.running, rec.due = true, false
	case Finished:
		s.Converged = false
		rec.due = rec.due && rec.running // an event that came during the run
		rec.running = false
		if !r.Left {
			rec.finish(r)
		}
	case Blocked:
		rec.hold(conditionBlocked, r)
	case Waiting:
		s.Converged = false
		rec.hold(conditionWaiting, r)
		rec.content = r.Noop
	case Flapping:
		if s.flapping == nil {
			s.flapping = map[*Vertex]dispute{}
		}
		s.flapping[r.Vertex] = dispute{r.Cause, r.Count, r.Time.Add(r.RetryAfter)}
	case Steady:
		delete(s.flapping, r.Vertex)
	}
}

// finish notes what came of a run.
func (rec *record) finish(r *Result) {
	rec.began, rec.took = r.Time.UnixNano(), int64(r.Took)
	rec.ran(&r.Cause)
	rec.more = nil
	rec.after = conditionRight
	if r.Err == nil && !r.Outcome.Changed && r.Batch == 0 {
		return
	}
	p := &particulars{err: r.Err, changed: r.Outcome.Changed, noop: r.Noop, batch: r.Batch, changes: digest(r.Outcome.Changes)}
	rec.more = p
	if p.changed && !p.noop {
		rec.changes++
	}
	switch {
	case r.WillRetry:
		rec.after = conditionRetrying
		p.retry = r.Time.Add(r.Took + r.RetryAfter)
	case r.Err != nil:
		rec.after = conditionFailed
	case p.changed && p.noop:
		rec.after = conditionDiffers
	}
}

// ran notes the cause of a run, and makes a copy only of one that is new.
func (rec *record) ran(c *Cause) {
	switch {
	case *c == *causeSwap:
		rec.cause = causeSwap
	case *c == *causeRetry:
		rec.cause = causeRetry
	case *c == *causeResync:
		rec.cause = causeResync
	case rec.cause == nil || *rec.cause != *c:
		rec.cause = new(*c)
	}
}

// hold notes that the resource can't run, and keeps what its last run has come to.
func (rec *record) hold(why condition, r *Result) {
	var p particulars
	if rec.more != nil {
		p = *rec.more
	}
	p.by, p.output = r.By, r.Output
	rec.more, rec.after, rec.running, rec.due = &p, why, false, false
}

// stray notes the failure of a resource that is not in the graph, as when it can't be
// undone.
func (s *Status) stray(r *Result) {
	if r.Kind != Finished || r.Left || r.Vertex == nil {
		return
	}
	s.Converged = false
	delete(s.strays, r.Vertex)
	if r.Err != nil {
		if s.strays == nil {
			s.strays = map[*Vertex]error{}
		}
		s.strays[r.Vertex] = r.Err
	}
}

// place finds a vertex in the graph. That is quick for those that have come with it.
func (s *Status) place(v *Vertex) (int32, bool) {
	if v == nil || s.graph == nil {
		return 0, false
	}
	if i := v.index; int(i) < len(s.records) && s.graph.Vertices[i] == v {
		return i, true
	}
	i, ok := s.moved[v]
	return i, ok
}

// swap begins to keep records of a new graph, and keeps those of what has stayed in it.
func (s *Status) swap(r *Result) {
	records := make([]record, len(r.Graph.Vertices))
	var moved map[*Vertex]int32
	s.counts, s.trouble, s.changed = [conditions]int{}, 0, 0
	flapping := map[*Vertex]dispute{}
	for i, v := range r.Graph.Vertices {
		if old, ok := s.place(v); ok {
			records[i] = s.records[old]
		} else if v.Meta != nil && v.Meta.Hidden {
			records[i].after = conditionHidden
		}
		if int(v.index) != i {
			if moved == nil {
				moved = map[*Vertex]int32{}
			}
			moved[v] = int32(i)
		}
		s.counts[records[i].condition()]++
		if records[i].troubled() {
			s.trouble++
		}
		if records[i].changes > 0 {
			s.changed++
		}
		if f, ok := s.flapping[v]; ok {
			flapping[v] = f
		}
	}
	s.graph, s.since, s.records, s.moved, s.flapping = r.Graph, r.Time, records, moved, flapping
	s.out = adjacency{}
}

// Graph returns the graph that is in force; nil before the first one.
func (s *Status) Graph() *Graph { return s.graph }

// Idle reports whether no resource runs, as far as that is known: a run tells of starts
// only with Options.Trace.
func (s *Status) Idle() bool {
	if s.counts[conditionPending] == 0 {
		return true
	}
	return !slices.ContainsFunc(s.records, func(r record) bool { return r.running })
}

// Failures lists the failures of the resources that have failed or wait to be tried
// again, then a line for each that is blocked, then one for each that waits for a value,
// unless nothing is changed in this run; all of them in alphabetical order. It is empty
// when all is well.
func (s *Status) Failures() []error {
	if s.trouble+len(s.strays) == 0 {
		return nil
	}
	var failed, blocked, waiting []string
	errs := map[string]error{}
	note := func(list *[]string, v *Vertex, format string, args ...any) {
		name := v.String()
		*list = append(*list, name)
		errs[name] = fmt.Errorf("%s: "+format, append([]any{name}, args...)...)
	}
	for i := range s.records {
		rec, v := &s.records[i], s.graph.Vertices[i]
		switch {
		case !rec.troubled():
		case rec.after == conditionBlocked:
			why := "has failed"
			if by, ok := s.place(rec.more.by); ok && s.records[by].after == conditionWaiting {
				why = "waits for a value"
			}
			note(&blocked, v, "not run, because %s %s", rec.more.by, why)
		case rec.after == conditionWaiting:
			note(&waiting, v, "waits for %s, which has not sent %s", rec.more.by, rec.more.output)
		default:
			note(&failed, v, "%w", rec.more.err)
		}
	}
	for v, err := range s.strays {
		note(&failed, v, "%w", err)
	}
	var list []error
	for _, names := range [][]string{failed, waiting, blocked} {
		slices.Sort(names)
		for _, name := range names {
			list = append(list, errs[name])
		}
	}
	return list
}

// byPlace lists the flapping resources in the order of the graph.
func (s *Status) byPlace() []*Vertex {
	return slices.SortedFunc(maps.Keys(s.flapping), func(a, b *Vertex) int {
		i, _ := s.place(a)
		j, _ := s.place(b)
		return cmp.Compare(i, j)
	})
}
