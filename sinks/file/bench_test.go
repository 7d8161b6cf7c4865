package file_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
)

const benchFiles = 10_000

// benchDir is a directory of the filesystem that MGMT_BENCH_DIR names; /dev/shm is in
// memory, so that the work is measured and not the disk.
func benchDir(b *testing.B) string {
	if base := os.Getenv("MGMT_BENCH_DIR"); base != "" {
		b.Setenv("TMPDIR", base)
	}
	return b.TempDir()
}

func benchText(i int) string { return strings.Repeat(fmt.Sprintf("line %d\n", i), 100) }

func benchResources(b *testing.B, d string) ([]sinks.Resource, []string, [][]byte) {
	b.Helper()
	var rs []sinks.Resource
	var paths []string
	var texts [][]byte
	for i := range benchFiles {
		text := benchText(i)
		path := filepath.Join(d, fmt.Sprint("f", i))
		r, err := (&file.Config{Content: &text}).Build(path, sinks.Options{})
		if err != nil {
			b.Fatal(err)
		}
		rs, paths, texts = append(rs, r), append(paths, path), append(texts, []byte(text))
	}
	return rs, paths, texts
}

func perFile(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchFiles, "ns/file")
}

// BenchmarkRight looks at 10,000 files that are as they shall be.
func BenchmarkRight(b *testing.B) {
	rs, paths, texts := benchResources(b, benchDir(b))
	for i, path := range paths {
		if err := os.WriteFile(path, texts[i], 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("CheckApply", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, r := range rs {
				if out, err := r.CheckApply(b.Context(), true); err != nil || out.Changed {
					b.Fatal(out, err)
				}
			}
		}
		perFile(b)
	})
	// The least that a program can do: open, fstat, read, compare, close.
	b.Run("minimal", func(b *testing.B) {
		buf := make([]byte, 64<<10)
		for b.Loop() {
			for i, path := range paths {
				fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					b.Fatal(err)
				}
				var st unix.Stat_t
				if err := unix.Fstat(fd, &st); err != nil {
					b.Fatal(err)
				}
				n, err := unix.Read(fd, buf)
				if err != nil || !bytes.Equal(buf[:n], texts[i]) {
					b.Fatal("it differs", err)
				}
				unix.Close(fd)
			}
		}
		perFile(b)
	})
	// What a program in Go does by habit.
	b.Run("os.ReadFile", func(b *testing.B) {
		for b.Loop() {
			for i, path := range paths {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, texts[i]) {
					b.Fatal("it differs", err)
				}
			}
		}
		perFile(b)
	})
}

// BenchmarkCreate writes 10,000 files that are missing.
func BenchmarkCreate(b *testing.B) {
	d := benchDir(b)
	rs, paths, texts := benchResources(b, d)
	removeAll := func() {
		for _, path := range paths {
			os.Remove(path)
		}
	}
	b.Run("CheckApply", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, r := range rs {
				if out, err := r.CheckApply(b.Context(), true); err != nil || !out.Changed {
					b.Fatal(out, err)
				}
			}
			b.StopTimer()
			removeAll()
			b.StartTimer()
		}
		perFile(b)
	})
	// The least that a program can do: open a temporary file, write, close, rename.
	b.Run("minimal", func(b *testing.B) {
		for b.Loop() {
			for i, path := range paths {
				temp := path + ".tmp"
				fd, err := unix.Open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o666)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := unix.Write(fd, texts[i]); err != nil {
					b.Fatal(err)
				}
				unix.Close(fd)
				if err := unix.Rename(temp, path); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			removeAll()
			b.StartTimer()
		}
		perFile(b)
	})
}
