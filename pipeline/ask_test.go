package pipeline_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/streams"
)

func TestAQuestionIsAnsweredAfterWhatCameBeforeIt(t *testing.T) {
	g, err := pipeline.Load("g.yaml", []byte("graph: g\nresources:\n  step:\n  - {name: a}\n"), traceRegistry(t))
	if err == nil {
		err = g.Compile(sinks.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		updates := streams.New(func(ctx context.Context, emit func(pipeline.Update) bool) error {
			for _, u := range []pipeline.Update{{Ask: 1}, {Graph: g}, {Ask: 2}} {
				emit(u)
			}
			time.Sleep(time.Minute) // all has converged
			emit(pipeline.Update{Ask: 3})
			<-ctx.Done()
			return context.Cause(ctx)
		})
		var got []string
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_ = pipeline.Run(updates, pipeline.Options{}).Subscribe(ctx, func(r pipeline.Result) bool {
			switch r.Kind {
			case pipeline.Answered:
				got = append(got, []string{1: "one", 2: "two", 3: "three"}[r.Count])
			case pipeline.GraphSwapped, pipeline.Converged:
				got = append(got, string(r.Kind))
			}
			return true
		})
		// Before a graph is in force there is somebody to answer too; and a question is no
		// disturbance, so what has converged does not converge again.
		at := func(word string) int { return slices.Index(got, word) }
		if len(got) != 5 || at("one") != 0 || at("graph") != 1 || at("two") < 2 || at("three") != 4 || at("converged") < 2 {
			t.Errorf("the results are %q", got)
		}
	})
}
