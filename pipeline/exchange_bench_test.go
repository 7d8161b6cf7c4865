package pipeline_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
	"github.com/mgmtproject/mgmt/streams"
)

// manyExports is a graph that exports n resources, of which the first says text.
func manyExports(n int, text string) string {
	var b strings.Builder
	b.WriteString("graph: g\nresources:\n  file:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {name: \"@@/srv/f%d\", content: %q, mode: \"0644\"}\n", i, text)
		text = "the same text all the time"
	}
	return b.String()
}

// exchange starts an exchange and returns what it is given and what comes out of it.
func exchange(b *testing.B, p *party) (in chan<- pipeline.Update, out <-chan *pipeline.Graph) {
	graphs, updates := make(chan pipeline.Update), make(chan *pipeline.Graph, 1000)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = pipeline.NewExchange(p.options).Graphs(streams.FromChan(graphs)).Subscribe(ctx, func(u pipeline.Update) bool {
			updates <- u.Graph
			return true
		})
	}()
	b.Cleanup(func() { cancel(); <-done })
	return graphs, updates
}

func (p *party) compiled(text string) pipeline.Update {
	p.t.Helper()
	g, err := pipeline.Load(p.host+".yaml", []byte(text), p.options.Kinds)
	if err == nil {
		err = g.Compile(sinks.Options{})
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return pipeline.Update{Graph: g}
}

// BenchmarkExchange changes one of some exports on a host, and measures how long it takes
// until another emits a graph with it. The median is what is to be compared with that of
// BenchmarkBareWatch.
func BenchmarkExchange(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			node := meshtest.Start(b)
			from, to := partyOf(b, node.Store(b, "a"), "a"), partyOf(b, node.Store(b, "b"), "b")
			put, _ := exchange(b, from)
			_, got := exchangeOf(b, to, "graph: g\ncollect: [{kind: file}]\n")
			loaded := from.compiled(manyExports(n, "first"))
			began := time.Now()
			put <- loaded
			for g := range got {
				if len(g.Vertices) == n {
					break
				}
			}
			all := time.Since(began)
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				text := fmt.Sprintf("text %d", i)
				u := from.compiled(manyExports(n, text))
				time.Sleep(20 * time.Millisecond) // all is quiet
				b.StartTimer()
				began := time.Now()
				put <- u
				for g := range got {
					if content, _ := params.Get(g.Vertices[0].Config, "content"); content == text {
						break
					}
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
			b.ReportMetric(float64(all.Milliseconds()), "ms-to-all")
		})
	}
}

func exchangeOf(b *testing.B, p *party, text string) (in chan<- pipeline.Update, out <-chan *pipeline.Graph) {
	in, out = exchange(b, p)
	in <- p.compiled(text)
	return in, out
}

// BenchmarkBareWatch is what the store alone takes from a write to its change at another
// host.
func BenchmarkBareWatch(b *testing.B) {
	node := meshtest.Start(b)
	from, to := node.Store(b, "a"), node.Store(b, "b")
	changes := make(chan mesh.Change, 100)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = to.Changes(mesh.Below(mesh.ExportPrefix)).Subscribe(ctx, func(c mesh.Change) bool { changes <- c; return true })
	}()
	<-changes
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		time.Sleep(20 * time.Millisecond) // all is quiet
		b.StartTimer()
		began := time.Now()
		if _, err := from.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put(mesh.ExportKey("a", "file", "x"), []byte(strconv.Itoa(i)))}}); err != nil {
			b.Fatal(err)
		}
		<-changes
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
	cancel()
	<-done
}
