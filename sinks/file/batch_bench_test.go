package file_test

import (
	"bytes"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// BenchmarkBatch says what it would bring to apply the files of a directory as a group, by
// names relative to the open directory and by one goroutine, against each by itself and by
// two goroutines, as the engine does on two processors.
func BenchmarkBatch(b *testing.B) {
	d := benchDir(b)
	rs, paths, texts := benchResources(b, d)
	dir, err := unix.Open(d, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(dir)
	var places, whole []atomicfile.Place
	for _, path := range paths {
		places, whole = append(places, atomicfile.Place{Dir: dir, Name: filepath.Base(path), Path: path}), append(whole, atomicfile.At(path))
	}
	create := func(b *testing.B, places []atomicfile.Place) {
		for i, p := range places {
			err := atomicfile.Replace(b.Context(), p, atomicfile.Options{Meta: atomicfile.Keep}, func(t *atomicfile.Temp) error {
				_, err := t.Write(texts[i])
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	check := func(b *testing.B, places []atomicfile.Place) {
		buf := make([]byte, 64<<10)
		var st unix.Stat_t
		for i, p := range places {
			if ok, err := p.Stat(&st); err != nil || !ok {
				b.Fatal(ok, err)
			}
			fd, err := p.Open(0, false, st.Uid)
			if err != nil {
				b.Fatal(err)
			}
			if n, err := atomicfile.Read(fd, buf[:len(texts[i])]); err != nil || !bytes.Equal(buf[:n], texts[i]) {
				b.Fatal("it differs", err)
			}
			atomicfile.Close(fd)
		}
	}
	alone := func(workers int) func(b *testing.B) {
		return func(b *testing.B) {
			var running sync.WaitGroup
			each := len(rs) / workers
			for w := range workers {
				running.Go(func() { applyAll(b, rs[w*each:(w+1)*each]) })
			}
			running.Wait()
		}
	}
	for _, way := range []struct {
		name   string
		create bool
		do     func(b *testing.B)
	}{
		{"create/by name, one goroutine", true, func(b *testing.B) { create(b, places) }},
		{"create/by path, one goroutine", true, func(b *testing.B) { create(b, whole) }},
		{"create/CheckApply, one goroutine", true, alone(1)},
		{"create/CheckApply, two goroutines", true, alone(2)},
		{"right/by name, one goroutine", false, func(b *testing.B) { check(b, places) }},
		{"right/by path, one goroutine", false, func(b *testing.B) { check(b, whole) }},
		{"right/CheckApply, one goroutine", false, alone(1)},
		{"right/CheckApply, two goroutines", false, alone(2)},
	} {
		b.Run(way.name, func(b *testing.B) {
			var busy time.Duration
			for b.Loop() {
				if way.create {
					b.StopTimer()
					for _, p := range whole {
						if err := p.Unlink(); err != nil {
							b.Fatal(err)
						}
					}
					b.StartTimer()
				}
				before := processorTime()
				way.do(b)
				busy += processorTime() - before
			}
			perFile(b)
			b.ReportMetric(float64(busy.Nanoseconds())/float64(b.N)/benchFiles, "cpu-ns/file")
		})
	}
}

// processorTime is what this process has used so far: it says more than the clock on a
// machine that has something else to do.
func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func applyAll(b *testing.B, rs []sinks.Resource) {
	for _, r := range rs {
		if _, err := r.CheckApply(b.Context(), true); err != nil {
			b.Error(err)
		}
	}
}
