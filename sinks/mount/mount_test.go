package mount_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/mount"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sinks/sinktest/private"
)

func TestMain(m *testing.M) { private.Main(m) }

type params = map[string]any

const (
	fstab = "/etc/fstab"
	// Lines of others, which have to stay byte by byte.
	before = "# the disks\nUUID=1234-5678\t/  ext4   errors=remount-ro 0\t1\n\n"
	after  = "proc /proc proc defaults # not ours\n"
)

// list has fstab hold lines between those of others.
func list(lines ...string) error {
	return os.WriteFile(fstab, []byte(before+strings.Join(lines, "")+after), 0o644)
}

// put makes the mount that is described, in place of all others at the point.
func put(point, options string) error {
	for unix.Unmount(point, 0) == nil {
	}
	return mountAt(point, options)
}

func mountAt(point, options string) error {
	return run("mount", "-t", "tmpfs", "-o", options, "tmpfs", point)
}

func run(program string, args ...string) error {
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", program, args, err, out)
	}
	return nil
}

// drop unmounts all at the point.
func drop(point string) error {
	for unix.Unmount(point, 0) == nil {
	}
	return nil
}

// state tells fstab and what is mounted below dir, with all or with what stays the same
// when it is mounted anew.
func state(dir string, all bool) func() (string, error) {
	return func() (string, error) {
		text, err := os.ReadFile(fstab)
		table, err2 := os.ReadFile("/proc/self/mountinfo")
		now := string(text) + "\n"
		for line := range strings.Lines(string(table)) {
			fields := strings.Fields(line)
			switch {
			case !strings.HasPrefix(fields[4], dir):
			case all:
				now += line
			default:
				now += fields[4] + " " + strings.Join(fields[7:], " ") + "\n"
			}
		}
		return now, errors.Join(err, err2)
	}
}

// prepare gives the test a directory to mount in, and an fstab.
func prepare(t testing.TB) (dir, point string) {
	t.Helper()
	private.Need(t)
	dir = t.TempDir()
	point = dir + "/m n"
	if err := errors.Join(list(), os.Mkdir(point, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		table, _ := os.ReadFile("/proc/self/mountinfo")
		lines := strings.Split(string(table), "\n")
		for i := len(lines) - 1; i >= 0; i-- {
			if f := strings.Fields(lines[i]); len(f) > 4 && strings.HasPrefix(f[4], dir) {
				_ = unix.Unmount(strings.ReplaceAll(f[4], `\040`, " "), unix.MNT_DETACH)
			}
		}
	})
	return dir, point
}

func TestConformance(t *testing.T) {
	dir, point := prepare(t)
	tmpfs := func(more params) params {
		p := params{"device": "tmpfs", "type": "tmpfs", "options": map[string]any{"size": "1m", "nosuid": ""}}
		for name, value := range more {
			p[name] = value
		}
		return p
	}
	written := strings.ReplaceAll(point, " ", `\040`)
	line := "tmpfs\t" + written + "\ttmpfs\tnosuid,size=1m\t0\t0\n"
	ours := "nosuid,size=1m"
	does := func(steps ...error) error { return errors.Join(steps...) }
	undone := state(dir, false)
	for _, c := range []sinktest.Case{
		{Name: "neither listed nor mounted", Params: tmpfs(nil), Undone: undone, Disturb: func() error { return does(list(), drop(point)) }},
		{Name: "not mounted", Params: tmpfs(nil), Undone: undone, Disturb: func() error { return does(list(line), drop(point)) }},
		{Name: "not listed", Params: tmpfs(nil), Undone: undone, Disturb: func() error { return does(list(), put(point, ours)) }},
		{Name: "listed with another pass", Params: tmpfs(params{"passno": 2}), Undone: undone, Disturb: func() error { return list(line) }},
		{Name: "listed with other options", Params: tmpfs(nil), Disturb: func() error {
			return does(list("tmpfs "+written+" tmpfs size=1m,noexec"), put(point, "size=1m,noexec"))
		}},
		{Name: "listed twice", Params: tmpfs(nil), Disturb: func() error { return list("none "+written+"/ ramfs defaults\n", line) }},
		{Name: "mounted read-only", Params: tmpfs(nil), Disturb: func() error { return run("mount", "-o", "remount,ro", point) }},
		{Name: "mounted without an option", Params: tmpfs(nil), Disturb: func() error { return put(point, "size=1m") }},
		{Name: "mounted with another size", Params: tmpfs(nil), Disturb: func() error { return put(point, "nosuid,size=2m") }},
		{Name: "something else is mounted", Params: tmpfs(nil), Disturb: func() error {
			return does(drop(point), run("mount", "-t", "ramfs", "none", point))
		}},
		{Name: "the mount point is missing", Params: tmpfs(nil), Disturb: func() error { return does(drop(point), os.Remove(point)) }},
		{Name: "only mounted, whatever is listed", Params: tmpfs(params{"state": "mounted"}), Undone: undone, Disturb: func() error { return drop(point) }},
		{Name: "only listed, whatever is mounted", Params: tmpfs(params{"state": "listed"}), Undone: undone, Disturb: func() error { return list() }},
		{Name: "absent", Params: params{"state": "absent"}, Undone: undone, Disturb: func() error { return does(put(point, "rw,size=1024k,relatime"), list()) }},
		{Name: "absent, but listed and mounted twice", Params: params{"state": "absent"}, Disturb: func() error {
			return does(list(line), mountAt(point, ours), mountAt(point, ours))
		}},
		{Name: "unmounted", Params: params{"state": "unmounted"}, Disturb: func() error { return put(point, ours) }},
		{Name: "unlisted", Params: params{"state": "unlisted"}, Undone: undone, Disturb: func() error {
			return list("tmpfs\t" + written + "\ttmpfs\tnosuid,size=1m\t1\t2\n")
		}},
	} {
		c.Resource, c.State = point, state(dir, true)
		if c.Undone != nil && strings.Contains(c.Name, "listed") { // at the end of the file, in our own spelling
			c.Undone = func() (string, error) {
				now, err := undone()
				return strings.ReplaceAll(strings.ReplaceAll(now, after, ""), line, "") + fmt.Sprint(strings.Count(now, line)), err
			}
		}
		sinktest.Run(t, mount.Spec, c)
	}
}

// TestFstab compares fstab before and after, byte by byte.
func TestFstab(t *testing.T) {
	private.Need(t)
	disk := params{"device": "/dev/sdb1", "type": "xfs", "options": map[string]any{"x": "", "context": "a:b,c"}, "state": "listed"}
	line := "/dev/sdb1\t/a\\040b\txfs\tcontext=\"a:b,c\",x\t0\t0\n"
	for _, test := range []struct {
		name, before string
		params       params
		after        string
	}{
		{"a new line", "# a\n\n\t/dev/sda1 / ext4", disk, "# a\n\n\t/dev/sda1 / ext4\n" + line},
		{"an empty file", "", disk, line},
		{"a line that says it otherwise stays", "/dev/sdb1  /a\\040b/ xfs x,defaults,context=\"a:b,c\"\nx", disk, "/dev/sdb1  /a\\040b/ xfs x,defaults,context=\"a:b,c\"\nx"},
		{"a line is replaced where it is", "a /a a\n/dev/sdb1 /a\\040b ext4 x 0 0\r\nb /b b\r\n", disk, "a /a a\n" + line + "b /b b\r\n"},
		{"of several lines one is left", "z /a\\040b z\na /a a\n" + line, disk, line + "a /a a\n"},
		{"all lines are removed", "z /a\\040b z\na /a a\n" + line + "b /a/b b", params{"state": "unlisted"}, "a /a a\nb /a/b b"},
		{"a comment is no line", "#z /a\\040b z\n", params{"state": "unlisted"}, "#z /a\\040b z\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(fstab, []byte(test.before), 0o640); err != nil {
				t.Fatal(err)
			}
			out, err := sinktest.Build(t, mount.Spec, "/a b", test.params).CheckApply(t.Context(), true)
			text, _ := os.ReadFile(fstab)
			if err != nil || out.Changed != (test.before != test.after) || string(text) != test.after {
				t.Errorf("%+v, %v makes\n%q, want\n%q", out, err, text, test.after)
			}
		})
	}
}

// TestAnyFstab edits random texts: one entry comes, or all go, and the lines of others stay.
func TestAnyFstab(t *testing.T) {
	words := rapid.SampledFrom([]string{"/a b", "/a\\040b", "/a\\040b/", "tmpfs", "#", " ", "\t", "\n", "\n", "x", "\r", "rw,x", "\"", "0", "\\"})
	values := rapid.SampledFrom([]string{"", "1", "a,b", "a b", `a\b`, "#", "=", `"a,b"`})
	rapid.Check(t, func(rt *rapid.T) {
		text := strings.Join(rapid.SliceOfN(words, 0, 40).Draw(rt, "text"), "")
		c := &mount.Config{
			State:   rapid.SampledFrom([]string{"listed", "unlisted"}).Draw(rt, "state"),
			Device:  rapid.SampledFrom([]string{"/dev/sda", "a b", "#x", `a\040b`}).Draw(rt, "device"),
			Type:    rapid.SampledFrom([]string{"", "ext4"}).Draw(rt, "type"),
			Options: rapid.MapOf(rapid.SampledFrom([]string{"ro", "bind", "x"}), values).Draw(rt, "options"),
			PassNo:  rapid.IntRange(0, 2).Draw(rt, "passno"),
		}
		const point = "/a b"
		got, entries, right := c.Amend(point, []byte(text))
		if c.State == "listed" && (entries != 1 || !right) || c.State == "unlisted" && entries != 0 {
			rt.Fatalf("%+v makes %q of %q, with %d entries, right: %v", c, got, text, entries, right)
		}
		was, now := mount.Others(point, []byte(text)), mount.Others(point, got)
		if n := len(was); n > 0 && !strings.HasSuffix(was[n-1], "\n") && len(now) == n {
			was[n-1], now[n-1] = strings.TrimSuffix(was[n-1], "\n"), strings.TrimSuffix(now[n-1], "\n")
		}
		if diff := cmp.Diff(was, now); diff != "" {
			rt.Fatalf("%+v changes lines of others in %q: %s", c, text, diff)
		}
		if again, _, _ := c.Amend(point, got); string(again) != string(got) {
			rt.Fatalf("%+v makes %q of %q, and %q of that", c, got, text, again)
		}
	})
}

func TestBind(t *testing.T) {
	dir, point := prepare(t)
	if err := errors.Join(os.MkdirAll(dir+"/a/b", 0o755), os.MkdirAll(dir+"/c", 0o755), os.WriteFile(dir+"/f", []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []sinktest.Case{
		{Name: "a directory", Resource: point, Params: params{"device": dir + "/a", "options": map[string]any{"bind": ""}},
			Disturb: func() error { return errors.Join(drop(point), run("mount", "--bind", dir+"/c", point)) }},
		{Name: "a directory, to be read only", Resource: point, Params: params{"device": dir + "/a", "options": map[string]any{"bind": "", "ro": ""}},
			Disturb: func() error { return run("mount", "-o", "remount,bind,rw", point) }},
		{Name: "a file", Resource: dir + "/new/g", Params: params{"state": "mounted", "device": dir + "/f", "options": map[string]any{"bind": ""}},
			Disturb: func() error { return errors.Join(drop(dir+"/new/g"), os.RemoveAll(dir+"/new")) }},
	} {
		c.State = state(dir, true)
		sinktest.Run(t, mount.Spec, c)
	}
}

// TestImage has a file system in a file, which is found again through its loop device.
func TestImage(t *testing.T) {
	dir, point := prepare(t)
	image := dir + "/disk"
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(image, 4<<20), run("mkfs.ext4", "-q", image)); err != nil {
		t.Skip("needs mkfs.ext4:", err)
	}
	if err := run("mount", "-o", "loop", image, point); err != nil {
		t.Skip("needs loop devices:", err)
	}
	if err := drop(point); err != nil {
		t.Fatal(err)
	}
	sinktest.Run(t, mount.Spec, sinktest.Case{Name: "an image", Resource: point, State: state(dir, true),
		Params:  params{"state": "mounted", "device": image, "type": "ext4", "options": map[string]any{"loop": "", "noatime": ""}},
		Disturb: func() error { return run("mount", "-o", "remount,ro", point) }})
}

// TestSystemdIsTold has systemd, which makes units of fstab, know of each change.
func TestSystemdIsTold(t *testing.T) {
	needs.Systemd(t)
	dir, _ := prepare(t)
	unit, err := exec.Command("systemd-escape", "--path", "--suffix=mount", dir+"/told").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ state, loaded string }{{"listed", "loaded"}, {"unlisted", "not-found"}} {
		r := sinktest.Build(t, mount.Spec, dir+"/told", params{"device": "tmpfs", "type": "tmpfs", "state": step.state})
		if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
			t.Errorf("%s: %+v, %v", step.state, out, err)
		}
		got, err := exec.Command("systemctl", "show", "--property=LoadState", "--value", "--", strings.TrimSpace(string(unit))).Output()
		if err != nil || strings.TrimSpace(string(got)) != step.loaded {
			t.Errorf("%s: for systemd it is %q, %v, want %q", step.state, got, err, step.loaded)
		}
	}
}

func TestHidden(t *testing.T) {
	dir, _ := prepare(t)
	if err := os.MkdirAll(dir+"/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	r := sinktest.Build(t, mount.Spec, dir+"/a/b", params{"device": "tmpfs", "type": "tmpfs", "state": "mounted"})
	for _, step := range []string{"it is mounted", "it is hidden by another mount"} {
		if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
			t.Errorf("%s: %+v, %v", step, out, err)
		}
		if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
			t.Errorf("%s, a second time: %+v, %v", step, out, err)
		}
		if err := mountAt(dir+"/a", "size=1m"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestThroughALink(t *testing.T) {
	dir, point := prepare(t)
	if err := os.Symlink(point, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	r := sinktest.Build(t, mount.Spec, dir+"/link", params{"device": "tmpfs", "type": "tmpfs", "state": "mounted"})
	for _, changed := range []bool{true, false} {
		if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed != changed {
			t.Errorf("%+v, %v; want Changed to be %v", out, err, changed)
		}
	}
}

func TestRefused(t *testing.T) {
	dir, point := prepare(t)
	if err := mountAt(point, "size=1m"); err != nil {
		t.Fatal(err)
	}
	busy, err := os.Create(point + "/busy")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, test := range []struct {
		name, point string
		params      params
		want        string
	}{
		{"what is busy", point, params{"state": "absent"}, "target is busy"},
		{"a device that is not there", dir + "/x", params{"device": "/dev/nothing", "type": "ext4"}, "/dev/nothing does not exist"},
		{"what is no disk", dir + "/x", params{"device": "/dev/null", "type": "ext4"}, "/dev/null is not a block device"},
		{"an option that is wrong", dir + "/x", params{"device": "tmpfs", "type": "tmpfs", "options": map[string]any{"colour": "red"}}, "mount"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.params["state"] = map[bool]any{true: test.params["state"], false: "mounted"}[test.params["state"] != nil]
			_, err := sinktest.Build(t, mount.Spec, test.point, test.params).CheckApply(t.Context(), true)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v, want %q", err, test.want)
			}
			t.Log(err)
		})
	}
}

// TestMany has 500 mounts come at once and be looked at again.
func TestMany(t *testing.T) {
	const n = 500
	dir, _ := prepare(t)
	var members []sinks.Resource
	for i := range n {
		members = append(members, sinktest.Build(t, mount.Spec, filepath.Join(dir, fmt.Sprint(i)), params{"device": "tmpfs", "type": "tmpfs", "options": map[string]any{"size": "1m"}}))
	}
	for _, changed := range []bool{true, false} {
		start := time.Now()
		var running sync.WaitGroup
		for i, r := range members {
			running.Go(func() {
				if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed != changed {
					t.Errorf("mount %d: %+v, %v; want Changed to be %v", i, out, err, changed)
				}
			})
		}
		running.Wait()
		t.Logf("%d mounts, Changed %v: %v", n, changed, time.Since(start))
	}
	text, err := os.ReadFile(fstab)
	if got := strings.Count(string(text), dir); err != nil || got != n || !strings.HasPrefix(string(text), before+after) {
		t.Errorf("fstab has %d of %d lines, %v", got, n, err)
	}
}

func TestInvalid(t *testing.T) {
	for _, test := range []struct {
		name   string
		params params
		want   string
	}{
		{"mnt", params{"device": "tmpfs"}, "the name is that of the mount point"},
		{"/mnt", params{}, "device: it is missing"},
		{"/mnt", params{"device": "tmpfs", "state": "there"}, "there"},
		{"/mnt", params{"device": "a\nb"}, "line break"},
		{"/mnt", params{"device": "tmpfs", "type": "a b"}, `"a b" is not a type`},
		{"/mnt", params{"device": "tmpfs", "freq": -1}, "freq: it is negative"},
		{"/mnt", params{"device": "tmpfs", "passno": -1}, "passno: it is negative"},
		{"/mnt", params{"device": "tmpfs", "options": map[string]any{"ro,nosuid": ""}}, "is not the name of an option"},
		{"/mnt", params{"device": "tmpfs", "options": map[string]any{"x": "a\nb"}}, "line break"},
		{"/", params{"state": "absent"}, "the root can't be unmounted"},
	} {
		sinktest.Invalid(t, mount.Spec, test.name, test.params, test.want)
	}
}

func TestEdges(t *testing.T) {
	for _, test := range []struct {
		name, point string
		cfg         *mount.Config
		want        []string
	}{
		{"a disk", "/srv", &mount.Config{Device: "/dev/sdb1", Type: "xfs"}, []string{
			"provides mount /srv", "provides edits /etc/fstab",
			"needs file /etc/fstab, its file", "needs owned /etc/fstab, which brings its file",
			"needs dir /srv, its mount point", "needs dir above /srv, which holds it", "needs mount above /srv, on which it is",
			"needs file /dev/sdb1, its device", "needs owned /dev/sdb1, which brings a file that it uses", "needs edits /dev/sdb1, which changes a file that it uses",
			"needs dir above /dev/sdb1, which holds a file that it uses", "needs mount above /dev/sdb1, on which a file is that it uses",
			"needs owned /sbin/mount.xfs, which brings the program for xfs", "needs owned /usr/sbin/mount.xfs, which brings the program for xfs",
		}},
		{"what is absent goes after what is on it", "/srv", &mount.Config{State: "absent"}, []string{
			"provides gone /srv", "provides edits /etc/fstab",
			"needs file /etc/fstab, its file", "needs owned /etc/fstab, which brings its file",
			"needs gone below /srv, which may be on it",
		}},
		{"what is only unlisted", "/srv", &mount.Config{State: "unlisted"}, []string{
			"provides edits /etc/fstab", "needs file /etc/fstab, its file", "needs owned /etc/fstab, which brings its file",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, test.point)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
