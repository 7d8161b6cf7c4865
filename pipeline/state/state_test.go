package state_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/pipeline/state"
)

// open opens the state in a directory, and closes it at the end of the test.
func open(t *testing.T, dir string) *state.Store {
	t.Helper()
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, s) })
	return s
}

func closed(t *testing.T, s *state.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func save(t *testing.T, s *state.Store, c pipeline.StateChanges) {
	t.Helper()
	if err := s.Save(c); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, s *state.Store) pipeline.Saved {
	t.Helper()
	saved, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func same(t *testing.T, got, want pipeline.Saved) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("what is saved is not what was expected (-want +got):\n%s", d)
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func TestSave(t *testing.T) {
	strange := pipeline.Reversal{
		Kind:   "file",
		Name:   "/srv/\xff\xfe",
		Params: "state: absent\n",
		Was:    map[string]string{"content": "\x00\xff binary \xc3\x28", "mode": "0644"},
		Before: []string{"file[/srv]", "user[j\xf6rg]"},
	}
	long := "exec[" + strings.Repeat("echo very long; ", 5000) + "%s]"
	for _, c := range []struct {
		name string
		do   []pipeline.StateChanges
		want pipeline.Saved
	}{
		{name: "nothing"},
		{name: "no changes at all", do: []pipeline.StateChanges{{}}},
		{name: "what was never there can be dropped", do: []pipeline.StateChanges{
			{DropRefreshes: []string{"exec[a]"}, DropReversals: []string{"file[/a]"}},
		}},
		{name: "refreshes come back in the order of their names, once each", do: []pipeline.StateChanges{
			{AddRefreshes: []string{"svc[b]", "exec[a]"}},
			{AddRefreshes: []string{"exec[a]", "exec[c]"}},
		}, want: pipeline.Saved{Refreshes: []string{"exec[a]", "exec[c]", "svc[b]"}}},
		{name: "a refresh that is dropped is gone, the others remain", do: []pipeline.StateChanges{
			{AddRefreshes: []string{"exec[a]", "exec[b]"}},
			{DropRefreshes: []string{"exec[a]", "exec[x]"}},
		}, want: pipeline.Saved{Refreshes: []string{"exec[b]"}}},
		{name: "a refresh and a reversal of the same resource are independent", do: []pipeline.StateChanges{
			{AddRefreshes: []string{"file[/a]"}, PutReversals: []pipeline.Reversal{{Kind: "file", Name: "/a"}}},
			{DropRefreshes: []string{"file[/a]"}},
		}, want: pipeline.Saved{Reversals: []pipeline.Reversal{{Kind: "file", Name: "/a"}}}},
		{name: "a reversal takes the place of an earlier one", do: []pipeline.StateChanges{
			{PutReversals: []pipeline.Reversal{{Kind: "file", Name: "/a", Was: map[string]string{"mode": "0600"}}}},
			{PutReversals: []pipeline.Reversal{{Kind: "file", Name: "/a", Was: map[string]string{}, Before: []string{"file[/]"}}}},
		}, want: pipeline.Saved{Reversals: []pipeline.Reversal{{Kind: "file", Name: "/a", Was: map[string]string{}, Before: []string{"file[/]"}}}}},
		{name: "bytes that are not UTF-8 come back as they were", do: []pipeline.StateChanges{
			{PutReversals: []pipeline.Reversal{strange}, AddRefreshes: []string{strange.Ref()}},
		}, want: pipeline.Saved{Refreshes: []string{strange.Ref()}, Reversals: []pipeline.Reversal{strange}}},
		{name: "names may be longer than the database allows keys to be", do: []pipeline.StateChanges{
			{AddRefreshes: []string{fmt.Sprintf(long, "a"), fmt.Sprintf(long, "b"), fmt.Sprintf(long, "c")}},
			{DropRefreshes: []string{fmt.Sprintf(long, "a"), fmt.Sprintf(long, "c")}},
		}, want: pipeline.Saved{Refreshes: []string{fmt.Sprintf(long, "b")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "there", "is", "none")
			s, err := state.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, changes := range c.do {
				save(t, s, changes)
			}
			same(t, load(t, s), c.want)
			closed(t, s)
			if got, err := state.Peek(dir); err != nil {
				t.Error(err)
			} else {
				same(t, got, c.want)
			}
			same(t, load(t, open(t, dir)), c.want)
		})
	}
}

func TestFileIsThereOnlyWhenNeeded(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "place")
	s := open(t, dir)
	save(t, s, pipeline.StateChanges{DropRefreshes: []string{"exec[a]"}})
	if _, err := state.Peek(dir); err != nil {
		t.Error(err)
	}
	if exists(t, dir) {
		t.Fatal("the directory is made before there is anything to keep")
	}
	save(t, s, pipeline.StateChanges{AddRefreshes: []string{"exec[a]"}})
	for path, mode := range map[string]os.FileMode{dir: fs.ModeDir | 0o700, filepath.Join(dir, state.FileName): 0o600} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s has mode %v (%v), want %v", path, info.Mode(), err, mode)
		}
	}
	save(t, s, pipeline.StateChanges{DropRefreshes: []string{"exec[a]"}})
	text, err := os.ReadFile(filepath.Join(dir, state.FileName))
	if err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	if err := os.WriteFile(filepath.Join(dir, state.FileName), text, 0o600); err != nil { // as if it had been killed
		t.Fatal(err)
	}
	if s, err := state.Open(dir); err != nil {
		t.Error(err)
	} else {
		closed(t, s)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("%v is left behind although nothing is saved", entries)
	}
	if err := s.Save(pipeline.StateChanges{AddRefreshes: []string{"exec[a]"}}); err == nil {
		t.Error("a state that is closed saves")
	}
}

func TestSaveWithoutADifferenceDoesNotWrite(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	same := pipeline.StateChanges{
		AddRefreshes: []string{"exec[a]"}, DropRefreshes: []string{"exec[b]"},
		PutReversals: []pipeline.Reversal{{Kind: "file", Name: "/a", Was: map[string]string{"x": "1", "y": "2", "z": "3"}}},
	}
	save(t, s, same)
	read := func() string {
		text, err := os.ReadFile(filepath.Join(dir, state.FileName))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := read()
	for range 20 {
		save(t, s, same)
	}
	if read() != before {
		t.Error("the file is written although nothing is different")
	}
}

func TestSavesOfManyGoroutines(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var saving sync.WaitGroup
	var want []string
	for g := range 8 {
		want = append(want, fmt.Sprintf("exec[%d-19]", g))
		saving.Go(func() {
			for i := range 20 {
				c := pipeline.StateChanges{AddRefreshes: []string{fmt.Sprintf("exec[%d-%d]", g, i)}}
				if i > 0 {
					c.DropRefreshes = []string{fmt.Sprintf("exec[%d-%d]", g, i-1)}
				}
				if err := s.Save(c); err != nil {
					t.Error(err)
				}
				if saved, err := s.Load(); err != nil || !slices.Contains(saved.Refreshes, c.AddRefreshes[0]) {
					t.Errorf("what is saved is not there: %v, %v", saved.Refreshes, err)
				}
			}
		})
	}
	saving.Wait()
	same(t, load(t, s), pipeline.Saved{Refreshes: want})
}

func TestABadSaveChangesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	for range 2 { // which makes the file in between
		bad := pipeline.StateChanges{AddRefreshes: []string{"exec[b]", ""}, DropRefreshes: []string{"exec[a]"}} // nothing is called ""
		if err := s.Save(bad); err == nil {
			t.Fatal("a resource without a name is saved")
		}
		save(t, s, pipeline.StateChanges{AddRefreshes: []string{"exec[a]"}})
		same(t, load(t, s), pipeline.Saved{Refreshes: []string{"exec[a]"}})
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	save(t, s, pipeline.StateChanges{AddRefreshes: []string{"exec[a]"}})
	want := filepath.Join(dir, state.FileName) + " is in use by another process"
	if _, err := state.Open(dir); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("it is opened twice: %v", err)
	}
	if _, err := state.Peek(dir); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("it is read while it may be written: %v", err)
	}
}

// filled makes a state with something of everything, and returns the path of its file.
func filled(t *testing.T, dir string) string {
	t.Helper()
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 60 {
		save(t, s, step(n+1))
	}
	closed(t, s)
	return filepath.Join(dir, state.FileName)
}

func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  string
	}{
		{"an empty file", func(t *testing.T, path string) { rewrite(t, path, func([]byte) []byte { return nil }) }, "it is empty"},
		{"a text", func(t *testing.T, path string) {
			rewrite(t, path, func([]byte) []byte { return []byte(strings.Repeat("be nice\n", 10000)) })
		}, "invalid database"},
		{"a short text", func(t *testing.T, path string) { rewrite(t, path, func([]byte) []byte { return []byte("be nice\n") }) }, ""},
		{"the beginning of it", func(t *testing.T, path string) { rewrite(t, path, func(b []byte) []byte { return b[:3*4096] }) }, ""},
		{"zeros from the third page on", func(t *testing.T, path string) {
			rewrite(t, path, func(b []byte) []byte { clear(b[2*4096:]); return b })
		}, ""},
		{"one bit of a value that has changed", func(t *testing.T, path string) {
			rewrite(t, path, func(b []byte) []byte {
				for {
					i := strings.LastIndex(string(b), `"was":{"content":"MDAw`)
					if i < 0 {
						return b
					}
					b[i+18] ^= 1
				}
			})
		}, "is not what was saved"},
		{"the database of another program", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			edit(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
		}, "it is the database of another program"},
		{"the format of a later version", func(t *testing.T, path string) {
			edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("about")).Put([]byte("format"), []byte("2")) })
		}, `it has format "2", and this version of mgmt knows "1"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filled(t, dir)
			c.spoil(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := state.Peek(dir); damage(err) == nil {
				t.Errorf("to peek at it is no error that tells of damage: %v", err)
			}
			_, err = state.Open(dir)
			if damage(err) == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("to open it is no error that tells of damage with %q: %v", c.want, err)
			}
			to, err := state.SetAside(dir)
			if err != nil {
				t.Fatal(err)
			}
			if after, err := os.ReadFile(to); err != nil || string(after) != string(before) {
				t.Errorf("the file has been changed: %v", err)
			}
			s := open(t, dir)
			save(t, s, step(1))
			if n, err := last(load(t, s)); n != 1 || err != nil {
				t.Errorf("the new state is at %d (%v)", n, err)
			}
		})
	}
}

func damage(err error) *state.DamagedError {
	d, _ := errors.AsType[*state.DamagedError](err)
	return d
}

func rewrite(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, f(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, path string, f func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err == nil {
		err = errors.Join(db.Update(f), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
