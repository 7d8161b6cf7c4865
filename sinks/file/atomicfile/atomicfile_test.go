package atomicfile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// TestMain also is the process that TestKilled kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("ATOMICFILE_KILLED"); path != "" {
		atomicfile.Replace(context.Background(), atomicfile.At(path), plain, func(t *atomicfile.Temp) error {
			t.Write([]byte("half"))
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		})
	}
	os.Exit(m.Run())
}

// plain leaves everything alone.
var plain = atomicfile.Options{Meta: atomicfile.Keep}

func text(s string) func(*atomicfile.Temp) error {
	return func(t *atomicfile.Temp) error {
		_, err := t.Write([]byte(s))
		return err
	}
}

func stat(t *testing.T, path string) *unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if ok, err := atomicfile.At(path).Stat(&st); !ok || err != nil {
		t.Fatalf("stat %s: %v, %v", path, ok, err)
	}
	return &st
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// expect checks that path holds content and is alone in its directory.
func expect(t *testing.T, path, content string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Errorf("%s holds %q, %v; want %q", path, got, err, content)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside it there is something left: %v, %v", entries, err)
	}
}

func TestReplace(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o027))
	tests := []struct {
		name  string
		setup func(t *testing.T, path string)
		opts  atomicfile.Options
		found bool
		mode  uint32
	}{
		{"a new file has the usual mode less the umask", nil, plain, false, 0o640},
		{"a new file has the mode of its source less the umask", nil, atomicfile.Options{Meta: atomicfile.Keep, Perm: 0o755}, false, 0o750},
		{"a mode that is asked for ignores the umask", nil, atomicfile.Options{Meta: atomicfile.Meta{UID: -1, GID: -1, Mode: 0o4777}}, false, 0o4777},
		{"the mode of the file before is kept", func(t *testing.T, path string) { write(t, path, "old and longer", 0o604) }, plain, true, 0o604},
		{"a mode that is asked for goes before the old one", func(t *testing.T, path string) { write(t, path, "old", 0o604) },
			atomicfile.Options{Meta: atomicfile.Meta{UID: -1, GID: -1, Mode: 0o600}}, true, 0o600},
		{"a link is replaced and not followed", func(t *testing.T, path string) {
			if err := os.Symlink("nowhere", path); err != nil {
				t.Fatal(err)
			}
		}, plain, false, 0o640},
		{"missing parents are made", func(t *testing.T, path string) { os.Remove(filepath.Dir(path)) },
			atomicfile.Options{Meta: atomicfile.Keep, Parents: true}, false, 0o640},
		{"a durable file is like any other", nil, atomicfile.Options{Meta: atomicfile.Keep, Durable: true}, false, 0o640},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a file")
			if tt.setup != nil {
				tt.setup(t, path)
			}
			if tt.found {
				tt.opts.Found = stat(t, path)
			}
			if err := atomicfile.Replace(t.Context(), atomicfile.At(path), tt.opts, text("new")); err != nil {
				t.Fatal(err)
			}
			expect(t, path, "new")
			if got := stat(t, path).Mode; got != tt.mode|unix.S_IFREG {
				t.Errorf("mode is %o, want %o", got, tt.mode)
			}
		})
	}
}

func TestReplaceKeepsAttributes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "old", 0o640)
	acl := accessList(t, 0o6, 0o4, 0o4)
	for name, value := range map[string][]byte{"user.colour": []byte("blue"), "user.empty": nil, "system.posix_acl_access": acl} {
		if err := unix.Setxattr(path, name, value, 0); errors.Is(err, unix.EOPNOTSUPP) {
			t.Skipf("needs a filesystem with attributes: %v", err)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	before := stat(t, path)
	opts := plain
	opts.Found = before
	if err := atomicfile.Replace(t.Context(), atomicfile.At(path), opts, text("new")); err != nil {
		t.Fatal(err)
	}
	expect(t, path, "new")
	if after := stat(t, path); after.Mode != before.Mode {
		t.Errorf("mode went from %o to %o", before.Mode, after.Mode)
	}
	value := make([]byte, 100)
	if n, err := unix.Getxattr(path, "user.colour", value); err != nil || string(value[:n]) != "blue" {
		t.Errorf("user.colour is %q, %v", value[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(path, "user.empty", value); err != nil || n != 0 {
		t.Errorf("user.empty has %d bytes, %v", n, err)
	}
	if n, err := unix.Getxattr(path, "system.posix_acl_access", value); err != nil || !bytes.Equal(value[:n], acl) {
		t.Errorf("access list is %x, %v; want %x", value[:max(n, 0)], err, acl)
	}
}

func TestReplaceDropsTheListOfTheDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	write(t, path, "old", 0o640)
	if err := unix.Setxattr(dir, "system.posix_acl_default", accessList(t, 7, 7, 7), 0); errors.Is(err, unix.EOPNOTSUPP) {
		t.Skipf("needs a filesystem with access control lists: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	opts := plain
	opts.Found = stat(t, path)
	if err := atomicfile.Replace(t.Context(), atomicfile.At(path), opts, text("new")); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Getxattr(path, "system.posix_acl_access", nil); err != unix.ENODATA {
		t.Errorf("the file has got an access list from its directory (%v)", err)
	}
	if got := stat(t, path).Mode & 0o7777; got != 0o640 {
		t.Errorf("mode is %04o", got)
	}
}

// accessList is a POSIX access control list in the form of acl(5) as the kernel takes
// it: version 2, then tag, permissions and id of each entry. It also names user 65534.
func accessList(t *testing.T, user, group, mask uint16) []byte {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, user, ^uint32(0)}, {2, 4, 65534}, {4, group, ^uint32(0)}, {16, mask, ^uint32(0)}, {32, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

func TestReplaceKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: only root gives files away")
	}
	tests := []struct {
		name           string
		meta           atomicfile.Meta
		uid, gid, mode uint32
	}{
		{"all of it", atomicfile.Keep, 1234, 2345, 0o6755},
		{"all but the owner that is asked for", atomicfile.Meta{UID: 99, GID: -1, Mode: -1}, 99, 2345, 0o6755},
		{"all but the group that is asked for", atomicfile.Meta{UID: -1, GID: 99, Mode: -1}, 1234, 99, 0o6755},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			write(t, path, "old", 0o644)
			if err := os.Chown(path, 1234, 2345); err != nil {
				t.Fatal(err)
			}
			if err := unix.Chmod(path, 0o6755); err != nil {
				t.Fatal(err)
			}
			o := atomicfile.Options{Meta: tt.meta, Found: stat(t, path)}
			if err := atomicfile.Replace(t.Context(), atomicfile.At(path), o, text("new")); err != nil {
				t.Fatal(err)
			}
			if st := stat(t, path); st.Uid != tt.uid || st.Gid != tt.gid || st.Mode&0o7777 != tt.mode {
				t.Errorf("got %d:%d %04o, want %d:%d %04o", st.Uid, st.Gid, st.Mode&0o7777, tt.uid, tt.gid, tt.mode)
			}
		})
	}
}

func TestFailureLeavesTheFileAlone(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name string
		fill func(cancel func(), t *atomicfile.Temp) error
		want error
	}{
		{"the content can't be had", func(_ func(), t *atomicfile.Temp) error { t.Write([]byte("x")); return broken }, broken},
		{"cancelled before a write", func(cancel func(), t *atomicfile.Temp) error {
			cancel()
			_, err := t.Write([]byte("x"))
			return err
		}, context.Canceled},
		{"cancelled after the last write", func(cancel func(), t *atomicfile.Temp) error {
			_, err := t.Write([]byte("x"))
			cancel()
			return err
		}, context.Canceled},
		{"cancelled before a copy", func(cancel func(), t *atomicfile.Temp) error {
			cancel()
			return t.Copy(0, "standard input")
		}, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			write(t, path, "old", 0o644)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := atomicfile.Replace(ctx, atomicfile.At(path), plain, func(t *atomicfile.Temp) error { return tt.fill(cancel, t) })
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			expect(t, path, "old")
		})
	}
}

func TestErrorsNameThePlace(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := atomicfile.Replace(t.Context(), atomicfile.At(filepath.Join(dir, "none/f")), plain, text("x"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir+"/none") {
		t.Errorf("missing parent: %v", err)
	}
	err = atomicfile.Replace(t.Context(), atomicfile.At(filepath.Join(dir, "sub")), plain, text("x"))
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), dir+"/sub") {
		t.Errorf("a directory in the way: %v", err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("something is left behind: %v", entries)
	}
}

func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ATOMICFILE_KILLED="+path)
	if err := cmd.Run(); err == nil {
		t.Fatal("the child has not been killed")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 || !atomicfile.IsTemp(left[0].Name()) {
		t.Fatalf("the child has left %v, %v", left, err)
	}
	if !atomicfile.Stale(atomicfile.At(filepath.Join(filepath.Dir(path), left[0].Name()))) {
		t.Error("what a killed process left is not stale")
	}
	if err := atomicfile.Replace(t.Context(), atomicfile.At(path), plain, text("new")); err != nil {
		t.Fatal(err)
	}
	expect(t, path, "new")
}

func TestTwoWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	err := atomicfile.Replace(t.Context(), atomicfile.At(path), plain, func(outer *atomicfile.Temp) error {
		if err := text("outer")(outer); err != nil {
			return err
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(entries) != 1 {
			t.Fatalf("%v, %v", entries, err)
		}
		if atomicfile.Stale(atomicfile.At(filepath.Join(filepath.Dir(path), entries[0].Name()))) {
			t.Error("a file that is being written is called stale")
		}
		return atomicfile.Replace(t.Context(), atomicfile.At(path), plain, text("inner"))
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, path, "outer")
}

func TestOnly(t *testing.T) {
	tests := []struct {
		name   string
		before string // of the file when it was read; empty for none
		other  func(path string) error
		want   string
	}{
		{"nobody else", "old", func(string) error { return nil }, "new"},
		{"nobody else where nothing is", "", func(string) error { return nil }, "new"},
		{"somebody writes", "old", func(path string) error { return os.WriteFile(path, []byte("other"), 0o644) }, "other"},
		{"somebody replaces", "old", func(path string) error {
			return errors.Join(os.WriteFile(path+".x", []byte("OLD"), 0o644), os.Rename(path+".x", path))
		}, "OLD"},
		{"somebody changes the mode", "old", func(path string) error { return os.Chmod(path, 0o600) }, "old"},
		{"somebody removes", "old", os.Remove, ""},
		{"somebody creates", "", func(path string) error { return os.WriteFile(path, []byte("other"), 0o644) }, "other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			o := atomicfile.Options{Meta: atomicfile.Keep, Only: true}
			if tt.before != "" {
				write(t, path, tt.before, 0o644)
				o.Found = stat(t, path)
			}
			err := atomicfile.Replace(t.Context(), atomicfile.At(path), o, func(temp *atomicfile.Temp) error {
				if err := tt.other(path); err != nil {
					t.Fatal(err)
				}
				return text("new")(temp)
			})
			if tt.want == "new" != (err == nil) || err != nil && !errors.Is(err, atomicfile.ErrChanged) {
				t.Errorf("got %v", err)
			}
			if got, _ := os.ReadFile(path); string(got) != tt.want {
				t.Errorf("it holds %q, want %q", got, tt.want)
			}
			if temps, _ := filepath.Glob(filepath.Dir(path) + "/.mgmt-*"); len(temps) > 0 {
				t.Errorf("left behind: %v", temps)
			}
		})
	}
}

// TestCounter has writers add to a number in a file, each to what it has read. Lost
// edits would show in the sum, and on another process as well.
func TestCounter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	const writers, each = 4, 100
	var running sync.WaitGroup
	for range writers {
		running.Go(func() {
			for n := 0; n < each; {
				o := atomicfile.Options{Meta: atomicfile.Keep, Only: true}
				var st unix.Stat_t
				if there, err := atomicfile.At(path).Stat(&st); err != nil {
					t.Error(err)
				} else if there {
					o.Found = &st
				}
				got, err := os.ReadFile(path)
				if o.Found == nil && err == nil {
					continue // it came into being in between
				}
				err = atomicfile.Replace(t.Context(), atomicfile.At(path), o, text(string(got)+"+"))
				switch {
				case err == nil:
					n++
				case !errors.Is(err, atomicfile.ErrChanged):
					t.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	expect(t, path, strings.Repeat("+", writers*each))
}

// TestManyWriters has them come upon each other's temporary files in every state.
func TestManyWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 500 {
				if err := atomicfile.Replace(t.Context(), atomicfile.At(path), plain, text("x")); err != nil {
					t.Error(err)
				}
				if err := atomicfile.Symlink(atomicfile.At(path), "x", plain); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("something is left behind: %v, %v", entries, err)
	}
}

func TestUnfinishedFilesAreClosedToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "old", 0o644)
	for name, o := range map[string]atomicfile.Options{
		"the mode of the file before": {Meta: atomicfile.Keep, Found: stat(t, path)},
		"a mode that is asked for":    {Meta: atomicfile.Meta{UID: -1, GID: -1, Mode: 0o644}},
	} {
		err := atomicfile.Replace(t.Context(), atomicfile.At(path), o, func(*atomicfile.Temp) error {
			temps, err := filepath.Glob(filepath.Dir(path) + "/" + atomicfile.Prefix + "*")
			if err != nil || len(temps) != 1 {
				t.Fatalf("%v, %v", temps, err)
			}
			if mode := stat(t, temps[0]).Mode & 0o7777; mode != 0o600 {
				t.Errorf("%s: the unfinished file has mode %04o", name, mode)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if mode := stat(t, path).Mode & 0o7777; mode != 0o644 {
			t.Errorf("%s: the finished file has mode %04o", name, mode)
		}
	}
}

func TestReadersNeverSeeAPart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	texts := []string{strings.Repeat("a", 100_000), strings.Repeat("b", 300_000)}
	write(t, path, texts[0], 0o644)
	var writers sync.WaitGroup
	done := make(chan struct{})
	for _, s := range texts {
		writers.Go(func() {
			for range 100 {
				if err := atomicfile.Replace(t.Context(), atomicfile.At(path), plain, text(s)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { writers.Wait(); close(done) }()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != texts[0] && string(got) != texts[1] {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("something is left behind: %v, %v", entries, err)
	}
}

func TestCopy(t *testing.T) {
	big := filepath.Join(t.TempDir(), "big")
	write(t, big, strings.Repeat("0123456789", 500_000), 0o644)
	empty := filepath.Join(t.TempDir(), "empty")
	write(t, empty, "", 0o644)
	tests := []struct{ name, source string }{
		{"a file larger than one step", big},
		{"an empty file", empty},
		{"a file that does not know its size", "/proc/self/status"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fd, err := atomicfile.At(tt.source).Open(0, true, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			path := filepath.Join(t.TempDir(), "f")
			if err := atomicfile.Replace(t.Context(), atomicfile.At(path), plain, func(t *atomicfile.Temp) error { return t.Copy(fd, tt.source) }); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(tt.source)
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if strings.HasPrefix(tt.source, "/proc") { // its figures change as we read
				got, want, _ = cutLine(got), cutLine(want), error(nil)
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("copied %d bytes of %d, %v", len(got), len(want), err)
			}
		})
	}
}

func cutLine(b []byte) []byte {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return line
}

func TestSymlink(t *testing.T) {
	tests := []struct {
		name  string
		setup func(path string) error
	}{
		{"where nothing was", func(string) error { return nil }},
		{"in place of a file", func(path string) error { return os.WriteFile(path, nil, 0o644) }},
		{"in place of another link", func(path string) error { return os.Symlink("nowhere", path) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "link")
			if err := tt.setup(path); err != nil {
				t.Fatal(err)
			}
			target := strings.Repeat("long/", 200) + "target"
			if err := atomicfile.Symlink(atomicfile.At(path), target, plain); err != nil {
				t.Fatal(err)
			}
			if got, err := atomicfile.At(path).Readlink(); err != nil || got != target {
				t.Errorf("it points to %q, %v", got, err)
			}
			if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
				t.Errorf("something is left behind: %v", entries)
			}
		})
	}
}

func TestSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	link := path + ".link"
	write(t, path, "", 0o644)
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	m := atomicfile.Meta{UID: -1, GID: -1, Mode: 0o600}
	if err := atomicfile.At(path).Set(m, stat(t, path)); err != nil {
		t.Fatal(err)
	}
	if st := stat(t, path); m.Differs(st) {
		t.Errorf("mode is %o", st.Mode)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.At(link).Set(m, stat(t, link)); err == nil {
		t.Error("the mode of a link has been set")
	}
	if st := stat(t, path); st.Mode&0o7777 != 0o644 {
		t.Errorf("the mode of a file was set through a link: %04o", st.Mode&0o7777)
	}
}

func TestNamesOfTemporaryFiles(t *testing.T) {
	for name, want := range map[string]bool{
		".mgmt-0123456789abcdef":  true,
		".mgmt-0123456789abcdeg":  false,
		".mgmt-0123456789abcde":   false,
		".mgmt-0123456789abcdef0": false,
		".mgmt-":                  false,
		"mgmt-0123456789abcdef":   false,
	} {
		if atomicfile.IsTemp(name) != want {
			t.Errorf("IsTemp(%q) is %v", name, !want)
		}
	}
}

func TestOpenDoesNotWaitForAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := atomicfile.At(path).Open(0, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

func TestOpenRefusesALink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", path); err != nil {
		t.Fatal(err)
	}
	if _, err := atomicfile.At(path).Open(0, false, 0); !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v", err)
	}
}

func TestEditBeginsAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "first\n", 0o640)
	times := 0
	edited, err := atomicfile.Edit(t.Context(), atomicfile.At(path), plain, func(got []byte) ([]byte, bool) {
		if times++; times == 1 { // somebody else is quicker
			if err := atomicfile.Replace(t.Context(), atomicfile.At(path), plain, text("second\n")); err != nil {
				t.Error(err)
			}
		}
		return append(got, "ours\n"...), true
	})
	if got, _ := os.ReadFile(path); err != nil || !edited || string(got) != "second\nours\n" || times != 2 {
		t.Errorf("after %d attempts it holds %q (%v, %v)", times, got, edited, err)
	}
	times = 0
	_, err = atomicfile.Edit(t.Context(), atomicfile.At(path), plain, func([]byte) ([]byte, bool) {
		times++
		write(t, path, strings.Repeat("x", times), 0o640) // always quicker
		return nil, true
	})
	if !errors.Is(err, atomicfile.ErrChanged) {
		t.Errorf("after %d attempts against somebody who does not stop: %v", times, err)
	}
	if edited, err := atomicfile.Edit(t.Context(), atomicfile.At(filepath.Dir(path)), plain, func([]byte) ([]byte, bool) {
		t.Error("a directory has a text")
		return nil, false
	}); edited || err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("editing a directory: %v, %v", edited, err)
	}
}
