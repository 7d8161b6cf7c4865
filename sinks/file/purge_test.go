package file_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

// tree lists everything below d.
func tree(t *testing.T, d string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(d, func(path string, _ os.DirEntry, err error) error {
		if path != d {
			paths = append(paths, strings.TrimPrefix(path, d+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func expect(t *testing.T, d string, want ...string) {
	t.Helper()
	if got := tree(t, d); !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
}

func apply(t *testing.T, r sinks.Resource) sinks.Outcome {
	t.Helper()
	out, err := r.CheckApply(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPurgeSparesWhatOthersManage(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/p/mine", ""), write(d+"/p/sub/theirs", ""), write(d+"/p/sub/nobodys", ""),
		write(d+"/p/dir/anything", ""), write(d+"/p/gone/a", ""), write(d+"/elsewhere", ""))
	r := sinktest.Build(t, file.Spec, d+"/p/", params{"state": "exists", "purge": true})
	names := []string{"path " + d + "/p", "path " + d + "/p/sub/theirs", "path " + d + "/p/dir", "path " + d + "/p/missing",
		"path " + d + "/elsewhere", "unit nginx.service", "path " + d + "/pp"}
	aware := r.(sinks.SiblingAware)
	if !aware.Siblings(names) {
		t.Error("siblings are new but not reported")
	}
	if aware.Siblings(slices.Clone(names)) {
		t.Error("the same siblings are reported as new")
	}
	if out := apply(t, r); len(out.Changes) != 4 {
		t.Errorf("%d changes: %v", len(out.Changes), out.Changes)
	}
	expect(t, d, "elsewhere", "p", "p/dir", "p/dir/anything", "p/sub", "p/sub/theirs")
	if out := apply(t, r); out.Changed {
		t.Errorf("a second time: %v", out.Changes)
	}
	if !aware.Siblings(names[:2]) {
		t.Error("a sibling is gone and not reported")
	}
	apply(t, r)
	expect(t, d, "elsewhere", "p", "p/sub", "p/sub/theirs")
}

func TestPurgeSparesWhatIsManagedUnderAnotherName(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/p/sub/theirs", ""), write(d+"/p/other", ""), link("p", d+"/alias"))
	r := sinktest.Build(t, file.Spec, d+"/p/", params{"purge": true})
	r.(sinks.SiblingAware).Siblings([]string{"path " + d + "/alias/sub/theirs"})
	apply(t, r)
	expect(t, d, "alias", "p", "p/sub", "p/sub/theirs")
}

func TestPurgeSparesSources(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/p/source", ""), write(d+"/p/part", ""), write(d+"/p/other", ""))
	var keeps []string
	for _, p := range []params{{"source": d + "/p/source"}, {"fragments": d + "/p/part"}} {
		keeps = append(keeps, sinktest.Build(t, file.Spec, d+"/f", p).(sinks.Keeper).Keeps()...)
	}
	r := sinktest.Build(t, file.Spec, d+"/p/", params{"purge": true})
	r.(sinks.SiblingAware).Siblings(keeps)
	apply(t, r)
	expect(t, d, "p", "p/part", "p/source")
}

func TestPurgeFollowsNoLink(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/precious/file", ""), mkdir(d+"/p/sub"), link(d+"/precious", d+"/p/link"), link("../../precious", d+"/p/sub/link"),
		write(d+"/src/keep", ""), link(d+"/precious", d+"/q"))
	apply(t, sinktest.Build(t, file.Spec, d+"/p/", params{"purge": true}))
	expect(t, d, "p", "precious", "precious/file", "q", "src", "src/keep")

	// Nor is a link at the top one, not even with force.
	for _, p := range []params{{"purge": true}, {"purge": true, "recurse": true, "source": d + "/src"}} {
		r := sinktest.Build(t, file.Spec, d+"/q/", p)
		if _, err := r.CheckApply(t.Context(), true); err == nil {
			t.Error("a link has been purged")
		}
	}
	apply(t, sinktest.Build(t, file.Spec, d+"/q/", params{"state": "exists", "purge": true, "force": true}))
	expect(t, d, "p", "precious", "precious/file", "q", "src", "src/keep")
}

func TestAbsentFollowsNoLink(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/precious/file", ""), mkdir(d+"/p/sub"), link(d+"/precious", d+"/p/link"))
	apply(t, sinktest.Build(t, file.Spec, d+"/p/", params{"state": "absent", "force": true}))
	expect(t, d, "precious", "precious/file")
}

func TestRecurseFollowsNoLink(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/precious", ""), mkdir(d+"/p"), link("../precious", d+"/p/link"), write(d+"/p/theirs", ""))
	r := sinktest.Build(t, file.Spec, d+"/p/", params{"mode": "0600", "recurse": true})
	r.(sinks.SiblingAware).Siblings([]string{"path " + d + "/p/theirs"})
	apply(t, r)
	for _, path := range []string{"/precious", "/p/theirs"} {
		if info, err := os.Stat(d + path); err != nil || info.Mode() != 0o644 {
			t.Errorf("the mode of %s is %v, %v", path, info.Mode(), err)
		}
	}
}

func TestCopySparesWhatOthersManage(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/src/a", "new"), write(d+"/src/b", "new"), write(d+"/p/a", "theirs"), write(d+"/p/sub/x", "theirs"), write(d+"/src/sub", "a file"))
	r := sinktest.Build(t, file.Spec, d+"/p/", params{"source": d + "/src", "recurse": true, "purge": true, "force": true})
	r.(sinks.SiblingAware).Siblings([]string{"path " + d + "/p/a", "path " + d + "/p/sub/x"})
	_, err := r.CheckApply(t.Context(), true)
	if err == nil || !strings.Contains(err.Error(), "p/sub is a directory, but a file is expected, and the graph manages "+d+"/p/sub/x in it") {
		t.Errorf("got %v", err)
	}
	setup(t, remove(d+"/src/sub"))
	apply(t, r)
	expect(t, d+"/p", "a", "b", "sub", "sub/x")
	if b, err := os.ReadFile(d + "/p/a"); err != nil || string(b) != "theirs" {
		t.Errorf("it holds %q, %v", b, err)
	}
}

func TestPurgeStopsAtMountPoints(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: only root mounts")
	}
	d := t.TempDir()
	setup(t, mkdir(d+"/p/sub/mnt"), write(d+"/p/sub/other", ""), write(d+"/precious/file", ""))
	if err := unix.Mount(d+"/precious", d+"/p/sub/mnt", "", unix.MS_BIND, ""); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer unix.Unmount(d+"/p/sub/mnt", unix.MNT_DETACH)

	apply(t, sinktest.Build(t, file.Spec, d+"/p/", params{"purge": true}))
	expect(t, d, "p", "p/sub", "p/sub/mnt", "p/sub/mnt/file", "precious", "precious/file")

	r := sinktest.Build(t, file.Spec, d+"/p/", params{"state": "absent", "force": true})
	if _, err := r.CheckApply(t.Context(), true); err == nil || !strings.Contains(err.Error(), "mnt is a mount point, so it is not removed") {
		t.Errorf("got %v", err)
	}
	expect(t, d, "p", "p/sub", "p/sub/mnt", "p/sub/mnt/file", "precious", "precious/file")
}

func TestPurgeSparesFilesThatAreBeingWritten(t *testing.T) {
	d := t.TempDir()
	setup(t, mkdir(d+"/p"), write(d+"/p/.mgmt-0123456789abcdef", "left over"), link("x", d+"/p/.mgmt-0123456789abcdee"))
	for _, name := range []string{".mgmt-0123456789abcdef", ".mgmt-0123456789abcdee"} {
		long := unix.NsecToTimespec(time.Now().Add(-2 * time.Minute).UnixNano())
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, d+"/p/"+name, []unix.Timespec{long, long}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	setup(t, write(d+"/p/.mgmt-0123456789abcded", "made a moment ago, and not locked yet"))
	purge := sinktest.Build(t, file.Spec, d+"/p/", params{"purge": true})
	settle := sinktest.Build(t, file.Spec, d+"/p/", params{"recurse": true, "mode": "0600"})
	err := atomicfile.Replace(t.Context(), atomicfile.At(d+"/p/f"), atomicfile.Options{Meta: atomicfile.Keep}, func(*atomicfile.Temp) error {
		apply(t, purge)
		if left := tree(t, d+"/p"); len(left) != 2 || !atomicfile.IsTemp(left[0]) || !atomicfile.IsTemp(left[1]) {
			t.Errorf("there is %q", left)
		}
		if out := apply(t, purge); out.Changed {
			t.Errorf("a second time: %v", out.Changes)
		}
		apply(t, settle)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d + "/p/f"); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
}

func TestSourceWithoutItsUnfinishedFiles(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/src/a", ""), write(d+"/src/.mgmt-0123456789abcdef", ""), write(d+"/src/.hidden", ""))
	apply(t, sinktest.Build(t, file.Spec, d+"/p/", params{"source": d + "/src", "recurse": true}))
	expect(t, d+"/p", ".hidden", "a")
}

func TestMissingSourceIsNoReasonToPurge(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/p/a", ""))
	r := sinktest.Build(t, file.Spec, d+"/p/", params{"source": d + "/src", "recurse": true, "purge": true})
	if _, err := r.CheckApply(t.Context(), true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	expect(t, d+"/p", "a")
}

func TestCopiedTree(t *testing.T) {
	d := t.TempDir()
	setup(t, func() error { return sampleTree(d + "/src") }, write(d+"/dst/kept", ""))
	apply(t, sinktest.Build(t, file.Spec, d+"/dst/", params{"source": d + "/src/", "recurse": true, "mode": "0640"}))
	expect(t, d+"/dst", "kept", "link", "sub", "sub/deep", "sub/deep/file", "sub/empty", "sub/program", "top")
	for path, want := range map[string]os.FileMode{
		"sub": 0o750 | os.ModeDir, "sub/deep/file": 0o640, "sub/program": 0o640, "kept": 0o644, ".": 0o750 | os.ModeDir,
	} {
		if info, err := os.Lstat(filepath.Join(d, "dst", path)); err != nil || info.Mode() != want {
			t.Errorf("the mode of %s is %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	if target, err := os.Readlink(d + "/dst/link"); err != nil || target != "../elsewhere" {
		t.Errorf("the link leads to %s, %v", target, err)
	}
	setup(t, remove(d+"/dst"))
	apply(t, sinktest.Build(t, file.Spec, d+"/dst/", params{"source": d + "/src/", "recurse": true}))
	if info, err := os.Stat(d + "/dst/sub/program"); err != nil || info.Mode() != 0o755 {
		t.Errorf("the mode of a program is %v, %v", info.Mode(), err)
	}
	setup(t, fifo(d+"/src/pipe"))
	r := sinktest.Build(t, file.Spec, d+"/dst/", params{"source": d + "/src/", "recurse": true})
	if _, err := r.CheckApply(t.Context(), true); err == nil || !strings.Contains(err.Error(), "src/pipe is a named pipe, which can't be copied") {
		t.Errorf("got %v", err)
	}
}

func TestCancelledPurge(t *testing.T) {
	d := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		setup(t, write(d+"/p/"+name, ""))
	}
	r := sinktest.Build(t, file.Spec, d+"/p/", params{"purge": true})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := r.CheckApply(ctx, true); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	expect(t, d+"/p", "a", "b", "c")
}

// TestDeepTree goes deeper than a path may be long.
func TestDeepTree(t *testing.T) {
	d := t.TempDir()
	root, err := os.OpenRoot(d)
	if err != nil {
		t.Fatal(err)
	}
	setup(t, func() error { return root.Mkdir("p", 0o755) })
	dir, err := root.OpenRoot("p")
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("x", 200)
	for range 30 {
		setup(t, func() error { return dir.Mkdir(name, 0o755) })
		next, err := dir.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		dir.Close()
		dir = next
	}
	dir.Close()
	root.Close()
	apply(t, sinktest.Build(t, file.Spec, d+"/p/", params{"purge": true}))
	expect(t, d, "p")
}
