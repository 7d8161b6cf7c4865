package operators_test

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

// checker is a sink that looks at what Sequence promises from the inside.
type checker struct {
	*world
	schedule operators.Schedule
	gauges   []*gauge // of its semaphores
	running  atomic.Bool
	failed   atomic.Bool
	events   atomic.Int64 // sent to this vertex
	saw      atomic.Int64 // of these, before its last start
	resting  time.Time    // until then
}

func (c *checker) Schedule() operators.Schedule { return c.schedule }

func (c *checker) CheckApply(context.Context, operators.Run) operators.Outcome {
	if c.running.Swap(true) {
		c.t.Error("a vertex runs twice at once")
	}
	if time.Now().Before(c.resting) {
		c.t.Error("a vertex runs while it rests")
	}
	for _, g := range c.gauges {
		if n := g.used.Add(1); n > g.count {
			c.t.Errorf("%d hold a semaphore of %d", n, g.count)
		}
	}
	c.saw.Store(c.events.Load())
	o := c.outcome()
	c.failed.Store(o.Err != nil)
	for _, g := range c.gauges {
		g.used.Add(-1)
	}
	if !o.Retry {
		c.resting = time.Now().Add(o.Rest)
	}
	c.running.Store(false)
	return o
}

// gauge counts who holds a semaphore.
type gauge struct {
	name  string
	count int64
	used  atomic.Int64
}

// squad is a batch that lets its members run one after the other.
type squad struct {
	*world
	running atomic.Bool
}

func (b *squad) CheckApply(ctx context.Context, members []operators.Sink, runs []operators.Run) (outcomes []operators.Outcome) {
	if b.running.Swap(true) {
		b.t.Error("a batch runs twice at once")
	}
	for i, m := range members {
		outcomes = append(outcomes, m.CheckApply(ctx, runs[i]))
	}
	b.running.Store(false)
	return outcomes
}

// world is a random graph that changes.
type world struct {
	t        *testing.T
	r        *rand.Rand // belongs to the input
	mu       sync.Mutex
	dice     *rand.Rand // belongs to the sinks
	plain    bool
	gauges   []*gauge
	squads   []*squad
	checkers []*checker
	sinks    []operators.Sink
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1)), dice: rand.New(rand.NewPCG(seed, 2)), plain: seed%3 == 0}
	w.gauges = []*gauge{{name: "s", count: 1}, {name: "t", count: 2}, {name: "u", count: 5}}
	w.squads = []*squad{{world: w}, {world: w}}
	return w
}

func (w *world) outcome() (o operators.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dice.IntN(20) == 0 {
		o.Err = errBoom
		o.Retry = w.dice.IntN(2) == 0
		o.RetryAfter = time.Duration(w.dice.IntN(300)) * time.Microsecond
	}
	o.Changed = w.dice.IntN(3) == 0
	if !w.plain && w.dice.IntN(5) == 0 {
		o.Rest = time.Duration(w.dice.IntN(300)) * time.Microsecond
	}
	if !w.plain && w.dice.IntN(5) == 0 {
		o.Sent = []operators.Sink{w.sinks[w.dice.IntN(len(w.sinks))]}
	}
	return o
}

func (w *world) newChecker() *checker {
	c := &checker{world: w}
	if w.plain {
		return c
	}
	c.schedule.Waits = w.r.IntN(4) == 0
	for _, g := range w.gauges {
		if w.r.IntN(6) == 0 {
			c.gauges = append(c.gauges, g)
			c.schedule.Semaphores = append(c.schedule.Semaphores, operators.Semaphore{Name: g.name, Count: int(g.count)})
		}
	}
	if w.r.IntN(4) == 0 {
		c.schedule.Batch = w.squads[w.r.IntN(len(w.squads))]
	}
	return c
}

// swap draws another graph, which keeps most of the checkers in another order.
func (w *world) swap() operators.Input {
	n := 20 + w.r.IntN(100)
	old := w.r.Perm(len(w.checkers))
	var carry []operators.Carry
	var checkers []*checker
	var sinks []operators.Sink
	var edges []operators.Edge
	for i := range n {
		c := operators.Carry{Old: -1}
		if len(old) > 0 && w.r.IntN(5) > 0 {
			c = operators.Carry{Old: int32(old[0]), Same: w.r.IntN(5) > 0}
			old = old[1:]
		}
		if c.Same {
			checkers = append(checkers, w.checkers[c.Old])
		} else {
			checkers = append(checkers, w.newChecker())
		}
		carry, sinks = append(carry, c), append(sinks, checkers[i])
		for range min(i, w.r.IntN(4)) {
			edges = append(edges, operators.Edge{From: int32(w.r.IntN(i)), To: int32(i)})
		}
	}
	w.mu.Lock()
	w.checkers, w.sinks = checkers, sinks
	w.mu.Unlock()
	return operators.Input{Graph: newGraph(w.t, sinks, edges...), Carry: carry}
}

// inputs swaps in a graph and others later, and wakes vertices.
func (w *world) inputs() streams.Observable[operators.Input] {
	return streams.New(func(_ context.Context, emit func(operators.Input) bool) error {
		for i := range 400 {
			if i%100 == 0 {
				emit(w.swap())
			}
			v := w.r.IntN(len(w.checkers))
			w.checkers[v].events.Add(1)
			emit(operators.Input{Wake: []int32{int32(v)}})
			if w.r.IntN(10) == 0 {
				time.Sleep(time.Duration(w.r.IntN(50)) * time.Microsecond)
			}
		}
		return nil
	})
}

// TestSequenceUnderConcurrency runs random graphs on real workers, with random failures,
// retries, pauses, schedules and swaps, and looks at the promises that can be seen from
// outside the lock. The exact rules are held against a model in TestMachineFitsModel.
func TestSequenceUnderConcurrency(t *testing.T) { underConcurrency(t, 40) }

func TestSoakSequence(t *testing.T) {
	if os.Getenv("MGMT_SOAK") == "" {
		t.Skip("takes minutes: make soak")
	}
	underConcurrency(t, 10_000)
}

func underConcurrency(t *testing.T, seeds uint64) {
	for seed := range seeds {
		w := newWorld(t, seed)
		excused := map[operators.Sink]bool{}
		var busy, idle uint64
		for res, err := range operators.Sequence(w.inputs(), operators.SequenceOptions{Workers: 3}).Seq(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			switch res.Kind {
			case operators.Blocked:
				excused[res.Sink] = true
			case operators.Finished:
				delete(excused, res.Sink)
			case operators.Busy:
				busy = max(busy, res.Epoch)
			case operators.Idle:
				idle = max(idle, res.Epoch)
			}
		}
		if idle < busy || idle == 0 {
			t.Fatalf("seed %d: the stream ended before the graph was idle", seed)
		}
		for i, c := range w.checkers {
			if c.saw.Load() != c.events.Load() && !c.failed.Load() && !excused[c] {
				t.Fatalf("seed %d: vertex %d has lost an event", seed, i)
			}
		}
		for _, g := range w.gauges {
			if n := g.used.Load(); n != 0 {
				t.Fatalf("seed %d: %d hold %s at the end", seed, n, g.name)
			}
		}
	}
}
