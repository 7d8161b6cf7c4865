package logcap_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mgmtproject/mgmt/examples/extend/logcap"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	allsinks "github.com/mgmtproject/mgmt/sinks/all"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	allsources "github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/streams"
)

func TestConformance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	sinktest.Run(t, logcap.Spec, sinktest.Case{
		Name:     "a log that has grown is emptied",
		Resource: path,
		Params:   map[string]any{"max": 10},
		Disturb:  func() error { return os.WriteFile(path, []byte("more than ten bytes\n"), 0o644) },
		State:    sinktest.Files(path),
	})
}

func TestInvalid(t *testing.T) {
	sinktest.Invalid(t, logcap.Spec, "log", nil, `path: "log" is not absolute`)
	sinktest.Invalid(t, logcap.Spec, "/var/log/x", map[string]any{"max": -1}, "max: -1 is negative")
}

// A program that wants the kind lists its Spec.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "log")
	if err := os.WriteFile(path, []byte("more than ten bytes\n"), 0o644); err != nil {
		panic(err)
	}

	kinds, err := sinks.NewRegistry(append(allsinks.Specs, logcap.Spec)...)
	if err != nil {
		panic(err)
	}
	g, err := pipeline.Load("graph.yaml", []byte(`
graph: logs
resources:
  logcap:
  - {name: `+path+`, max: 10}
`), kinds)
	if err != nil {
		panic(err)
	}
	if err := g.Compile(sinks.Options{}); err != nil {
		panic(err)
	}
	run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{
		Sources: allsources.New(nil), ConvergedExit: true,
	})
	for r, err := range run.Seq(context.Background()) {
		if err != nil {
			panic(err)
		}
		if r.Outcome.Changed {
			fmt.Println(r.Vertex.Kind, r.Outcome.Changes)
		}
	}
	// Output: logcap [size: 20 -> 0]
}
