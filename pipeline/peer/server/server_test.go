package server_test

import (
	"testing"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

func TestAServerKeepsWhatItWasGivenOverRestarts(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		s, err := server.Start(t.Context(), server.Options{Name: "a", Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Client().Get(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Kvs) == 0 && i > 0 {
			t.Error("what was put before the restart is gone")
		}
		if _, err := s.Client().Put(t.Context(), "x", "y"); err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal("the second stop:", err)
		}
	}
}
