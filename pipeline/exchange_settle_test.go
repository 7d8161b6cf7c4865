package pipeline_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/noop"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

// nowhere is a mesh that can't be reached.
type nowhere struct{ mesh.Store }

func (nowhere) Changes(mesh.Watch) streams.Observable[mesh.Change] {
	return streams.Never[mesh.Change]()
}

func TestARunWaitsForTheMeshOnlyIfItHasAnythingToExchange(t *testing.T) {
	const limit = time.Minute
	for _, tt := range []struct {
		name  string
		graph string
		noop  bool
		want  time.Duration
	}{
		{"nothing", "resources: {noop: [{name: a}]}", false, 0},
		{"an export", "resources: {noop: [{name: '@@a'}]}", false, limit},
		{"something to collect", "resources: {noop: [{name: a}]}\ncollect: [{kind: noop}]", false, limit},
		{"an export of a run that changes nothing", "resources: {noop: [{name: '@@a'}]}", true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg, err := sinks.NewRegistry(noop.Spec)
				if err != nil {
					t.Fatal(err)
				}
				g, err := pipeline.Load("graph.yaml", []byte("graph: g\n"+tt.graph), reg)
				if err != nil {
					t.Fatal(err)
				}
				x := pipeline.NewExchange(pipeline.ExchangeOptions{Host: "a", Store: func() mesh.Store { return nowhere{} }, Kinds: reg, Noop: tt.noop})
				source := x.Settled(limit)
				ctx, cancel := context.WithCancel(t.Context())
				passed := make(chan struct{}, 10)
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					graphs := streams.New(func(ctx context.Context, emit func(pipeline.Update) bool) error {
						emit(pipeline.Update{Graph: g})
						<-ctx.Done()
						return nil
					})
					_ = x.Graphs(graphs).Subscribe(ctx, func(pipeline.Update) bool {
						passed <- struct{}{}
						return true
					})
				}()
				<-passed
				for _, want := range []time.Duration{tt.want, 0} { // it waits no more than once
					began := time.Now()
					if err := source.(sources.Flusher).Flush(ctx); err != nil {
						t.Error(err)
					}
					if took := time.Since(began); took != want {
						t.Errorf("it waits %v, want %v", took, want)
					}
				}
				if source.Add(mesh.Key("k")) == nil {
					t.Error("it serves watches")
				}
				cancel()
				<-ended
				if err := source.(sources.Flusher).Flush(ctx); err == nil {
					t.Error("it waits for nobody without an error")
				}
			})
		})
	}
}
