package state_test

import (
	"fmt"
	"testing"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/pipeline/state"
)

// BenchmarkSave adds a refresh and drops it, each with its flush to the disk.
func BenchmarkSave(b *testing.B) {
	s, err := state.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	add, drop := pipeline.StateChanges{AddRefreshes: []string{"exec[a]"}}, pipeline.StateChanges{DropRefreshes: []string{"exec[a]"}}
	for b.Loop() {
		if err := s.Save(add); err != nil {
			b.Fatal(err)
		}
		if err := s.Save(drop); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen reads the state at the start of a run.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{0, 1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			s, err := state.Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			var c pipeline.StateChanges
			for i := range n {
				c.AddRefreshes = append(c.AddRefreshes, numbered(i))
				c.PutReversals = append(c.PutReversals, step(i).PutReversals...)
			}
			if err := s.Save(c); err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s, err := state.Open(dir)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
