package inotify_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// tapped subscribes to Observe and passes on what the file holds at each event.
func tapped(t *testing.T, src *inotify.Source, path string) (seen chan string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	seen = make(chan string, 4096)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = src.Observe(inotify.Path(path)).Subscribe(ctx, func(ev sources.Event) bool {
			if ev.Watch != inotify.Path(path) {
				t.Errorf("got an event of %v", ev.Watch)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				b = []byte("gone")
			}
			seen <- string(b)
			return true
		})
	})
	once := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(once)
	return seen, once
}

func await(t *testing.T, seen <-chan string, want string) {
	t.Helper()
	for late := time.After(patience); ; {
		select {
		case got := <-seen:
			if got == want {
				return
			}
		case <-late:
			t.Fatalf("waited in vain for %q", want)
		}
	}
}

func TestObserveBesideEvents(t *testing.T) {
	dir := t.TempDir()
	src := inotify.New(inotify.Options{})
	script(t, dir, "write f zero")
	f, stopF := tapped(t, src, dir+"/f")
	await(t, f, "zero") // the first event comes at once
	g, stopG := tapped(t, src, dir+"/d/g")
	await(t, g, "gone")

	change := func(text string) {
		t.Helper()
		script(t, dir, "mkdir d; write f "+text+"; write d/g "+text)
		await(t, f, text)
		await(t, g, text)
		script(t, dir, "rmtree d")
		await(t, g, "gone")
	}
	change("no-events-yet")

	w := inotify.Path(dir + "/f")
	if err := src.Add(w); err != nil {
		t.Fatal(err)
	}
	change("added")
	o := subscribe(t, src)
	o.eventually(w, "a change before Events")
	for _, text := range []string{"one", "two", "three"} {
		change(text)
		o.fires(w, "write "+text)
	}
	o.stop()
	change("events-have-ended")
	o = subscribe(t, src)
	o.step(dir, "quiet: write f dropped", w)
	await(t, f, "dropped")
	o.add(w)
	o.step(dir, "write f again", w)
	stopG()
	change2 := func(text string) { script(t, dir, "write f "+text); await(t, f, text) }
	change2("one-left")
	o.stop()
	change2("alone")
	stopF()
	if n := len(instances(t)); n != 0 {
		t.Errorf("%d inotify instances are open", n)
	}
}

// The goroutine that reads from the kernel may be any tap's: when that ends, or is
// busy, another has to take over.
func TestTapsTakeOverFromEachOther(t *testing.T) {
	dir := t.TempDir()
	src := inotify.New(inotify.Options{})
	type sub struct {
		seen chan string
		stop func()
	}
	var taps []sub
	for range 4 {
		seen, stop := tapped(t, src, dir+"/f")
		taps = append(taps, sub{seen, stop})
	}
	block := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		n := 0
		_ = src.Observe(inotify.Path(dir+"/f")).Subscribe(t.Context(), func(sources.Event) bool {
			if n++; n == 2 {
				<-block
				return false
			}
			return true
		})
	})
	for i := range taps {
		text := strings.Repeat("x", i+1)
		script(t, dir, "write f "+text)
		for _, tap := range taps[i:] {
			await(t, tap.seen, text)
		}
		taps[i].stop()
	}
	close(block)
	script(t, dir, "write f end")
	wg.Wait()
	if n := len(instances(t)); n != 0 {
		t.Errorf("%d inotify instances are open", n)
	}
}

func TestObserveRefuses(t *testing.T) {
	err := inotify.New(inotify.Options{}).Observe(sources.Interval{Every: time.Second}).
		Subscribe(t.Context(), func(sources.Event) bool { return true })
	if err == nil || !strings.Contains(err.Error(), "not a watch of the source inotify") {
		t.Errorf("got %v", err)
	}
}
