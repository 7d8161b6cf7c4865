package operators

import (
	"context"
	"fmt"
	"time"
)

// Edge orders two vertices: From runs before To. With Notify, a change of From is also
// a notification to To.
type Edge struct {
	From, To int32
	Notify   bool
}

// Sink does the work of one vertex. Sequence calls it from one goroutine at a time.
type Sink interface {
	// CheckApply brings the vertex to its desired state. It returns soon after ctx is
	// done: when the subscription of Sequence ends, and, if its Schedule waits, also when
	// its vertex leaves the graph.
	CheckApply(ctx context.Context, run Run) Outcome
}

// Scheduled is a Sink with wishes about when and how it runs.
type Scheduled interface {
	Sink

	// Schedule is called once for every graph that the sink is a part of, just before the
	// graph is swapped in and, if the sink is in the running one, beside its CheckApply.
	// A run that has begun goes on as it was scheduled.
	Schedule() Schedule
}

// Schedule says how Sequence runs a Sink. The zero value is how it runs any.
type Schedule struct {
	// Waits says that its CheckApply mostly waits for something outside the process. It
	// does not take a worker and can be cancelled on its own.
	Waits bool

	// Semaphores are held by the vertex while it runs: all of them, taken at once, when
	// nothing else holds it back. Those in line for one get it in their order. The vertex
	// is pending meanwhile.
	Semaphores []Semaphore

	// Batch, if not nil, runs the vertex together with others that are ready at the same
	// time and whose Batch is equal. It is comparable. No two CheckApplys of equal batches
	// run at once: what becomes ready meanwhile is the next batch. A batch waits, as
	// above, and counts as one against MaxParallel.
	Batch Batch
}

// Semaphore is a counting semaphore, shared by all sinks of a graph that name it. What
// runs when the graph is swapped holds its semaphores to its end.
type Semaphore struct {
	Name  string
	Count int // how many may hold it, at least 1; the largest that is named counts
}

// Batch applies several vertices together.
type Batch interface {
	// CheckApply is called in place of that of the members, one or more, and returns the
	// outcome of each in their order. A panic, or outcomes of another number, fail them
	// all. Ctx is done when the subscription of Sequence ends, or when all members have
	// left the graph.
	CheckApply(ctx context.Context, members []Sink, runs []Run) []Outcome
}

// Run tells a Sink why it runs.
type Run struct {
	Cause   Cause
	Refresh bool // a notification is pending; it is kept until a run that saw it succeeds
}

// Outcome is what one CheckApply led to.
type Outcome struct {
	// Changed makes the successors of the vertex run. It may be set beside Err: then
	// the successors learn of it when a later run succeeds.
	Changed bool

	// Err is the failure, nil for success. A failed vertex holds back its descendants
	// until an event on it or on an ancestor makes it run again.
	Err error

	// Retry asks for another run after a failure, RetryAfter from now. Until then the
	// vertex is pending: it holds back its descendants and convergence.
	Retry      bool
	RetryAfter time.Duration

	// Rest is how long the vertex must not start again after a success, or a failure
	// without Retry. Events during that time lead to one run at its end; until then the
	// vertex is pending. Without an event it is not, and nothing waits for it.
	Rest time.Duration

	// Sent lists successors that have to run after a success even though nothing has
	// changed, since they are sent a new value. It is nil or made for this Outcome, and
	// the sinks in it are comparable. A failure sends nothing.
	Sent []Sink

	// Detail is passed on to the Result as it is.
	Detail any
}

// CauseKind says what made a vertex run.
type CauseKind uint8

// The causes of a run.
const (
	CauseSwap        CauseKind = iota // the vertex is new in the graph, or has been changed
	CauseEvent                        // an Input woke it
	CausePredecessor                  // a predecessor changed something, or recovered
	CauseRetry                        // an earlier attempt failed
)

// String is the cause in a word: "swap", "event", "predecessor", "retry".
func (k CauseKind) String() string {
	return [...]string{"swap", "event", "predecessor", "retry"}[k]
}

// Cause is the last thing that made a vertex run; there may have been several.
type Cause struct {
	Kind CauseKind
	Ref  int32 // for CauseEvent: the Ref of the Input
	Sink Sink  // for CausePredecessor: which
}

// Graph is an immutable directed acyclic graph in compressed adjacency form. It takes
// 20 bytes a vertex and 4 an edge, beside the sinks themselves.
type Graph struct {
	sinks []Sink
	off   []int32
	out   []uint32 // successor, with notifyBit
}

const notifyBit = 1 << 31

// NewGraph builds the graph of sinks, whose indices are the vertices of edges. It fails
// for an edge whose end does not exist, and for a cycle.
func NewGraph(sinks []Sink, edges []Edge) (*Graph, error) {
	n := len(sinks)
	g := &Graph{sinks: sinks, off: make([]int32, n+1), out: make([]uint32, len(edges))}
	indegree := make([]int32, n)
	for _, e := range edges {
		if e.From < 0 || int(e.From) >= n || e.To < 0 || int(e.To) >= n {
			return nil, fmt.Errorf("edge %d -> %d: the graph has vertices 0 to %d", e.From, e.To, n-1)
		}
		g.off[e.From+1]++
		indegree[e.To]++
	}
	for i := range n {
		g.off[i+1] += g.off[i]
	}
	next := append([]int32(nil), g.off[:n]...)
	for _, e := range edges {
		to := uint32(e.To)
		if e.Notify {
			to |= notifyBit
		}
		g.out[next[e.From]] = to
		next[e.From]++
	}
	return g, g.checkAcyclic(indegree)
}

// checkAcyclic removes vertices without predecessors until none is left, or a cycle is.
func (g *Graph) checkAcyclic(indegree []int32) error {
	var free []int32
	for v, d := range indegree {
		if d == 0 {
			free = append(free, int32(v))
		}
	}
	left := len(indegree)
	for len(free) > 0 {
		v := free[len(free)-1]
		free = free[:len(free)-1]
		left--
		for _, e := range g.succ(v) {
			y := int32(e &^ notifyBit)
			if indegree[y]--; indegree[y] == 0 {
				free = append(free, y)
			}
		}
	}
	if left > 0 {
		return fmt.Errorf("the graph has a cycle among %d of its vertices", left)
	}
	return nil
}

// Len is the number of vertices.
func (g *Graph) Len() int { return len(g.sinks) }

// Sink returns the sink of vertex v.
func (g *Graph) Sink(v int32) Sink { return g.sinks[v] }

func (g *Graph) succ(v int32) []uint32 { return g.out[g.off[v]:g.off[v+1]] }
