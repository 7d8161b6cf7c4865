package mounts_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/sinktest/private"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mounts"
	"github.com/mgmtproject/mgmt/sources/mounts/table"
)

func TestMain(m *testing.M) { private.Main(m) }

// patience bounds every wait of a test.
const patience = 20 * time.Second

// observer subscribes to a source and keeps its events.
type observer struct {
	t   testing.TB
	src *mounts.Source

	mu  sync.Mutex
	got []sources.Event
}

func observe(t testing.TB) *observer {
	o := &observer{t: t, src: mounts.New()}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- o.src.Events().Subscribe(ctx, func(e sources.Event) bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.got = append(o.got, e)
			return true
		})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Events ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("Events does not end")
		}
	})
	return o
}

func (o *observer) add(watches ...sources.Watch) {
	o.t.Helper()
	for _, w := range watches {
		if err := o.src.Add(w); err != nil {
			o.t.Fatalf("Add(%v): %v", w, err)
		}
	}
}

func (o *observer) taken() []sources.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	got := o.got
	o.got = nil
	return got
}

// fire checks which watches have fired since the last look.
func (o *observer) fire(after string, want ...sources.Watch) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := o.src.Flush(ctx); err != nil {
		o.t.Fatalf("Flush: %v", err)
	}
	got := o.taken()
	for _, w := range want {
		if !slices.ContainsFunc(got, func(e sources.Event) bool { return e.Watch == w }) {
			o.t.Errorf("%s: %v did not fire, only %v", after, w, got)
		}
	}
	for _, e := range got {
		if !slices.Contains(want, e.Watch) {
			o.t.Errorf("%s: %v fired, want only %v", after, e, want)
		}
	}
}

// comes waits, without a flush, until an event has come.
func (o *observer) comes(after string) {
	o.t.Helper()
	for end := time.Now().Add(patience); len(o.taken()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			o.t.Fatalf("%s: no event comes", after)
		}
	}
}

func mount(t testing.TB, point string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("tmpfs", point, "tmpfs", flags, "size=1m"); err != nil {
		t.Fatalf("mounting %s: %v", point, err)
	}
}

func unmount(t testing.TB, point string) {
	t.Helper()
	if err := unix.Unmount(point, 0); err != nil {
		t.Fatalf("unmounting %s: %v", point, err)
	}
}

func TestWatches(t *testing.T) {
	private.Need(t)
	d := t.TempDir()
	if err := errors.Join(os.MkdirAll(d+"/a/b", 0o755), os.Mkdir(d+"/c d", 0o755), os.Symlink("a", d+"/l")); err != nil {
		t.Fatal(err)
	}
	a, b, c, later, linked := mounts.Point(d+"/a"), mounts.Point(d+"/a/b/"), mounts.Point(d+"/c d"), mounts.Point(d+"/c d/later"), mounts.Point(d+"/l/b")
	o := observe(t)
	o.add(a, b, c, later, linked, c)
	o.fire("adding")
	mount(t, d+"/a/b", 0)
	o.fire("a mount", b, linked)
	mount(t, d+"/a/b", unix.MS_REMOUNT|unix.MS_RDONLY)
	o.fire("it is read-only", b, linked)
	mount(t, d+"/a", 0)
	o.fire("a mount that hides it", a, b, linked)
	unmount(t, d+"/a")
	o.fire("it is gone", a, b, linked)
	unmount(t, d+"/a/b")
	o.fire("nothing is mounted", b, linked)
	mount(t, d+"/c d", 0)
	o.fire("a name with a blank", c, later)
	unmount(t, d+"/c d")
	mount(t, d+"/c d", 0)
	o.fire("unmounted and mounted between two looks", nil)
	if err := os.Mkdir(d+"/c d/later", 0o755); err != nil {
		t.Fatal(err)
	}
	mount(t, d+"/c d/later", 0)
	o.fire("a directory that was not there before", later)
	o.src.Remove(c)
	o.src.Remove(later)
	unmount(t, d+"/c d/later")
	unmount(t, d+"/c d")
	o.fire("one of two watches of a point is left", c)
	o.src.Remove(c)
	mount(t, d+"/c d", 0)
	defer unmount(t, d+"/c d")
	o.fire("none is left")
}

func TestWithoutAFlush(t *testing.T) {
	private.Need(t)
	d := t.TempDir()
	o := observe(t)
	o.add(mounts.Point(d))
	for range 20 {
		mount(t, d, 0)
		o.comes("a mount")
		unmount(t, d)
		o.comes("an unmount")
	}
}

func TestBeforeAnybodyListens(t *testing.T) {
	private.Need(t)
	d := t.TempDir()
	src := mounts.New()
	if err := src.Add(mounts.Point(d)); err != nil {
		t.Fatal(err)
	}
	mount(t, d, 0)
	defer unmount(t, d)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := src.Events().Subscribe(ctx, func(e sources.Event) bool { return e.Watch != mounts.Point(d) }); err != nil {
		t.Errorf("no event comes: %v", err)
	}
}

// TestStorm has 500 mounts come and go.
func TestStorm(t *testing.T) {
	private.Need(t)
	const n = 500
	d := t.TempDir()
	o := observe(t)
	var want []sources.Watch
	for i := range n {
		point := filepath.Join(d, fmt.Sprint(i))
		if err := os.Mkdir(point, 0o755); err != nil {
			t.Fatal(err)
		}
		want = append(want, mounts.Point(point))
	}
	o.add(want...)
	start := time.Now()
	for _, w := range want {
		mount(t, w.String(), 0)
	}
	o.fire("500 mounts", want...)
	t.Logf("500 mounts, with their events, took %v", time.Since(start))
	if _, err := table.Now(); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	for _, w := range want {
		if now, err := table.Now(); err != nil || now.At(w.String()) == nil {
			t.Fatalf("%v is not in the table: %v", w, err)
		}
	}
	t.Logf("500 looks at the table took %v", time.Since(start))
	for _, w := range want {
		unmount(t, w.String())
	}
	o.fire("500 unmounts", want...)
}

// TestNothingIsOpen has the source close what it has opened.
func TestNothingIsOpen(t *testing.T) {
	count := func() (n int) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasSuffix(to, "/mountinfo") {
				n++
			}
		}
		return n
	}
	before := count()
	src := mounts.New()
	if err := src.Add(mounts.Point("/mnt")); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != before+1 {
		t.Errorf("the table is open %d times with a watch, %d times without", n, before)
	}
	src.Remove(mounts.Point("/mnt"))
	for range 2 {
		if n := count(); n != before {
			t.Errorf("the table is open %d times in the end, %d times before", n, before)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := src.Add(mounts.Point("/mnt")); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- src.Events().Subscribe(ctx, func(sources.Event) bool { return true }) }()
		if err := src.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Events ended with %v", err)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	for w, want := range map[sources.Watch]string{
		sources.Interval{Every: time.Second}: "sources.Interval is not a watch of the source mounts",
		mounts.Point("mnt"):                  `the path "mnt" is not absolute`,
	} {
		if err := mounts.New().Add(w); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, want %q", err, want)
		}
	}
}
