package inotify_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// BenchmarkAdd adds 10,000 paths in one directory, and then in as many.
func BenchmarkAdd(b *testing.B) {
	const n = 10_000
	for _, dirs := range []int{1, n} {
		b.Run(fmt.Sprintf("directories=%d", dirs), func(b *testing.B) {
			root := b.TempDir()
			watches := make([]sources.Watch, n)
			for i := range n {
				dir := root + "/d" + strconv.Itoa(i%dirs)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					b.Fatal(err)
				}
				path := dir + "/f" + strconv.Itoa(i)
				if err := os.WriteFile(path, nil, 0o644); err != nil {
					b.Fatal(err)
				}
				watches[i] = inotify.Path(path)
			}
			var closing []time.Duration
			for b.Loop() {
				src := inotify.New(inotify.Options{})
				for _, w := range watches {
					if err := src.Add(w); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				stop := consume(b, src, func() {})
				_ = src.Flush(b.Context())
				start := time.Now()
				stop()
				closing = append(closing, time.Since(start))
				b.StartTimer()
			}
			slices.Sort(closing)
			b.ReportMetric(float64(closing[len(closing)/2].Microseconds()), "µs-to-close")
		})
	}
}

// BenchmarkFlush is the price of the barrier on an empty queue.
func BenchmarkFlush(b *testing.B) {
	src := inotify.New(inotify.Options{})
	if err := src.Add(inotify.Path(b.TempDir())); err != nil {
		b.Fatal(err)
	}
	defer consume(b, src, func() {})()
	for b.Loop() {
		if err := src.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIrrelevant is the price of 5,000 events that concern nobody, from the kernel's
// queue to being dropped. Two files are changed in turns, or the kernel would merge.
func BenchmarkIrrelevant(b *testing.B) {
	const events = 5000
	dir := b.TempDir()
	for _, name := range []string{"/a", "/b"} {
		if err := os.WriteFile(dir+name, nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	src := inotify.New(inotify.Options{})
	for b.Loop() {
		b.StopTimer()
		if err := src.Add(inotify.Path(dir + "/f")); err != nil {
			b.Fatal(err)
		}
		for i := range events {
			if err := os.Chmod(dir+"/"+"ab"[i%2:][:1], 0o600); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		stop := consume(b, src, func() {})
		if err := src.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}

// consume subscribes to src until stop.
func consume(b *testing.B, src *inotify.Source, each func()) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		_ = src.Events().Subscribe(ctx, func(sources.Event) bool { each(); return true })
		close(ended)
	}()
	return func() { cancel(); <-ended }
}

// BenchmarkLatency measures, in turns, the time from a change until a bare loop around
// read(2) through Go's poller has it, and until Events has emitted it, with 10,000
// files under watch. It reports medians and their ratio.
func BenchmarkLatency(b *testing.B) {
	const n = 10_000
	dir := b.TempDir()
	src := inotify.New(inotify.Options{})
	paths := make([]string, n)
	for i := range n {
		paths[i] = dir + "/f" + strconv.Itoa(i)
		if err := os.WriteFile(paths[i], nil, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	var raw, ours []time.Duration
	measure := func(woken <-chan time.Time, samples *[]time.Duration, n int) {
		for i := range n {
			f, err := os.OpenFile(paths[i*37%len(paths)], os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				b.Fatal(err)
			}
			time.Sleep(200 * time.Microsecond) // lets everybody go to sleep
			start := time.Now()
			_, _ = f.WriteString("x")
			*samples = append(*samples, (<-woken).Sub(start))
			_ = f.Close()
		}
	}
	for b.Loop() {
		stop, woken := bareLoop(b, dir)
		measure(woken, &raw, 50)
		stop()
		for _, p := range paths {
			if err := src.Add(inotify.Path(p)); err != nil {
				b.Fatal(err)
			}
		}
		events := make(chan time.Time, 1024)
		stop = consume(b, src, func() { events <- time.Now() })
		_ = src.Flush(b.Context())
		measure(events, &ours, 50)
		stop()
	}
	slices.Sort(raw)
	slices.Sort(ours)
	floor, got := raw[len(raw)/2], ours[len(ours)/2]
	b.ReportMetric(float64(floor.Nanoseconds())/1000, "µs-bare")
	b.ReportMetric(float64(got.Nanoseconds())/1000, "µs-source")
	b.ReportMetric(float64(ours[len(ours)*99/100].Nanoseconds())/1000, "µs-source-p99")
	b.ReportMetric(float64(raw[len(raw)*99/100].Nanoseconds())/1000, "µs-bare-p99")
	b.ReportMetric(float64(got)/float64(floor), "ratio")
}

func bareLoop(b *testing.B, dir string) (stop func(), woken <-chan time.Time) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY); err != nil {
		b.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	ch := make(chan time.Time, 1024)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 64<<10)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			ch <- time.Now()
		}
	}()
	return func() { _ = f.Close(); <-ended }, ch
}
