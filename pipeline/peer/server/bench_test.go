package server_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

func BenchmarkStart(b *testing.B) {
	for name, base := range map[string]string{"in memory": tempDir(b), "on disk": b.TempDir()} {
		b.Run(name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				dir := filepath.Join(base, fmt.Sprint(i))
				s, err := server.Start(b.Context(), server.Options{Name: "a", Dir: dir})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Stop(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func BenchmarkRestart(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "a")
	for b.Loop() {
		s, err := server.Start(b.Context(), server.Options{Name: "a", Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkPut(b *testing.B) {
	s, err := server.Start(b.Context(), server.Options{Name: "a", Dir: filepath.Join(b.TempDir(), "a")})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Stop(b.Context()) }()
	for b.Loop() {
		if _, err := s.Client().Put(b.Context(), "x", "y"); err != nil {
			b.Fatal(err)
		}
	}
}
