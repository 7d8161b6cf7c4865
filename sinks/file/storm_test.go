package file_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// patience is how long anything may take that should happen at once.
const patience = 20 * time.Second

// keeper is the smallest engine: on an event of its source it has the resources look.
type keeper struct {
	t       *testing.T
	source  *inotify.Source
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	failed  error // of the last CheckApply
	changed bool  // since settle has looked
}

func keep(t *testing.T, resources ...sinks.Resource) *keeper {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	k := &keeper{t: t, source: inotify.New(inotify.Options{}), cancel: cancel}
	for _, r := range resources {
		for _, w := range r.Watches() {
			if err := k.source.Add(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	look := func(sources.Event) bool {
		var failed error
		changed := false
		for _, r := range resources {
			out, err := r.CheckApply(ctx, true)
			if err != nil {
				failed = err
			}
			changed = changed || out.Changed
		}
		k.mu.Lock()
		k.failed = failed
		k.changed = k.changed || changed
		k.mu.Unlock()
		return true
	}
	look(sources.Event{})
	k.running.Go(func() {
		if err := k.source.Events().Subscribe(ctx, look); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	return k
}

func (k *keeper) stop() {
	k.cancel()
	k.running.Wait()
}

// settle returns when every change made so far has been looked at, as well as those
// that this has led to, and fails if the last look did.
func (k *keeper) settle() {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), patience)
	defer cancel()
	for quiet := 0; quiet < 2; quiet++ { // one flush may return while the last look goes on
		if err := k.source.Flush(ctx); err != nil {
			k.t.Fatalf("they do not come to rest: %v", err)
		}
		k.mu.Lock()
		if k.changed {
			quiet = -1
		}
		k.changed = false
		k.mu.Unlock()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil {
		k.t.Errorf("the last CheckApply failed: %v", k.failed)
	}
}

// idle checks that the resources have nothing left to do.
func idle(t *testing.T, what string, resources ...sinks.Resource) {
	t.Helper()
	for _, r := range resources {
		if out, err := r.CheckApply(t.Context(), false); err != nil || out.Changed {
			t.Fatalf("%s: there is something left to do: %v, %v", what, out.Changes, err)
		}
	}
}

// TestBackToBack makes 500 changes with no gap between them.
func TestBackToBack(t *testing.T) {
	d := t.TempDir()
	present, absent := filepath.Join(d, "present"), filepath.Join(d, "absent")
	rs := []sinks.Resource{
		sinktest.Build(t, file.Spec, present, params{"content": "i am here\n"}),
		sinktest.Build(t, file.Spec, absent, params{"state": "absent"}),
	}
	k := keep(t, rs...)
	defer k.stop()
	for i := range 500 {
		path := []string{present, absent}[i%2]
		setup(t, func() error { return os.WriteFile(path, fmt.Append(nil, i), 0o644) })
		if i%7 == 0 {
			setup(t, remove(path))
		}
	}
	k.settle()
	idle(t, "after 500 changes", rs...)
	if b, err := os.ReadFile(present); err != nil || string(b) != "i am here\n" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	expect(t, d, "present")
}

// TestAbsentOnceEmpty has a directory go that could not go before.
func TestAbsentOnceEmpty(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/p/a", ""), write(d+"/p/b", ""))
	r := sinktest.Build(t, file.Spec, d+"/p/", params{"state": "absent"})
	k := keep(t, r)
	defer k.stop()
	setup(t, remove(d+"/p/a"), remove(d+"/p/b"))
	k.settle()
	idle(t, "after it was emptied", r)
	expect(t, d)
}

// TestStorm has several writers fight a file, a link, an absence and a directory with
// all that they can think of, and looks at the end of each round.
func TestStorm(t *testing.T) {
	d := t.TempDir()
	f := filepath.Join(d, "dir", "file")
	rs := []sinks.Resource{
		sinktest.Build(t, file.Spec, f, params{"content": "i am here\n", "mode": "0644", "force": true}),
		sinktest.Build(t, file.Spec, d+"/dir/link", params{"symlink": "file", "force": true}),
		sinktest.Build(t, file.Spec, d+"/dir/absent", params{"state": "absent", "force": true}),
		sinktest.Build(t, file.Spec, d+"/dir/", params{"state": "exists", "purge": true, "mode": "0755"}),
	}
	rs[3].(sinks.SiblingAware).Siblings([]string{"path " + f, "path " + d + "/dir/link", "path " + d + "/dir/absent"})
	k := keep(t, rs...)
	defer k.stop()
	acts := []func(path string) error{
		func(path string) error { return os.WriteFile(path, []byte("blah"), 0o600) },
		func(path string) error { return os.WriteFile(path, nil, 0o600) },
		func(path string) error { return os.Remove(path) },
		func(path string) error { return os.Chmod(path, 0o600) },
		func(path string) error { return os.Mkdir(path, 0o755) },
		func(path string) error { return os.Symlink("nowhere", path) },
		func(path string) error { return os.Rename(path, path+".old") },
		func(path string) error {
			return do(write(path+".new", "blah"), func() error { return os.Rename(path+".new", path) })
		},
		func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	}
	rounds := 800
	if testing.Short() {
		rounds = 80
	}
	for round := range rounds {
		var writers sync.WaitGroup
		for w := range 3 {
			random := rand.New(rand.NewPCG(uint64(round), uint64(w)))
			writers.Go(func() {
				for range 4 {
					path := filepath.Join(d, "dir", []string{"file", "link", "absent", "other"}[random.IntN(4)])
					acts[random.IntN(len(acts))](path) // most may fail, as the others interfere
				}
			})
		}
		writers.Wait()
		k.settle()
		idle(t, fmt.Sprintf("round %d", round), rs...)
		expect(t, d, "dir", "dir/file", "dir/link")
	}
}

// TestTurmoil has somebody remove and replace a file all the time. That is no reason for
// CheckApply to fail.
func TestTurmoil(t *testing.T) {
	d := t.TempDir()
	f, linked, copied := filepath.Join(d, "dir", "file"), filepath.Join(d, "dir", "link"), filepath.Join(d, "copy")
	setup(t, write(d+"/src/sub/a", "a"), write(d+"/src/sub/b", "b"))
	rs := []sinks.Resource{
		sinktest.Build(t, file.Spec, f, params{"content": "i am here\n", "mode": "0640", "force": true}),
		sinktest.Build(t, file.Spec, linked, params{"symlink": "file", "force": true}),
		sinktest.Build(t, file.Spec, copied+"/", params{"source": d + "/src", "recurse": true, "purge": true, "force": true}),
	}
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for i, path := range []string{f, linked, copied + "/sub/a"} {
		others.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				other := fmt.Sprint(d, "/other", i) // an error means that our CheckApply was quicker
				switch n % 8 {
				case 0:
					os.Remove(path)
				case 1:
					os.WriteFile(other, []byte("other"), 0o644)
					os.Rename(other, path)
				case 2:
					os.Symlink("other", other)
					os.Rename(other, path)
				case 3:
					os.RemoveAll(filepath.Dir(path))
				case 4:
					os.Remove(path)
					os.Mkdir(path, 0o755)
					os.Remove(path)
				}
			}
		})
	}
	for range 300 {
		for i, r := range rs {
			if _, err := r.CheckApply(t.Context(), true); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
	}
	cancel()
	others.Wait()
	for _, r := range rs {
		apply(t, r)
	}
	idle(t, "in the end", rs...)
}
