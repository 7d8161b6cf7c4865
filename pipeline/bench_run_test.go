package pipeline_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// idler is a resource that is always right. It watches a bell if it is given one.
type idlerConfig struct {
	Bell string `param:"bell"`
	Tag  int    `param:"tag"`
}

func (c *idlerConfig) Build(string, sinks.Options) (sinks.Resource, error) { return (*idler)(c), nil }

type idler idlerConfig

func (i *idler) Watches() []sources.Watch {
	if i.Bell == "" {
		return nil
	}
	return []sources.Watch{bell(i.Bell)}
}

func (*idler) CheckApply(context.Context, bool) (sinks.Outcome, error) { return sinks.Outcome{}, nil }

// layeredGraph has n resources in 100 layers, with two edges each to the layer above.
func layeredGraph(tb testing.TB, n, tag int) *pipeline.Graph {
	g := &pipeline.Graph{Name: "layers"}
	width := n / 100
	cfg := &idlerConfig{Tag: tag}
	for i := range n {
		if i == n-1 {
			cfg = &idlerConfig{Bell: "last", Tag: tag}
		}
		v := g.Add("idler", fmt.Sprintf("vertex %d", i), cfg)
		if i >= width {
			above := (i/width - 1) * width
			g.Connect(g.Vertices[above+i%width], v, false)
			if j := above + (i*7+1)%width; j != above+i%width {
				g.Connect(g.Vertices[j], v, false)
			}
		}
	}
	if err := g.Compile(sinks.Options{}); err != nil {
		tb.Fatal(err)
	}
	return g
}

// running is a Run of graphs that a benchmark sends.
type running struct {
	bells                        *belfry
	updates                      chan pipeline.Update
	swapped, finished, converged chan time.Time
	stop                         func()
}

func startRun(b *testing.B) *running {
	r := &running{
		bells:   &belfry{rings: make(chan sources.Event), counts: map[string]int{}},
		updates: make(chan pipeline.Update),
		swapped: make(chan time.Time, 1), finished: make(chan time.Time, 1), converged: make(chan time.Time, 1),
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() {
		run := pipeline.Run(streams.FromChan(r.updates), pipeline.Options{Sources: []sources.Source{r.bells}})
		done <- run.Subscribe(ctx, func(res pipeline.Result) bool {
			switch {
			case res.Kind == pipeline.GraphSwapped:
				r.swapped <- time.Now()
			case res.Kind == pipeline.Converged:
				r.converged <- time.Now()
			case res.Kind == pipeline.Finished && res.Cause.Kind == "event":
				r.finished <- time.Now()
			}
			return true
		})
	}()
	r.stop = func() { cancel(); <-done }
	return r
}

// BenchmarkRunSweep swaps a graph of 100,000 changed resources in and measures from the
// swap until all of them have been checked.
func BenchmarkRunSweep(b *testing.B) {
	graphs := []*pipeline.Graph{layeredGraph(b, 100_000, 0), layeredGraph(b, 100_000, 1)}
	r := startRun(b)
	defer r.stop()
	var swaps, sweeps []time.Duration
	for b.Loop() {
		began := time.Now()
		r.updates <- pipeline.Update{Graph: graphs[len(swaps)%2]}
		swapped := <-r.swapped
		swaps = append(swaps, swapped.Sub(began))
		sweeps = append(sweeps, (<-r.converged).Sub(swapped))
	}
	slices.Sort(swaps)
	slices.Sort(sweeps)
	b.ReportMetric(float64(swaps[len(swaps)/2].Microseconds())/1e3, "p50-swap-ms")
	b.ReportMetric(float64(sweeps[len(sweeps)/2].Microseconds())/1e3, "p50-sweep-ms")
}

// BenchmarkRunEvent measures one event in a converged graph of 100,000 resources, from
// the source to the end of the CheckApply, and the memory of the engine's state.
func BenchmarkRunEvent(b *testing.B) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	empty := heap()
	g := layeredGraph(b, 100_000, 0)
	compiled := heap()
	r := startRun(b)
	defer r.stop()
	r.updates <- pipeline.Update{Graph: g}
	<-r.swapped
	<-r.converged
	state := heap()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		r.bells.rings <- sources.Event{Source: "bells", Watch: bell("last")}
		took = append(took, (<-r.finished).Sub(began))
		<-r.converged
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
	b.ReportMetric(float64(compiled-empty)/100_000, "graph-B/vertex")
	b.ReportMetric(float64(state-compiled)/100_000, "engine-B/vertex")
	runtime.KeepAlive(g)
}
