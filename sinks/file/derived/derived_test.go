package derived_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sinks/file/derived"
)

// upper looks at a file, whose text in capitals is wanted. It counts how often that is
// written.
func upper(input string, written *int) func() (derived.Want, error) {
	return func() (derived.Want, error) {
		var st unix.Stat_t
		if err := unix.Stat(input, &st); err != nil {
			return derived.Want{}, err
		}
		return derived.Want{
			Inputs: []atomicfile.Stamp{atomicfile.StampOf(&st)}, Private: st.Mode&0o004 == 0, Summary: "capitals",
			Write: func(w io.Writer) error {
				*written++
				text, err := os.ReadFile(input)
				if err == nil {
					_, err = w.Write([]byte(strings.ToUpper(string(text))))
				}
				return err
			},
		}, nil
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, path, want string, mode os.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want || info.Mode() != mode {
		t.Errorf("it holds %q with mode %v, %v; want %q with %v", got, info.Mode(), err, want, mode)
	}
}

func TestFile(t *testing.T) {
	d := t.TempDir()
	in, out := d+"/in", d+"/sub/out"
	big := strings.Repeat("many words\n", 20000)
	f := &derived.File{Path: out}
	written := 0
	look := upper(in, &written)
	for _, tt := range []struct {
		name    string
		disturb func()
		change  string // empty if nothing is to be done
		want    string
		mode    os.FileMode
	}{
		{"nothing there", func() { write(t, in, big, 0o600) }, "[content: absent -> capitals]", strings.ToUpper(big), 0o600},
		{"all is right", func() {}, "", strings.ToUpper(big), 0o600},
		{"a mode is kept", func() { os.Chmod(out, 0o640); write(t, in, "x", 0o644) }, "[content: (220000 bytes) -> capitals]", "X", 0o640},
		{"longer than it should be", func() { write(t, out, "XY", 0o640) }, "[content: (2 bytes) -> capitals]", "X", 0o640},
		{"shorter than it should be", func() { write(t, out, "", 0o640) }, "[content: (0 bytes) -> capitals]", "X", 0o640},
		{"a link is replaced", func() { os.Rename(out, d+"/other"); os.Symlink(d+"/other", out) }, "[content: (a symbolic link) -> capitals]", "X", 0o644},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer unix.Umask(unix.Umask(0o022))
			tt.disturb()
			for _, apply := range []bool{false, true} {
				o, err := f.CheckApply(t.Context(), apply, look)
				if err != nil || o.Changed != (tt.change != "") {
					t.Fatalf("apply %v: %v, %v", apply, o, err)
				}
				if o.Changed {
					if got := "[" + o.Changes[0].String() + "]"; got != tt.change {
						t.Errorf("it says %s, want %s", got, tt.change)
					}
				}
			}
			holds(t, out, tt.want, tt.mode)
			if o, err := f.CheckApply(t.Context(), true, look); err != nil || o.Changed {
				t.Errorf("a second time: %v, %v", o, err)
			}
		})
	}
}

// TestCheap sees that nothing is read when nothing has changed, once all is old enough
// to tell.
func TestCheap(t *testing.T) {
	d := t.TempDir()
	in, out := d+"/in", d+"/out"
	write(t, in, "x", 0o644)
	f := &derived.File{Path: out}
	written := 0
	look := upper(in, &written)
	check := func() {
		t.Helper()
		if _, err := f.CheckApply(t.Context(), true, look); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	check()
	check()
	if check(); written != 3 && time.Since(began) < time.Second {
		t.Errorf("what may have changed in this very moment has been written %d times, want 3", written)
	}
	settled(t, out)
	check()
	before := written
	if check(); written != before {
		t.Errorf("what has not changed was written %d times", written-before)
	}
	write(t, in, "y", 0o644)
	if check(); written != before+2 {
		t.Errorf("what has changed was written %d times, want 2", written-before)
	}
	holds(t, out, "Y", 0o644)
}

// settled waits until a change of the file could be told from the last one.
func settled(t *testing.T, path string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !atomicfile.StampOf(&st).Settled(time.Now()); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the file does not settle")
		}
	}
}

func TestFailures(t *testing.T) {
	d := t.TempDir()
	out := d + "/out"
	write(t, out, "old", 0o644)
	calls := 0
	changed := func() (derived.Want, error) {
		return derived.Want{Write: func(io.Writer) error { calls++; return atomicfile.ErrChanged }}, nil
	}
	f := &derived.File{Path: out}
	if _, err := f.CheckApply(t.Context(), true, changed); !errors.Is(err, atomicfile.ErrChanged) || calls != 3 {
		t.Errorf("inputs that always change: %d calls, %v", calls, err)
	}
	broken := errors.New("broken")
	half := func() (derived.Want, error) {
		return derived.Want{Write: func(w io.Writer) error { io.WriteString(w, "ol"); return broken }}, nil
	}
	if _, err := f.CheckApply(t.Context(), true, half); !errors.Is(err, broken) {
		t.Errorf("a failure on the way: %v", err)
	}
	if _, err := f.CheckApply(t.Context(), true, func() (derived.Want, error) { return derived.Want{}, broken }); !errors.Is(err, broken) {
		t.Errorf("inputs that can't be looked at: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := func() (derived.Want, error) {
		return derived.Want{Write: func(w io.Writer) error { cancel(broken); _, err := io.WriteString(w, "new"); return err }}, nil
	}
	if _, err := f.CheckApply(ctx, true, stop); !errors.Is(err, broken) {
		t.Errorf("a cancel on the way: %v", err)
	}
	holds(t, out, "old", 0o644)
	f = &derived.File{Path: d}
	if _, err := f.CheckApply(t.Context(), true, half); err == nil || err.Error() != d+" is not a regular file" {
		t.Errorf("a directory: %v", err)
	}
	if left, _ := filepath.Glob(d + "/.mgmt-*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
