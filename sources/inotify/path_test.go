package inotify_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources/inotify"
)

func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// TestPath runs steps one after the other. A step fires the watch, or if it begins with
// "quiet:", nothing at all.
func TestPath(t *testing.T) {
	tests := []struct {
		name  string
		setup string
		path  string
		root  bool
		steps []string
	}{
		{"content is overwritten, appended to and truncated", "write f x", "f", false,
			[]string{"write f y", "append f z", "sh : > f"}},
		{"a file is deleted and comes back", "write f x", "f", false,
			[]string{"rm f", "write f x", "rm f", "write f y"}},
		{"an absent file appears in all ways", "mkdir d", "d/f", false,
			[]string{"write d/f x", "rm d/f", "quiet: write g x", "mkdir d/f", "rm d/f", "ln nowhere d/f", "rm d/f", "sh echo x > g && mv g d/f"}},
		{"a file becomes a directory, a fifo and a file again", "write f x", "f", false,
			[]string{"rm f", "mkdir f", "chmod 700 f", "rm f", "sh mkfifo f", "rm f", "write f x", "append f y"}},
		{"atomic replacement by rename, many times", "write f x", "f", false,
			[]string{"replace f a", "replace f b", "replace f c", "write f d"}},
		{"an editor keeps the old file as a backup", "write f x", "f", false,
			[]string{"mv f f~", "write f new", "quiet: write f~ y", "append f more"}},
		{"the file is moved away and back", "write f x", "f", false,
			[]string{"mv f g", "quiet: write g y", "mv g f", "write f z"}},
		{"mode and times change", "write f x", "f", false,
			[]string{"chmod 600 f", "touch f", "chmod 600 f"}},
		{"the owner changes", "write f x", "f", true, []string{"chown f"}},
		{"neighbours are nobody's business", "write f x", "f", false,
			[]string{"quiet: write g x", "quiet: rm g", "quiet: mkdir d", "quiet: write d/f x", "write f y"}},
		{"a directory is watched itself, not its entries", "mkdir d", "d", false,
			[]string{"quiet: write d/f x", "chmod 700 d", "rmtree d", "mkdir d", "quiet: write d/f x"}},
		{"parents are missing several levels deep and come one by one", "mkdir .", "a/b/c/f", false,
			[]string{"mkdir a", "mkdir a/b", "mkdir a/b/c", "write a/b/c/f x", "write a/b/c/f y"}},
		{"parents come all at once", "mkdir .", "a/b/c/f", false,
			[]string{"mkdir a/b/c", "write a/b/c/f x"}},
		{"a parent is removed and recreated", "mkdir a/b; write a/b/f x", "a/b/f", false,
			[]string{"rmtree a", "mkdir a/b", "write a/b/f x", "rmtree a/b", "mkdir a/b", "write a/b/f x", "append a/b/f y"}},
		{"a parent is removed and recreated in one go", "mkdir a/b; write a/b/f x", "a/b/f", false,
			[]string{"rmtree a; mkdir a/b; write a/b/f x", "append a/b/f y", "rmtree a; mkdir a/b", "write a/b/f x"}},
		{"a parent is renamed away and a new one put in place", "mkdir a/b; write a/b/f x; mkdir n/b; write n/b/f n", "a/b/f", false,
			[]string{"mv a old; mv n a", "quiet: write old/b/f y", "write a/b/f y", "append a/b/f z"}},
		{"a parent is renamed away and back", "mkdir a/b; write a/b/f x", "a/b/f", false,
			[]string{"mv a old", "quiet: write old/b/f y", "mv old a", "write a/b/f z"}},
		{"a parent is renamed away and back in one go, twice", "mkdir a/b; write a/b/f x", "a/b/f", false,
			[]string{"mv a c; mv c a; mv a c; mv c a", "write a/b/f z", "mv a/b c; mv c a/b", "write a/b/f z"}},
		{"a parent is renamed away and removed", "mkdir a/b; write a/b/f x", "a/b/f", false,
			[]string{"mv a c; rmtree c", "mkdir a/b", "write a/b/f z"}},
		{"two directories are exchanged", "mkdir a/b; mkdir c/b; write a/b/f x; write c/b/f y", "a/b/f", false,
			[]string{"exchange a c", "write a/b/f z", "quiet: write c/b/f z"}},
		{"a parent becomes a file", "mkdir a; write a/f x", "a/f", false,
			[]string{"rmtree a; write a x", "rm a", "mkdir a", "write a/f x"}},
		{"a parent changes who may pass", "mkdir a; write a/f x", "a/f", false,
			[]string{"chmod 700 a", "quiet: touch a", "quiet: chmod 700 a"}},
		{"a symlink as last component: the link and its target", "mkdir t; write t/f x; write t/g y; ln t/f l", "l", false,
			[]string{"write t/f y", "chmod 600 t/f", "swap l t/g", "write t/g z", "quiet: write t/f z", "rm l", "quiet: write t/g y", "ln t/g l", "replace t/g z"}},
		{"a file becomes a symlink and a file again", "write f x; write g y", "f", false,
			[]string{"swap f g", "write g z", "replace f x", "quiet: write g y", "write f z"}},
		{"a dangling symlink whose target appears", "ln t/u/f l", "l", false,
			[]string{"mkdir t", "mkdir t/u", "write t/u/f x", "write t/u/f y", "rmtree t", "mkdir t/u", "write t/u/f x"}},
		{"a chain of symlinks, relative and absolute", "mkdir t/u; write t/u/f x; ln u/f t/one; abs-ln t/one two; ln two l", "l", false,
			[]string{"write t/u/f y", "swap two t/other", "write t/other x", "write t/other y", "rm l"}},
		{"a symlink that goes up", "mkdir a/b; mkdir a/c; write a/c/f x; ln ../c/f a/b/l", "a/b/l", false,
			[]string{"write a/c/f y", "rmtree a/c", "mkdir a/c", "write a/c/f x"}},
		{"a symlink to a directory in the middle is swapped", "mkdir v1/d; mkdir v2/d; write v1/d/f x; write v2/d/f y; ln v1 cur", "cur/d/f", false,
			[]string{"write v1/d/f y", "swap cur v2", "write v2/d/f z", "quiet: write v1/d/f z", "rm cur; ln v1 cur", "write v1/d/f y"}},
		{"the directory behind a symlink is replaced", "mkdir v1/d; write v1/d/f x; ln v1 cur", "cur/d/f", false,
			[]string{"mv v1 v0", "mkdir v1/d", "write v1/d/f x", "quiet: write v0/d/f x", "write v1/d/f y"}},
		{"a loop of symlinks that is resolved", "ln b a; ln a b", "a/f", false,
			[]string{"rm b", "mkdir b", "write b/f x", "write b/f y"}},
		{"a symlink to its own directory", "mkdir d; write d/f x; ln . d/self", "d/self/self/f", false,
			[]string{"write d/f y", "swap d/self /nowhere", "quiet: write d/f z", "swap d/self ."}},
		{"a link to a link target directory with a trailing slash", "mkdir t; write t/f x; ln t/ l", "l/f", false,
			[]string{"write t/f y", "rmtree t", "mkdir t", "write t/f x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root && os.Getuid() != 0 {
				t.Skip("needs root: it gives a file away")
			}
			dir := t.TempDir()
			script(t, dir, tt.setup)
			o := observe(t, inotify.Options{})
			w := inotify.Path(filepath.Join(dir, tt.path))
			o.add(w)
			o.silent("adding")
			for _, step := range tt.steps {
				o.step(dir, step, w)
			}
		})
	}
}
