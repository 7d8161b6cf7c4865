package state_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/pipeline/state"
)

// small mounts a file system of a few pages.
func small(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs root: to mount is %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no space on a file system, until free is called.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "big")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("it can't be filled: %v", err)
	}
	return func() {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func refused(t *testing.T, s *state.Store, c pipeline.StateChanges, why error, path string) {
	t.Helper()
	err := s.Save(c)
	if !errors.Is(err, why) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), ".new") {
		t.Fatalf("the error is %v, want one about %s: %v", err, path, why)
	}
}

func TestFullDiskWhenTheStateIsMade(t *testing.T) {
	dir := small(t)
	s := open(t, dir)
	free := fill(t, dir)
	for range 3 {
		refused(t, s, step(1), syscall.ENOSPC, dir)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("there is %v, want nothing but the big file", entries)
	}
	free()
	save(t, s, step(1))
	if n, err := last(load(t, s)); n != 1 || err != nil {
		t.Errorf("the state is at %d (%v)", n, err)
	}
}

func TestFullDiskWhenTheStateGrows(t *testing.T) {
	dir := small(t)
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	save(t, s, step(1))
	free := fill(t, dir)
	large := pipeline.StateChanges{AddRefreshes: []string{"svc[x]"}, PutReversals: []pipeline.Reversal{{Kind: "file", Name: "/x", Params: strings.Repeat("x", 100_000)}}}
	for range 3 {
		refused(t, s, large, syscall.ENOSPC, dir)
	}
	if n, err := last(load(t, s)); n != 1 || err != nil {
		t.Errorf("after the failure the state is at %d (%v)", n, err)
	}
	free()
	save(t, s, step(2))
	closed(t, s)
	if n, err := last(load(t, open(t, dir))); n != 2 || err != nil {
		t.Errorf("the state is at %d (%v)", n, err)
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := small(t)
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	refused(t, s, step(1), syscall.EROFS, dir)
	remount(0)
	save(t, s, step(1))
	closed(t, s)
	remount(unix.MS_RDONLY)
	s = open(t, dir)
	refused(t, s, step(2), syscall.EROFS, dir)
	if n, err := last(load(t, s)); n != 1 || err != nil {
		t.Errorf("the state is at %d (%v)", n, err)
	}
	if saved, err := state.Peek(dir); err != nil || len(saved.Refreshes) != 1 {
		t.Errorf("to peek at it gives %v, %v", saved, err)
	}
	remount(0)
}

// TestRandomDamage changes files at random: whatever is in a file, the process goes on, and
// does not take what it finds for what was saved. If the newest of the two first pages is hit,
// the change before the last one may come back.
func TestRandomDamage(t *testing.T) {
	dir := t.TempDir()
	path := filled(t, dir)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		bad := []byte(string(good))
		switch r.IntN(4) {
		case 0: // a bit
			bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		case 1: // a bit where pages say what they are
			bad[r.IntN(len(bad)/4096)*4096+r.IntN(64)] ^= 1 << r.IntN(8)
		case 2: // a page that was never written
			clear(bad[r.IntN(len(bad)/4096)*4096:][:4096])
		case 3: // the end
			bad = bad[:r.IntN(len(bad))]
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := state.Open(dir)
		if err != nil {
			if damage(err) == nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			seen["damaged"]++
			continue
		}
		if n, err := last(load(t, s)); err != nil || n < 59 {
			t.Errorf("seed %d: the state is at %d (%v)", seed, n, err)
		}
		if seed%10 == 0 {
			save(t, s, pipeline.StateChanges{AddRefreshes: []string{"svc[x]"}})
		}
		closed(t, s)
		seen["fine"]++
	}
	if seen["damaged"] < 30 || seen["fine"] < 30 {
		t.Errorf("this is no test: %v", seen)
	}
}
