package inotify_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// TestNothingIsMissed makes random changes in a small directory, through symlinks and
// by moving directories about. Whenever what a watch stands for looks different after a
// few changes, it must have fired, at the latest when Flush returns. Every change goes
// through an os.Root, so that no symlink leads one out of the directory.
func TestNothingIsMissed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir() + "/w" // a link to .. leads to where nothing else is
		if err := os.Mkdir(dir, 0o755); err != nil {
			rt.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			rt.Fatal(err)
		}
		defer root.Close()
		m := &model{dir: dir, root: root, src: inotify.New(inotify.Options{}), watches: make(map[sources.Watch]string), fired: make(map[sources.Watch]bool)}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = m.src.Events().Subscribe(ctx, func(ev sources.Event) bool {
				m.mu.Lock()
				m.fired[ev.Watch] = true
				m.mu.Unlock()
				return true
			})
		})
		defer func() { cancel(); wg.Wait() }()

		name := rapid.Custom(func(rt *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3).Draw(rt, "path"), "/")
		})
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			for range rapid.IntRange(0, 2).Draw(rt, "watches") {
				m.toggle(rt, rapid.Bool().Draw(rt, "tree"), name.Draw(rt, "watched"))
			}
			var done []string
			for range rapid.IntRange(1, 4).Draw(rt, "changes") {
				done = append(done, m.change(rt, name))
			}
			m.check(rt, done)
		}
		for w := range m.watches {
			m.src.Remove(w)
		}
		if err := m.src.Add(inotify.Path("/")); err != nil {
			rt.Fatal(err)
		}
		if n := kernelWatches(t); n != 1 {
			rt.Errorf("%d kernel watches remain after the last Remove, want that of Flush", n)
		}
	})
}

type model struct {
	dir     string
	root    *os.Root
	src     *inotify.Source
	watches map[sources.Watch]string // how they looked last

	mu    sync.Mutex
	fired map[sources.Watch]bool
}

func (m *model) toggle(rt *rapid.T, tree bool, name string) {
	w := inotify.Path(m.dir + "/" + name)
	if tree {
		w = inotify.Tree(m.dir + "/" + name)
	}
	if _, watched := m.watches[w]; watched {
		m.src.Remove(w)
		delete(m.watches, w)
		return
	}
	if err := m.src.Add(w); err != nil {
		rt.Fatal(err)
	}
	m.watches[w] = looks(w)
}

// change does something that may well fail, and says what.
func (m *model) change(rt *rapid.T, name *rapid.Generator[string]) string {
	a, b := name.Draw(rt, "a"), name.Draw(rt, "b")
	var err error
	what := rapid.SampledFrom([]string{"mkdir", "write", "append", "replace", "remove", "move", "exchange", "link", "chmod"}).Draw(rt, "change")
	switch what {
	case "mkdir":
		err = m.root.MkdirAll(a, 0o755)
	case "write":
		err = m.root.WriteFile(a, []byte(b), 0o644)
	case "append":
		var f *os.File
		if f, err = m.root.OpenFile(a, os.O_WRONLY|os.O_APPEND, 0); err == nil {
			_, err = f.WriteString("x")
			err = errors.Join(err, f.Close())
		}
	case "replace":
		if err = m.root.WriteFile(a+".tmp", []byte(b), 0o644); err == nil {
			err = m.root.Rename(a+".tmp", a)
		}
	case "remove":
		err = m.root.RemoveAll(a)
	case "move":
		err = m.root.Rename(a, b)
	case "exchange":
		err = m.exchange(a, b)
	case "link":
		target := rapid.SampledFrom([]string{b, m.dir + "/" + b, "..", ".", "../" + b, "/nowhere"}).Draw(rt, "target")
		err = m.root.Symlink(target, a)
		what += " to " + target + " at"
	case "chmod":
		err = m.root.Chmod(a, os.FileMode(rapid.SampledFrom([]int{0o700, 0o755, 0o711}).Draw(rt, "mode")))
	}
	return fmt.Sprintf("%s %s %s (%v)", what, a, b, err)
}

func (m *model) exchange(a, b string) error {
	from, err := m.root.Open(filepath.Dir(a))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := m.root.Open(filepath.Dir(b))
	if err != nil {
		return err
	}
	defer to.Close()
	return unix.Renameat2(int(from.Fd()), filepath.Base(a), int(to.Fd()), filepath.Base(b), unix.RENAME_EXCHANGE)
}

func (m *model) check(rt *rapid.T, done []string) {
	if err := m.src.Flush(context.Background()); err != nil {
		rt.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for w, before := range m.watches {
		now := looks(w)
		if now != before && !m.fired[w] {
			rt.Fatalf("after %v\n%s did not fire\nbefore: %s\nnow: %s", done, w, before, now)
		}
		m.watches[w] = now
	}
	m.fired = make(map[sources.Watch]bool)
}

// looks describes what a watch stands for.
func looks(w sources.Watch) string {
	path, tree := strings.CutSuffix(w.String(), "/**")
	var b strings.Builder
	describe(&b, path)
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		fmt.Fprint(&b, err)
		return b.String()
	}
	describe(&b, real)
	if tree {
		_ = filepath.WalkDir(real, func(path string, _ fs.DirEntry, _ error) error {
			describe(&b, path)
			return nil
		})
	}
	return b.String()
}

// describe leaves out what entries change in their directory.
func describe(b *strings.Builder, path string) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		fmt.Fprintf(b, "%s: %v\n", path, err)
		return
	}
	fmt.Fprintf(b, "%s %o %d", path, st.Mode, st.Ino)
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		fmt.Fprintf(b, " %d %v", st.Size, st.Mtim)
	}
	fmt.Fprintln(b)
}
