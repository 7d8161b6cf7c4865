package inotify_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// instances returns the descriptors of this process that are inotify instances.
func instances(t *testing.T) []string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == "anon_inode:inotify" {
			found = append(found, fd.Name())
		}
	}
	return found
}

// kernelWatches counts the kernel's watches of this process, that of Flush included.
func kernelWatches(t *testing.T) int {
	t.Helper()
	n := 0
	for _, fd := range instances(t) {
		info, err := os.ReadFile("/proc/self/fdinfo/" + fd)
		if err != nil {
			t.Fatal(err)
		}
		n += strings.Count(string(info), "inotify wd:")
	}
	return n
}

func depth(dir string) int { return strings.Count(dir, "/") + 1 }

func files(t *testing.T, dir string, n int) []sources.Watch {
	t.Helper()
	watches := make([]sources.Watch, n)
	for i := range n {
		path := filepath.Join(dir, "f"+strconv.Itoa(i))
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		watches[i] = inotify.Path(path)
	}
	return watches
}

func TestTenThousandPathsInOneDirectoryShareItsKernelWatch(t *testing.T) {
	dir := t.TempDir()
	watches := files(t, dir, 10_000)
	o := observe(t, inotify.Options{})
	o.add(watches...)
	if n, want := kernelWatches(t), depth(dir)+1; n != want {
		t.Errorf("got %d kernel watches, want %d: one for each directory on the way and that of Flush", n, want)
	}
	if n := len(instances(t)); n != 1 {
		t.Errorf("got %d inotify instances, want 1", n)
	}
	for _, i := range []int{0, 63, 64, 5000, 9999} {
		o.step(dir, fmt.Sprintf("write f%d x", i), watches[i])
	}
	o.step(dir, "swap f77 /nowhere", watches[77])
	for _, w := range watches {
		o.src.Remove(w)
	}
	if n := kernelWatches(t); n != 1 {
		t.Errorf("%d kernel watches remain after Remove, want that of Flush", n)
	}
}

// A symlink among thousands of files must be followed, although entries of such a
// directory are mostly known from a listing, also if it came after the listing.
func TestSymlinksAmongManyFilesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	watches := files(t, dir, 2000)
	script(t, dir, "mkdir t; write t/a x; write t/b y; swap f1500 t/a")
	for _, subscribed := range []bool{true, false} {
		t.Run(fmt.Sprintf("events are subscribed to: %v", subscribed), func(t *testing.T) {
			src := inotify.New(inotify.Options{})
			var o *observer
			if subscribed {
				o = subscribe(t, src)
			} else {
				o = &observer{t: t, src: src}
			}
			o.add(watches[:1000]...)
			script(t, dir, "swap f1700 t/b")
			if subscribed {
				o.events() // so that the event of f1700 is over before it is watched
			}
			o.add(watches[1000:]...)
			script(t, dir, "write t/a y; write t/b z")
			if !subscribed {
				o = subscribe(t, src)
			}
			got := o.events()
			for _, i := range []int{1500, 1700} {
				if !fired(got, watches[i]) {
					t.Errorf("%v did not fire", watches[i])
				}
			}
			script(t, dir, "replace f1700 x")
		})
	}
}

func TestEqualWatchesAreCounted(t *testing.T) {
	dir := t.TempDir()
	o := observe(t, inotify.Options{})
	w := inotify.Path(dir + "/f")
	o.add(w, inotify.Path(dir+"/f"), inotify.Path(dir+"//./f/"))
	script(t, dir, "write f x")
	if got := o.events(); len(got) == 0 || len(got) > 2 {
		t.Errorf("a file is created and written: got %v, want one or two events", got)
	}
	o.src.Remove(w)
	o.src.Remove(w)
	o.step(dir, "write f y", w)
	o.src.Remove(w)
	o.step(dir, "quiet: write f z", w)
	o.src.Remove(w)
	o.add(w)
	o.step(dir, "write f y", w)
}

func TestRelativePathsAreMadeAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		w    sources.Watch
		want string
	}{
		{inotify.Path("a/../b/"), dir + "/b"},
		{inotify.Path("/x//y/./"), "/x/y"},
		{inotify.Path("/"), "/"},
		{inotify.Tree("d/"), dir + "/d/**"},
		{inotify.Tree("/"), "/**"},
	} {
		if got := tt.w.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	src := inotify.New(inotify.Options{})
	for _, tt := range []struct {
		name string
		w    sources.Watch
		want string
	}{
		{"a watch of another source", sources.Interval{Every: time.Second}, "sources.Interval is not a watch of the source inotify"},
		{"an empty path", inotify.Path(""), `the path "" is not absolute`},
		{"a path with a zero byte", inotify.Tree("/a\x00b"), `the path "/a\x00b" contains a zero byte: invalid argument`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := src.Add(tt.w); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			src.Remove(tt.w)
		})
	}
	if n := len(instances(t)); n != 0 {
		t.Errorf("%d inotify instances are open", n)
	}
}

func TestNothingStaysOpen(t *testing.T) {
	dir := t.TempDir()
	src := inotify.New(inotify.Options{})
	w := inotify.Path(dir + "/f")
	for round := range 3 {
		if err := src.Add(w); err != nil {
			t.Fatal(err)
		}
		if n := len(instances(t)); n != 1 {
			t.Fatalf("round %d: %d inotify instances while a path is watched", round, n)
		}
		src.Remove(w)
		if n := len(instances(t)); n != 0 {
			t.Fatalf("round %d: %d inotify instances after the last Remove", round, n)
		}
		// The same source serves again after its subscription has ended.
		o := subscribe(t, src)
		o.add(w)
		o.step(dir, "write f x", w)
		o.stop()
		if n := len(instances(t)); n != 0 {
			t.Fatalf("round %d: %d inotify instances after Events has ended", round, n)
		}
		src.Remove(w)
	}
}

func TestEventsIsSubscribedOnce(t *testing.T) {
	o := observe(t, inotify.Options{})
	o.add(inotify.Path(t.TempDir()))
	o.events()
	if err := o.src.Events().Subscribe(t.Context(), func(sources.Event) bool { return false }); err == nil {
		t.Error("the second subscription did not fail")
	}
}

func TestChangesBeforeTheSubscriptionAreNotLost(t *testing.T) {
	dir := t.TempDir()
	src := inotify.New(inotify.Options{})
	f, g := inotify.Path(dir+"/a/b/f"), inotify.Path(dir+"/g")
	for _, w := range []sources.Watch{f, g} {
		if err := src.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	script(t, dir, "mkdir a/b; write a/b/f x; write g x; rm g")
	o := subscribe(t, src)
	got := o.events()
	if !fired(got, f) || !fired(got, g) {
		t.Errorf("got %v", got)
	}
	o.step(dir, "write a/b/f y", f)
}

func TestTheConsumerAddsAndRemoves(t *testing.T) {
	dir := t.TempDir()
	src := inotify.New(inotify.Options{})
	path := func(i int) sources.Watch { return inotify.Path(fmt.Sprintf("%s/d%d/f", dir, i)) }
	if err := src.Add(path(0)); err != nil {
		t.Fatal(err)
	}
	const rounds = 50
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	i := 0
	script(t, dir, "mkdir d0")
	err := src.Events().Subscribe(ctx, func(ev sources.Event) bool {
		if ev.Watch != path(i) {
			return true
		}
		src.Remove(path(i))
		i++
		if err := src.Add(path(i)); err != nil {
			t.Error(err)
		}
		script(t, dir, fmt.Sprintf("mkdir d%d; write d%d/f x", i, i))
		return i < rounds
	})
	if err != nil {
		t.Error(err)
	}
}

// Each change is followed by an event that comes after it.
func TestFiveHundredChangesBackToBack(t *testing.T) {
	for _, how := range []string{"write", "replace", "rm"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/f"
			src := inotify.New(inotify.Options{})
			seen := make(chan string, 4096)
			ctx, cancel := context.WithCancel(t.Context())
			if err := src.Add(inotify.Path(path)); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				_ = src.Events().Subscribe(ctx, func(sources.Event) bool {
					b, err := os.ReadFile(path)
					if err != nil {
						b = []byte("gone")
					}
					seen <- string(b)
					return true
				})
			})
			await := func(want string) {
				late := time.After(patience)
				for {
					select {
					case got := <-seen:
						if got == want {
							return
						}
					case <-late:
						t.Fatalf("no event after the file was %q", want)
					}
				}
			}
			for i := range 500 {
				text := strconv.Itoa(i)
				if how == "rm" {
					script(t, dir, "write f "+text)
					await(text)
					script(t, dir, "rm f")
					await("gone")
					continue
				}
				script(t, dir, how+" f "+text)
				await(text)
			}
			cancel()
			wg.Wait()
		})
	}
}

// Directories are made as fast as possible, and a file at the end of them. Whenever an
// event comes the file is read: in the end it must have been seen.
func TestMkdirRace(t *testing.T) {
	for _, kind := range []string{"path", "tree"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			for round := range 100 {
				top := fmt.Sprintf("%s/%d", dir, round)
				file := top + "/a/b/c/d/e/f"
				w := inotify.Path(file)
				if kind == "tree" {
					w = inotify.Tree(top)
				}
				found := make(chan struct{}, 1)
				var wg sync.WaitGroup
				ctx, cancel := context.WithCancel(t.Context())
				src := inotify.New(inotify.Options{})
				if err := src.Add(w); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					_ = src.Events().Subscribe(ctx, func(sources.Event) bool {
						if b, err := os.ReadFile(file); err == nil && string(b) == "done" {
							select {
							case found <- struct{}{}:
							default:
							}
						}
						return true
					})
				})
				script(t, "/", "mkdir "+filepath.Dir(file)[1:]+"; write "+file[1:]+" x; write "+file[1:]+" done")
				select {
				case <-found:
				case <-time.After(patience):
					t.Errorf("round %d: the file at the end was never seen", round)
				}
				cancel()
				wg.Wait()
			}
		})
	}
}

func TestOverflowIsSaidAndMended(t *testing.T) {
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skip("no /proc/sys/fs/inotify:", err)
	}
	events, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	if err != nil || events > 200_000 {
		t.Skipf("max_queued_events is %d: it would take too long to overflow", events)
	}
	dir := t.TempDir()
	script(t, dir, "write f x; write g x; mkdir p; mkdir t/a; mkdir m/b; write m/b/f x")
	o := observe(t, inotify.Options{})
	f, deep, moved, tree := inotify.Path(dir+"/f"), inotify.Path(dir+"/p/q/r/f"), inotify.Path(dir+"/m/b/f"), inotify.Tree(dir+"/t")
	o.add(f, deep, moved, tree)
	o.silent("adding")

	release := o.hold(dir, "write f y")
	for i := range events + 10_000 {
		name := "/f"
		if i%2 == 1 {
			name = "/g"
		}
		if err := os.Chmod(dir+name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script(t, dir, "mkdir p/q/r; mkdir t/b/c; mv m n; mkdir m/b; write m/b/f y; rmtree n")
	flushed := make(chan error, 1)
	go func() { flushed <- o.src.Flush(context.Background()) }()
	release()
	select {
	case err := <-flushed:
		if err != nil {
			t.Errorf("Flush across an overflow: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Flush across an overflow does not return")
	}
	overflown := false
	for _, ev := range o.drain() {
		overflown = overflown || ev.Watch == nil && ev.What == "overflow"
	}
	if !overflown {
		t.Error("no event says that the queue has overflown")
	}
	o.step(dir, "write f z", f)
	o.step(dir, "write p/q/r/f z", deep)
	o.step(dir, "write m/b/f z", moved)
	o.step(dir, "write t/b/c/f z", tree)
	o.step(dir, "write t/a/f z", tree)
}

func TestClosingIsQuick(t *testing.T) {
	dir := t.TempDir()
	o := observe(t, inotify.Options{})
	for i := range 10_000 {
		path := dir + "/" + strconv.Itoa(i)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		o.add(inotify.Path(path + "/f"))
	}
	start := time.Now()
	o.stop()
	took := time.Since(start)
	t.Logf("closed 10,000 watches in 10,000 directories in %v", took)
	if took > time.Second {
		t.Errorf("closing took %v", took)
	}
	if n := len(instances(t)); n != 0 {
		t.Errorf("%d inotify instances are open", n)
	}
}
