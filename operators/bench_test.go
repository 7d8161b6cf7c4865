package operators_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/reactivex/rxgo/v2"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

type nop struct{ changed bool }

func (n *nop) CheckApply(context.Context, operators.Run) operators.Outcome {
	return operators.Outcome{Changed: n.changed}
}

// layered is 100 layers with two edges a vertex; dense is layers of 50 with ten.
func layered(tb testing.TB, n, layers, fanIn int, changed bool) *operators.Graph {
	width := n / layers
	sinks := make([]operators.Sink, n)
	shared := &nop{changed}
	var edges []operators.Edge
	for i := range n {
		sinks[i] = shared
		for k := range fanIn {
			if i >= width {
				from := (i/width-1)*width + (i*(6*k+1)+k)%width
				edges = append(edges, operators.Edge{From: int32(from), To: int32(i)})
			}
		}
	}
	return newGraph(tb, sinks, edges...)
}

// engine is a running Sequence with Converge behind it, and RxGo on both sides.
type engine struct {
	in       chan operators.Input
	idle     chan uint64
	finished int
	stop     func()
}

func startEngine(g *operators.Graph, rx bool) *engine {
	e := &engine{in: make(chan operators.Input, 1024), idle: make(chan uint64, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	in := streams.Merge(256, streams.FromChan(e.in), streams.Never[operators.Input]())
	if rx {
		in = streams.Via[operators.Input, operators.Input](in, 256, func(o rxgo.Observable, _ rxgo.Option) rxgo.Observable {
			return o.Map(func(_ context.Context, v any) (any, error) { return v, nil })
		})
	}
	out := operators.Converge(operators.Sequence(in, operators.SequenceOptions{}), operators.ConvergedOptions{Timeout: time.Hour})
	if rx {
		out = streams.Via[operators.Result, operators.Result](out, 1024, func(o rxgo.Observable, _ rxgo.Option) rxgo.Observable {
			return o.Filter(func(any) bool { return true })
		})
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		_ = out.Subscribe(ctx, func(r operators.Result) bool {
			switch r.Kind {
			case operators.Idle:
				e.idle <- r.Epoch
			case operators.Finished:
				e.finished++
			}
			return true
		})
	}()
	e.stop = func() { cancel(); <-done }
	e.in <- operators.Input{Graph: g}
	<-e.idle
	return e
}

func BenchmarkSequence(b *testing.B) {
	for _, rx := range []bool{false, true} {
		for _, bb := range []struct {
			name string
			g    func() *operators.Graph
			wake int32
		}{
			{"sweep of 100000 in layers", func() *operators.Graph { return layered(b, 100_000, 100, 2, false) }, operators.All},
			{"one event in 100000 that changes nothing", func() *operators.Graph { return layered(b, 100_000, 100, 2, false) }, 0},
			{"one event at a leaf of 100000", func() *operators.Graph { return layered(b, 100_000, 100, 2, true) }, 99_999},
			{"dense layers, 1000 vertices", func() *operators.Graph { return layered(b, 1000, 20, 10, true) }, operators.All},
			{"dense layers, 10000 vertices", func() *operators.Graph { return layered(b, 10_000, 200, 10, true) }, operators.All},
		} {
			b.Run(fmt.Sprintf("%s/rx=%v", bb.name, rx), func(b *testing.B) {
				e := startEngine(bb.g(), rx)
				defer e.stop()
				b.ReportAllocs()
				e.finished = 0
				var took []time.Duration
				for b.Loop() {
					began := time.Now()
					e.in <- operators.Input{Wake: []int32{bb.wake}}
					<-e.idle
					took = append(took, time.Since(began))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
				b.ReportMetric(float64(e.finished)/float64(b.N), "runs/op")
			})
		}
	}
}

func BenchmarkSequenceMemory(b *testing.B) {
	for b.Loop() {
		heap := func() uint64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc + m.StackInuse
		}
		before := heap()
		g := layered(b, 100_000, 100, 2, false)
		e := startEngine(g, true)
		b.ReportMetric(float64(heap()-before)/100_000, "B/vertex")
		e.stop()
		runtime.KeepAlive(g)
	}
}

// scheduled is a nop with a Schedule.
type scheduled struct {
	nop
	schedule operators.Schedule
}

func (s *scheduled) Schedule() operators.Schedule { return s.schedule }

// all is a batch that has nothing to do.
type all struct{}

func (all) CheckApply(_ context.Context, members []operators.Sink, _ []operators.Run) []operators.Outcome {
	return make([]operators.Outcome, len(members))
}

// BenchmarkSchedule sweeps vertices that share a semaphore, or are one batch. The cost of
// one is to be the same for all sizes.
func BenchmarkSchedule(b *testing.B) {
	three := []operators.Semaphore{{Name: "s", Count: 3}}
	for _, bb := range []struct {
		name     string
		schedule operators.Schedule
	}{
		{"without", operators.Schedule{}},
		{"one semaphore of 3", operators.Schedule{Semaphores: three}},
		{"one semaphore of 3, waiting", operators.Schedule{Semaphores: three, Waits: true}},
		{"one batch", operators.Schedule{Batch: all{}}},
	} {
		for _, n := range []int{1000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/%d", bb.name, n), func(b *testing.B) {
				sinks := make([]operators.Sink, n)
				for i := range sinks {
					sinks[i] = &scheduled{schedule: bb.schedule}
				}
				e := startEngine(newGraph(b, sinks), false)
				defer e.stop()
				b.ReportAllocs()
				for b.Loop() {
					e.in <- operators.Input{Wake: []int32{operators.All}}
					<-e.idle
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/vertex")
			})
		}
	}
}

// BenchmarkSwap puts a graph in the place of the same one.
func BenchmarkSwap(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := layered(b, n, 100, 2, false)
			carry := make([]operators.Carry, n)
			for i := range carry {
				carry[i] = operators.Carry{Old: int32(i), Same: true}
			}
			e := startEngine(g, false)
			defer e.stop()
			for b.Loop() {
				e.in <- operators.Input{Graph: g, Carry: carry}
				<-e.idle
			}
		})
	}
}
