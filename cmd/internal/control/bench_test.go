package control_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/mgmtproject/mgmt/cmd/internal/control"
	"github.com/mgmtproject/mgmt/cmd/internal/eventlog"
	"github.com/mgmtproject/mgmt/pipeline"
)

// BenchmarkListen is what every run pays for being there to be asked.
func BenchmarkListen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "socket")
	for b.Loop() {
		s, err := control.Listen(path, empty{}, eventlog.Header{}, noon)
		if err != nil {
			b.Fatal(err)
		}
		s.Close(eventlog.Exit{})
	}
}

// BenchmarkObserve is what a result costs: while nobody taps the run, and with a reader.
func BenchmarkObserve(b *testing.B) {
	path := filepath.Join(b.TempDir(), "socket")
	s, err := control.Listen(path, empty{}, eventlog.Header{}, noon)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(eventlog.Exit{})
	r := pipeline.Result{Kind: pipeline.Finished, Vertex: &pipeline.Vertex{Kind: "noop", Name: "a"}, Time: noon, Cause: pipeline.Cause{Kind: "swap"}}
	b.Run("nobody", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Observe(r)
		}
	})
	b.Run("a reader", func(b *testing.B) {
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		stream, err := control.NewClient(path).Tap(ctx, "", 0)
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer stream.Close()
			for {
				if _, err := stream.Next(); err != nil {
					return
				}
			}
		}()
		defer func() { cancel(); <-done }()
		for b.Loop() {
			s.Observe(r)
		}
	})
}
