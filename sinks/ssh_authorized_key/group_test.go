package sshauthorizedkey_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	sshauthorizedkey "github.com/mgmtproject/mgmt/sinks/ssh_authorized_key"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
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

// plain is an error as its text, without the directory of the test.
func plain(results []sinks.GroupResult, dir string) []sinks.GroupResult {
	for i, r := range results {
		if r.Err != nil {
			results[i].Err = errors.New(strings.ReplaceAll(r.Err.Error(), dir, "DIR"))
		}
		for j, c := range r.Changes {
			r.Changes[j].To = strings.ReplaceAll(c.To, dir, "DIR")
		}
	}
	return results
}

// picture is what there is below dir, without inodes and times.
func picture(t *testing.T, dir string) string {
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text, _ := os.ReadFile(path)
		_, err = fmt.Fprintf(&b, "%s %d:%d %v %q\n", strings.TrimPrefix(path, dir), st.Uid, st.Gid, info.Mode(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestTogether compares members that are applied together with the same members one by
// one, in the random home directory of a user.
func TestTogether(t *testing.T) {
	d := t.TempDir()
	u := alice(t)
	lines := rapid.SampledFrom([]string{line1, line2, "no-pty " + line1, line1 + " a comment", "# none", "", "  " + line2 + " two\r"})
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		homes := [2]string{fmt.Sprintf("%s/%d/together", d, n), fmt.Sprintf("%s/%d/alone", d, n)}
		text := strings.Join(rapid.SliceOfN(lines, 0, 5).Draw(rt, "lines"), "\n") + rapid.SampledFrom([]string{"", "\n"}).Draw(rt, "end")
		ssh, keys := rapid.SampledFrom([]os.FileMode{0, 0o700, 0o777}).Draw(rt, "ssh"), rapid.SampledFrom([]os.FileMode{0, 0o600, 0o666}).Draw(rt, "keys")
		others := rapid.Bool().Draw(rt, "of somebody else")
		for _, home := range homes {
			path := home + "/.ssh/authorized_keys"
			var errs []error
			if errs = append(errs, os.MkdirAll(home, 0o755)); ssh != 0 {
				if errs = append(errs, os.Mkdir(filepath.Dir(path), 0o700), os.Chmod(filepath.Dir(path), ssh)); keys != 0 {
					errs = append(errs, os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, keys))
				}
				if !others {
					errs = append(errs, give(u, filepath.Dir(path)))
				}
			}
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		}
		var members [2][]sinks.Resource
		given := rapid.Bool().Draw(rt, "file is given")
		for range rapid.IntRange(1, 5).Draw(rt, "members") {
			ps := params{
				"user": "alice", "key": rapid.SampledFrom([]string{one, two}).Draw(rt, "key"),
				"state": rapid.SampledFrom([]string{"exists", "absent"}).Draw(rt, "state"),
				"mkdir": rapid.Bool().Draw(rt, "mkdir"),
			}
			if rapid.Bool().Draw(rt, "restricted") {
				ps["options"] = "no-pty"
			}
			if rapid.Bool().Draw(rt, "commented") {
				ps["comment"] = "mine"
			}
			for i, home := range homes {
				if given {
					ps["file"] = home + "/.ssh/authorized_keys"
				}
				members[i] = append(members[i], sinktest.Build(t, sshauthorizedkey.Spec, "x", ps))
			}
		}
		for _, apply := range []bool{false, true, false} {
			var results [2][]sinks.GroupResult
			for i, do := range []func(testing.TB, bool, []sinks.Resource) []sinks.GroupResult{together, oneByOne} {
				moved := u
				moved.HomeDir = homes[i]
				sshauthorizedkey.SetUser(t, moved)
				results[i] = plain(do(t, apply, members[i]), homes[i])
			}
			if !reflect.DeepEqual(results[0], results[1]) {
				rt.Fatalf("apply %v: together %+v\none by one %+v", apply, results[0], results[1])
			}
			if a, b := picture(t, homes[0]), picture(t, homes[1]); a != b {
				rt.Fatalf("apply %v: together they make\n%sone by one\n%s", apply, a, b)
			}
		}
	})
}

// TestTogetherFails has one member be refused what another one does not need.
func TestTogetherFails(t *testing.T) {
	u := alice(t)
	u.Uid = "0" // to whom nothing can be given
	sshauthorizedkey.SetUser(t, u)
	d := t.TempDir()
	f := d + "/keys"
	if err := os.WriteFile(f, []byte(line1+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // to be like anybody else, with files
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := errors.Join(os.Chmod(filepath.Dir(d), 0o755), os.Chown(d, 65534, 65534), os.Chown(f, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Setfsuid(0) }()
	}
	results := together(t, true, []sinks.Resource{
		sinktest.Build(t, sshauthorizedkey.Spec, "x", params{"user": "alice", "file": f, "key": two}),
		sinktest.Build(t, sshauthorizedkey.Spec, "x", params{"user": "alice", "file": f, "key": one, "state": "absent"}),
	})
	if results[0].Err == nil || results[0].Changed || results[1].Err != nil || !results[1].Changed {
		t.Errorf("got %+v", results)
	}
	if got, err := os.ReadFile(f); err != nil || len(got) > 0 {
		t.Errorf("it holds %q, %v", got, err)
	}
}

// TestRewatch has a user come into being, and move.
func TestRewatch(t *testing.T) {
	u := alice(t)
	nobody := u
	nobody.Username = "nobody else"
	sshauthorizedkey.SetUser(t, nobody)
	r := sinktest.Build(t, sshauthorizedkey.Spec, "x", params{"user": "alice", "key": one})
	asks := func(want bool) {
		t.Helper()
		if out, _ := r.CheckApply(t.Context(), true); out.Rewatch != want {
			t.Errorf("asks to be watched anew: %v, want %v", out.Rewatch, want)
		}
	}
	watches := func(path string) {
		t.Helper()
		ws := r.Watches()
		if got := slices.Contains(ws, inotify.Path(path)); !got || slices.ContainsFunc(ws, func(w sources.Watch) bool { return w.Source() != "inotify" }) {
			t.Errorf("it watches %v, want %s, and no clock", ws, path)
		}
	}
	asks(false) // nobody has asked for its watches
	watches("/etc/passwd")
	asks(false)
	sshauthorizedkey.SetUser(t, u)
	asks(true)
	watches(u.HomeDir + "/.ssh/authorized_keys")
	asks(false)
	u.HomeDir = t.TempDir()
	sshauthorizedkey.SetUser(t, u)
	asks(true)
	watches(u.HomeDir + "/.ssh/authorized_keys")
	asks(false)
}

// BenchmarkKeys has 100 keys be added to a file, and looks at them when they are there.
func BenchmarkKeys(b *testing.B) {
	for _, way := range []struct {
		name string
		do   func(testing.TB, bool, []sinks.Resource) []sinks.GroupResult
	}{{"together", together}, {"alone", oneByOne}} {
		f := b.TempDir() + "/f"
		var members []sinks.Resource
		for i := range 100 {
			key := one[:len(one)-4] + fmt.Sprintf("%04d", i)
			members = append(members, sinktest.Build(b, sshauthorizedkey.Spec, "x", params{"file": f, "key": key}))
		}
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
				if err := os.WriteFile(f, []byte("# none\n"), 0o600); err != nil {
					b.Fatal(err)
				}
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
