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
				ctx, cancel := context.WithCancel(b.Context())
				ended := make(chan struct{})
				go func() {
					_ = src.Events().Subscribe(ctx, func(sources.Event) bool { return true })
					close(ended)
				}()
				_ = src.Flush(ctx)
				start := time.Now()
				cancel()
				<-ended
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
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		_ = src.Events().Subscribe(ctx, func(sources.Event) bool { return true })
		close(ended)
	}()
	for b.Loop() {
		if err := src.Flush(ctx); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-ended
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
		ctx, cancel := context.WithCancel(b.Context())
		events := make(chan time.Time, 1024)
		ended := make(chan struct{})
		go func() {
			_ = src.Events().Subscribe(ctx, func(sources.Event) bool { events <- time.Now(); return true })
			close(ended)
		}()
		_ = src.Flush(ctx)
		measure(events, &ours, 50)
		cancel()
		<-ended
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
