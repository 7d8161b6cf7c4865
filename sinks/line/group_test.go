package line_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/line"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

// together applies all members at once.
func together(t testing.TB, apply bool, members []sinks.Resource) []sinks.GroupResult {
	t.Helper()
	results := members[0].(sinks.Grouper).CheckApplyGroup(t.Context(), apply, members)
	if len(results) != len(members) {
		t.Fatalf("%d results for %d members", len(results), len(members))
	}
	return results
}

// oneByOne applies the members in their order.
func oneByOne(t testing.TB, apply bool, members []sinks.Resource) []sinks.GroupResult {
	var results []sinks.GroupResult
	for _, m := range members {
		out, err := m.CheckApply(t.Context(), apply)
		results = append(results, sinks.GroupResult{Outcome: out, Err: err})
	}
	return results
}

// TestTogether compares members that are applied together with the same members one by
// one, on random files: those that contradict each other and those that are there twice
// included, which a graph would refuse.
func TestTogether(t *testing.T) {
	d := t.TempDir()
	contents := rapid.SampledFrom([]string{"a", "b", " a", "a ", "\ta", "ab", "c"})
	texts := rapid.StringOfN(rapid.SampledFrom([]rune("aab \n\n\r\t")), 0, 24, -1)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		paths := [2]string{fmt.Sprintf("%s/%d/together", d, n), fmt.Sprintf("%s/%d/alone", d, n)}
		there, text := rapid.Bool().Draw(rt, "there"), texts.Draw(rt, "text")
		mode := rapid.SampledFrom([]os.FileMode{0o644, 0o600}).Draw(rt, "mode")
		var members [2][]sinks.Resource
		for range rapid.IntRange(1, 6).Draw(rt, "members") {
			ps := params{
				"content": contents.Draw(rt, "content"),
				"state":   rapid.SampledFrom([]string{"exists", "absent"}).Draw(rt, "state"),
				"trim":    rapid.Bool().Draw(rt, "trim"),
			}
			for i, path := range paths {
				ps["file"] = path
				members[i] = append(members[i], sinktest.Build(t, line.Spec, "x", ps))
			}
		}
		for _, path := range paths {
			if there {
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, apply := range []bool{false, true, false} {
			a, b := together(t, apply, members[0]), oneByOne(t, apply, members[1])
			if !reflect.DeepEqual(a, b) {
				rt.Fatalf("apply %v: together %+v, one by one %+v", apply, a, b)
			}
			got, err1 := os.ReadFile(paths[0])
			want, err2 := os.ReadFile(paths[1])
			if string(got) != string(want) || errors.Is(err1, os.ErrNotExist) != errors.Is(err2, os.ErrNotExist) {
				rt.Fatalf("apply %v: together they make %q (%v), one by one %q (%v)", apply, got, err1, want, err2)
			}
		}
	})
}

// TestTogetherRefused has members of a group fail for themselves.
func TestTogetherRefused(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/file", "")
	for _, path := range []string{d + "/file/more", d} {
		members := []sinks.Resource{
			sinktest.Build(t, line.Spec, "x", params{"file": path, "content": "a"}),
			sinktest.Build(t, line.Spec, "x", params{"file": path, "content": "b", "state": "absent"}),
		}
		if a, b := together(t, true, members), oneByOne(t, true, members); fmt.Sprint(a) != fmt.Sprint(b) || a[0].Err == nil {
			t.Errorf("together %v, one by one %v", a, b)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	members := []sinks.Resource{sinktest.Build(t, line.Spec, "x", params{"file": d + "/new", "content": "a"})}
	if r := members[0].(sinks.Grouper).CheckApplyGroup(ctx, true, members); !errors.Is(r[0].Err, context.Canceled) || r[0].Changed {
		t.Errorf("cancelled: %+v", r)
	}
}

// TestTogetherFails has the one write of a group fail: those that wanted it have failed,
// and those that were right have not.
func TestTogetherFails(t *testing.T) {
	if os.Geteuid() == 0 {
		d := t.TempDir()
		f := d + "/f"
		write(t, f, "right\n")
		if err := unix.Mount(f, f, "", unix.MS_BIND, ""); err != nil { // so that it can't be replaced
			t.Skipf("needs to mount: %v", err)
		}
		defer func() { _ = unix.Unmount(f, 0) }()
		failsTogether(t, f)
		return
	}
	d := t.TempDir()
	write(t, d+"/f", "right\n")
	if err := os.Chmod(d, 0o555); err != nil {
		t.Fatal(err)
	}
	failsTogether(t, d+"/f")
}

func failsTogether(t *testing.T, path string) {
	results := together(t, true, []sinks.Resource{
		sinktest.Build(t, line.Spec, "x", params{"file": path, "content": "one"}),
		sinktest.Build(t, line.Spec, "x", params{"file": path, "content": "right"}),
		sinktest.Build(t, line.Spec, "x", params{"file": path, "content": "two"}),
	})
	for i, fails := range []bool{true, false, true} {
		if r := results[i]; (r.Err != nil) != fails || r.Changed {
			t.Errorf("member %d: %+v", i, r)
		}
	}
}

// TestOneWrite counts the files that a group makes: each is a new inode.
func TestOneWrite(t *testing.T) {
	d := t.TempDir()
	f := d + "/f"
	write(t, f, "other\n")
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, d, unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	members := many(t, f, 100)
	for i, r := range together(t, true, members) {
		if r.Err != nil || !r.Changed || len(r.Changes) != 1 || r.Changes[0].To != fmt.Sprint("line ", i) {
			t.Errorf("member %d: %+v", i, r)
		}
	}
	for i, r := range together(t, true, members) {
		if r.Err != nil || r.Changed {
			t.Errorf("a second time, member %d: %+v", i, r)
		}
	}
	b := make([]byte, 1<<16)
	n, err := unix.Read(fd, b)
	if created := strings.Count(string(b[:max(n, 0)]), ".mgmt-"); err != nil || created != 1 {
		t.Errorf("%d files were made, want 1 (%v)", created, err)
	}
}

func many(t testing.TB, f string, n int) []sinks.Resource {
	var members []sinks.Resource
	for i := range n {
		members = append(members, sinktest.Build(t, line.Spec, "x", params{"file": f, "content": fmt.Sprint("line ", i)}))
	}
	return members
}

// BenchmarkLines has 100 lines be added to a file, and looks at them when they are there.
func BenchmarkLines(b *testing.B) {
	for _, way := range []struct {
		name string
		do   func(testing.TB, bool, []sinks.Resource) []sinks.GroupResult
	}{{"together", together}, {"alone", oneByOne}} {
		f := b.TempDir() + "/f"
		members := many(b, f, 100)
		run := func(b *testing.B, changed bool) {
			for _, r := range way.do(b, true, members) {
				if r.Err != nil || r.Changed != changed {
					b.Fatalf("%+v", r)
				}
			}
		}
		b.Run("add/"+way.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				write(b, f, "other\n")
				b.StartTimer()
				run(b, true)
			}
		})
		b.Run("right/"+way.name, func(b *testing.B) {
			for b.Loop() {
				run(b, false)
			}
		})
	}
}
