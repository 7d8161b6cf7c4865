package inotify_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// needMounts gives the test a directory in which it may mount.
func needMounts(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it mounts filesystems")
	}
	dir := t.TempDir()
	script(t, dir, "mkdir probe")
	if err := unix.Mount("tmpfs", dir+"/probe", "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("needs root that may mount:", err)
	}
	unmount(t, dir+"/probe")
	t.Cleanup(func() {
		table, _ := os.ReadFile("/proc/self/mountinfo")
		lines := strings.Split(string(table), "\n")
		for i := len(lines) - 1; i >= 0; i-- {
			if f := strings.Fields(lines[i]); len(f) > 4 && strings.HasPrefix(f[4], dir) {
				_ = unix.Unmount(f[4], unix.MNT_DETACH)
			}
		}
	})
	return dir
}

func mount(t *testing.T, point string) {
	t.Helper()
	if err := unix.Mount("tmpfs", point, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount %s: %v", point, err)
	}
}

func bind(t *testing.T, from, to string) {
	t.Helper()
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("bind %s to %s: %v", from, to, err)
	}
}

func unmount(t *testing.T, point string) {
	t.Helper()
	if err := unix.Unmount(point, 0); err != nil {
		t.Fatalf("unmount %s: %v", point, err)
	}
}

func TestMounts(t *testing.T) {
	tests := []struct {
		name  string
		setup string
		run   func(t *testing.T, dir string, o *observer)
	}{
		{"something is mounted over a parent and unmounted", "mkdir m/d; write m/d/f x", func(t *testing.T, dir string, o *observer) {
			w := inotify.Path(dir + "/m/d/f")
			o.add(w)
			mount(t, dir+"/m")
			o.fires(w, "mount")
			o.step(dir, "mkdir m/d", w)
			o.step(dir, "write m/d/f y", w)
			unmount(t, dir+"/m")
			o.fires(w, "unmount")
			o.step(dir, "write m/d/f z", w)
			o.step(dir, "mv m/d m/e; mkdir m/d", w)
		}},
		{"without a flush, a mount and an unmount are seen as well", "mkdir m/d", func(t *testing.T, dir string, o *observer) {
			w := inotify.Path(dir + "/m/d/f")
			o.add(w)
			mount(t, dir+"/m")
			o.eventually(w, "mount")
			script(t, dir, "mkdir m/d; write m/d/f x")
			o.eventually(w, "write")
			unmount(t, dir+"/m")
			o.eventually(w, "unmount")
			script(t, dir, "write m/d/f x")
			o.eventually(w, "write")
		}},
		{"two mounts on top of each other", "mkdir m", func(t *testing.T, dir string, o *observer) {
			w := inotify.Path(dir + "/m/f")
			o.add(w)
			for range 2 {
				mount(t, dir+"/m")
				o.fires(w, "mount")
				o.step(dir, "write m/f y", w)
			}
			for range 2 {
				unmount(t, dir+"/m")
				o.fires(w, "unmount")
				o.step(dir, "write m/f z", w)
			}
		}},
		{"unmounted and mounted again before anybody looks", "mkdir m", func(t *testing.T, dir string, o *observer) {
			// The filesystem is gone, and the new one has its mount ID, device and inodes.
			w, busy := inotify.Path(dir+"/m/d/f"), inotify.Path(dir+"/busy")
			mount(t, dir+"/m")
			script(t, dir, "mkdir m/d; write m/d/f x")
			o.add(w, busy)
			o.silent("adding")
			release := o.hold(dir, "write busy x")
			unmount(t, dir+"/m")
			mount(t, dir+"/m")
			script(t, dir, "mkdir m/d; write m/d/f x")
			release()
			o.fires(w, "mount")
			o.step(dir, "write m/d/f y", w)
		}},
		{"proc mounted inside a tree is not entered", "mkdir d/proc", func(t *testing.T, dir string, o *observer) {
			if err := unix.Mount("proc", dir+"/d/proc", "proc", 0, ""); err != nil {
				t.Skip("needs root that may mount proc:", err)
			}
			w := inotify.Tree(dir + "/d")
			o.add(w)
			if n, want := kernelWatches(t), depth(dir)+3; n > want {
				t.Errorf("%d kernel watches, want at most %d", n, want)
			}
			o.step(dir, "write d/f x", w)
		}},
		{"a lazy unmount while a file is open", "mkdir m", func(t *testing.T, dir string, o *observer) {
			w := inotify.Path(dir + "/m/f")
			mount(t, dir+"/m")
			script(t, dir, "write m/f x")
			o.add(w)
			f, err := os.Open(dir + "/m/f")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := unix.Unmount(dir+"/m", unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			o.fires(w, "lazy unmount")
			o.step(dir, "write m/f x", w)
		}},
		{"a mount is moved", "mkdir a; mkdir b", func(t *testing.T, dir string, o *observer) {
			mount(t, dir)
			if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
				t.Fatal(err)
			}
			script(t, dir, "mkdir a; mkdir b")
			mount(t, dir+"/a")
			script(t, dir, "write a/f x")
			a, b := inotify.Path(dir+"/a/f"), inotify.Path(dir+"/b/f")
			o.add(a, b)
			if err := unix.Mount(dir+"/a", dir+"/b", "", unix.MS_MOVE, ""); err != nil {
				t.Fatal(err)
			}
			got := o.events()
			if !fired(got, a) || !fired(got, b) {
				t.Errorf("a move: got %v", got)
			}
			o.step(dir, "write b/f y", b)
			o.step(dir, "write a/f y", a)
		}},
		{"one directory in two places", "mkdir a/d; mkdir b; write a/d/f x", func(t *testing.T, dir string, o *observer) {
			bind(t, dir+"/a", dir+"/b")
			a, b := inotify.Path(dir+"/a/d/f"), inotify.Path(dir+"/b/d/f")
			tree := inotify.Tree(dir + "/b")
			o.add(a, b, tree)
			for _, step := range []string{"write a/d/f y", "write b/d/f y", "rm a/d/f", "replace b/d/f z"} {
				script(t, dir, step)
				got := o.events()
				for _, w := range []sources.Watch{a, b, tree} {
					if !fired(got, w) {
						t.Errorf("%s: %v did not fire, only %v", step, w, got)
					}
				}
			}
			o.src.Remove(a)
			o.step(dir, "write a/d/f z", b)
			o.step(dir, "mkdir a/d/new/deep", tree)
			o.step(dir, "write a/d/new/deep/f x", tree)
			o.add(a)
			unmount(t, dir+"/b")
			got := o.events()
			if !fired(got, b) || !fired(got, tree) {
				t.Errorf("unmount of b: got %v", got)
			}
			o.step(dir, "write a/d/f y", a)
			o.step(dir, "mkdir b/d", b)
		}},
		{"a file mounted over a file", "mkdir src; write src/f x", func(t *testing.T, dir string, o *observer) {
			script(t, dir, "write f old")
			w := inotify.Path(dir + "/f")
			o.add(w)
			bind(t, dir+"/src/f", dir+"/f")
			o.fires(w, "mount")
			o.step(dir, "write src/f y", w)
			o.step(dir, "write f z", w)
			unmount(t, dir+"/f")
			o.fires(w, "unmount")
			o.step(dir, "quiet: write src/f y", w)
			o.step(dir, "write f x", w)
		}},
		{"a mount inside a tree", "mkdir d/m", func(t *testing.T, dir string, o *observer) {
			w := inotify.Tree(dir + "/d")
			o.add(w)
			mount(t, dir+"/d/m")
			o.fires(w, "mount")
			o.step(dir, "mkdir d/m/x/y", w)
			o.step(dir, "write d/m/x/y/f x", w)
			unmount(t, dir+"/d/m")
			o.fires(w, "unmount")
			o.step(dir, "write d/m/f y", w)
		}},
		{"a mount elsewhere", "mkdir d; mkdir m", func(t *testing.T, dir string, o *observer) {
			o.add(inotify.Path(dir + "/d/f"))
			mount(t, dir+"/m")
			o.silent("mount")
			unmount(t, dir+"/m")
			o.silent("unmount")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := needMounts(t)
			script(t, dir, tt.setup)
			tt.run(t, dir, observe(t, inotify.Options{}))
		})
	}
}

// Waiting for mounts must not turn into a loop, since the mount table can always be read.
func TestAQuietSourceUsesNoTime(t *testing.T) {
	dir := t.TempDir()
	o := observe(t, inotify.Options{})
	o.add(inotify.Path(dir + "/f"))
	o.events()
	before := cpu(t)
	time.Sleep(300 * time.Millisecond)
	if used := cpu(t) - before; used > 100*time.Millisecond {
		t.Errorf("a source with nothing to do used %v in 300 ms", used)
	}
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
