package inotify_test

import (
	"path/filepath"
	"testing"

	"github.com/mgmtproject/mgmt/sources/inotify"
)

func TestTree(t *testing.T) {
	tests := []struct {
		name  string
		setup string
		path  string
		steps []string
	}{
		{"files in a directory", "mkdir d", "d",
			[]string{"write d/f x", "append d/f y", "chmod 600 d/f", "rm d/f", "mkdir d/e", "rm d/e", "ln nowhere d/l", "chmod 700 d", "quiet: write g x"}},
		{"directories that are there, at every level", "mkdir d/a/b/c; write d/a/b/c/f x", "d",
			[]string{"write d/a/b/c/f y", "write d/a/b/g x", "mkdir d/a/b/c/e", "write d/a/b/c/e/f x", "rmtree d/a/b", "write d/a/f x"}},
		{"new directories, one by one and all at once", "mkdir d", "d",
			[]string{"mkdir d/a", "write d/a/f x", "mkdir d/b/c/d/e; write d/b/c/d/e/f x", "write d/b/c/d/e/f y", "mkdir d/b/c/g/h", "write d/b/c/g/h/f x"}},
		{"a directory moved in, within and out", "mkdir d; mkdir x/y; write x/y/f x", "d",
			[]string{"mv x d/x", "write d/x/y/f y", "mv d/x d/z", "write d/z/y/f z", "mkdir d/z/y/new", "write d/z/y/new/f x", "mv d/z out", "quiet: write out/y/f x", "quiet: write out/y/new/f x"}},
		{"a directory moved away and back in one go", "mkdir d/x/y; write d/x/y/f x", "d",
			[]string{"mv d/x z; mv z d/x", "write d/x/y/f y", "mv d/x d/z; mv d/z d/x; mv d/x d/w", "write d/w/y/f y"}},
		{"a directory replaced by another one", "mkdir d/x/y; mkdir n/y; write n/y/f x", "d",
			[]string{"mv d/x old; mv n d/x", "write d/x/y/f y", "quiet: write old/y/g x"}},
		{"the root is missing, comes, goes and comes back", "mkdir .", "p/d",
			[]string{"mkdir p", "mkdir p/d", "mkdir p/d/e", "write p/d/e/f x", "rmtree p/d", "quiet: write p/x y", "mkdir p/d/e; write p/d/e/f x", "write p/d/e/f y"}},
		{"the root is replaced", "mkdir d/e; mkdir n/e; write n/e/f x", "d",
			[]string{"mv d o; mv n d", "write d/e/f y", "quiet: write o/e/f x", "mv d n; mv o d", "write d/e/f y", "quiet: write n/e/f x"}},
		{"the parent of the root is renamed away and back", "mkdir p/d/e", "p/d",
			[]string{"mv p q", "quiet: write q/d/e/f x", "mv q p", "write p/d/e/f y"}},
		{"the root is a file until it is a directory", "write d x", "d",
			[]string{"write d y", "rm d", "mkdir d", "write d/f x", "rmtree d; write d x", "write d y"}},
		{"the root is a symlink that is swapped", "mkdir a/x; mkdir b/x; ln a d", "d",
			[]string{"write a/x/f y", "swap d b", "quiet: write a/x/f z", "write b/x/f y"}},
		{"symlinks below are not followed", "mkdir d; mkdir t; ln ../t d/l", "d",
			[]string{"quiet: write t/f x", "swap d/l ../u"}},
		{"a file becomes a directory and a file", "mkdir d; write d/x f", "d",
			[]string{"rm d/x; mkdir d/x", "write d/x/f y", "rmtree d/x; write d/x y", "write d/x z"}},
		{"names with blanks and line breaks", "mkdir d", "d",
			[]string{`sh mkdir d/' a b ' && touch "d/ a b /$(printf 'x\ny')"`, `sh mkdir -p "d/$(printf 'x\ny')/z" && touch "d/$(printf 'x\ny')/z/f"`, `sh echo > "d/$(printf 'x\ny')/z/f"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			script(t, dir, tt.setup)
			o := observe(t, inotify.Options{})
			w := inotify.Tree(filepath.Join(dir, tt.path))
			o.add(w)
			o.silent("adding")
			for _, step := range tt.steps {
				o.step(dir, step, w)
			}
		})
	}
}

func TestTreesOverlap(t *testing.T) {
	dir := t.TempDir()
	script(t, dir, "mkdir d/a/b; mkdir d/a/k; mkdir d/c; write d/a/b/f x")
	o := observe(t, inotify.Options{})
	outer, inner := inotify.Tree(dir+"/d"), inotify.Tree(dir+"/d/a")
	file := inotify.Path(dir + "/d/a/b/f")
	o.add(outer, inner, file)

	script(t, dir, "write d/a/b/f y")
	got := o.events()
	for _, w := range []any{outer, inner, file} {
		found := false
		for _, ev := range got {
			found = found || ev.Watch == w
		}
		if !found {
			t.Errorf("a file in all: %v did not fire, only %v", w, got)
		}
	}
	script(t, dir, "write d/c/f y")
	if got = o.events(); !fired(got, outer) || fired(got, inner) || fired(got, file) {
		t.Errorf("a file in the outer tree: got %v", got)
	}
	o.step(dir, "mv d/a old; mkdir d/a", inner)
	o.step(dir, "quiet: write old/b/f z", inner)
	o.step(dir, "quiet: write old/k/f z", inner)
	o.step(dir, "rm d/a; mv old d/a", outer)
	o.step(dir, "write d/a/b/f z", file)
	o.src.Remove(outer)
	o.step(dir, "quiet: write d/c/f z", inner)
	o.step(dir, "write d/a/b/new x", inner)
	o.step(dir, "mkdir d/a/x/y", inner)
	o.step(dir, "write d/a/x/y/f x", inner)
	o.add(outer)
	o.src.Remove(inner)
	o.step(dir, "write d/a/x/y/f y", outer)
	o.step(dir, "rmtree d/a; mkdir d/a/b; write d/a/b/f x", outer)
	o.step(dir, "write d/a/b/f y", file)
	o.step(dir, "write d/a/b/g y", outer)
	o.src.Remove(outer)
	o.src.Remove(file)
	if n := kernelWatches(t); n != 1 {
		t.Errorf("%d kernel watches remain, want the one of Flush", n)
	}
}
