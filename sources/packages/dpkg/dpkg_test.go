package dpkg_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sources/packages/dpkg"
)

const status = `Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21
Description: what manages packages
 Package: nonsense

Package: libx
Status: install ok installed
Architecture: amd64
Version: 1.0

Package: libx
Status: hold ok installed
Architecture: i386
Version: 1.0

Package: doc
Status: install ok triggers-pending
Architecture: all
Version: 2:3.0~rc1-4

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: half
Status: install reinstreq half-installed
Architecture: amd64
Version: 1

Package: purged
Status: purge ok not-installed
Architecture: amd64
`

func database(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	dir := database(t, map[string]string{
		"status":        status,
		"updates/0000":  "Package: libx\nStatus: install ok half-configured\nArchitecture: amd64\nVersion: 1.1\n",
		"updates/0001":  "Package: libx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.2\n",
		"updates/0002":  "Package: gone\nStatus: purge ok not-installed\nArchitecture: all\n",
		"updates/tmp.i": "Package: libx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 9\n",
	})
	s, err := dpkg.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Native() != "amd64" || s.Len() != 5 {
		t.Errorf("%d packages on %s", s.Len(), s.Native())
	}
	for _, tt := range []struct {
		name, version  string
		usable, broken bool
		held           bool
	}{
		{"libx", "1.2", true, false, false},
		{"libx:amd64", "1.2", true, false, false},
		{"libx:i386", "1.0", true, false, true},
		{"libx:arm64", "", false, false, false},
		{"doc", "2:3.0~rc1-4", true, false, false},
		{"doc:amd64", "2:3.0~rc1-4", true, false, false},
		{"doc:all", "2:3.0~rc1-4", true, false, false},
		{"half", "1", false, true, false},
		{"gone", "", false, false, false},
		{"purged", "", false, false, false},
		{"nonsense", "", false, false, false},
	} {
		p, ok := s.Package(tt.name)
		if ok != (tt.version != "") || p.Version != tt.version || p.Usable() != tt.usable || p.Broken() != tt.broken || p.Held != tt.held {
			t.Errorf("%s: %+v, %v", tt.name, p, ok)
		}
	}
	if again, err := dpkg.Read(dir); err != nil || again != s {
		t.Errorf("it is read again though nothing has changed: %v", err)
	}
	if err := os.WriteFile(dir+"/updates/0003", []byte("Package: new\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := dpkg.Read(dir)
	if err != nil || !slices.Equal(dpkg.Changed(s, again), []string{"new"}) || !slices.Equal(dpkg.Changed(again, s), []string{"new"}) {
		t.Errorf("after a step of dpkg %q has changed (%v)", dpkg.Changed(s, again), err)
	}
	if _, err := dpkg.Read(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without dpkg: %v", err)
	}
}

func TestPaths(t *testing.T) {
	dir := database(t, map[string]string{
		"info/a.list":      "/.\n/etc\n/etc/a\n/etc/a/a.conf\n/etc/ab\n/var\n/var/log\n/var/log/a\n",
		"info/b:i386.list": "/.\n/usr\n/usr/b\n",
	})
	if got := dpkg.Paths(dir, "a", ""); !slices.Equal(got, []string{"/etc/a/a.conf", "/etc/ab", "/var/log/a"}) {
		t.Errorf("%q", got)
	}
	if got := dpkg.Paths(dir, "b", "i386"); !slices.Equal(got, []string{"/usr/b"}) {
		t.Errorf("%q", got)
	}
	if got := dpkg.Paths(dir, "c", ""); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

// TestReadsWhatDpkgQueryDoes compares with dpkg's own program, where there is one.
func TestReadsWhatDpkgQueryDoes(t *testing.T) {
	var s *dpkg.Snapshot
	var out []byte
	for { // until nobody has installed something meanwhile
		before, err := dpkg.Read(dpkg.Dir)
		if err != nil {
			t.Skipf("needs the program dpkg-query: %v", err)
		}
		if out, err = exec.Command("dpkg-query", "-W", "-f", "${Package}:${Architecture} ${Version} ${db:Status-Status}\n").Output(); err != nil {
			t.Fatal(err)
		}
		if s, err = dpkg.Read(dpkg.Dir); err != nil {
			t.Fatal(err)
		}
		if s == before {
			break
		}
	}
	lines := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] == dpkg.NotInstalled {
			continue
		}
		lines++
		if p, ok := s.Package(f[0]); !ok || p.Version != f[1] || p.State != f[2] {
			t.Errorf("%s: %+v", strings.TrimSpace(line), p)
		}
	}
	if lines != s.Len() {
		t.Errorf("dpkg-query knows of %d packages, we of %d", lines, s.Len())
	}
}

// lock is a process that holds a lock until it is released.
func lock(t *testing.T, path string) (pid int, release func()) {
	t.Helper()
	cmd := exec.Command("perl", "-e", `use Fcntl; open(F, "+<", $ARGV[0]) or die; $l = pack("s s x4 q q i", F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLK, $l) or die $!; $|=1; print "locked\n"; <STDIN>;`, path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("needs the program perl: %v", err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, func() {
		in.Close()
		cmd.Wait()
	}
}

func TestWaitFree(t *testing.T) {
	dir := t.TempDir()
	paths := []string{dir + "/missing", dir + "/one", dir + "/two"}
	for _, path := range paths[1:] {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	never := func(h dpkg.Holder) { t.Errorf("it waits for %v", h) }
	if err := dpkg.WaitFree(t.Context(), paths, never); err != nil {
		t.Fatal(err)
	}
	pid, release := lock(t, paths[2])
	told := make(chan dpkg.Holder, 8)
	done := make(chan error, 1)
	go func() { done <- dpkg.WaitFree(t.Context(), paths, func(h dpkg.Holder) { told <- h }) }()
	if h := <-told; h.PID != pid || h.Path != paths[2] || h.String() != fmt.Sprintf("perl (%d)", pid) {
		t.Errorf("it waits for %+v", h)
	}
	began := time.Now()
	release()
	if err := <-done; err != nil || len(told) > 0 {
		t.Errorf("%v, and %d more messages", err, len(told))
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v: the kernel's report was not heard", took)
	}

	_, release = lock(t, paths[1])
	defer release()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	go func() { <-told; cancel(cause) }()
	if err := dpkg.WaitFree(ctx, paths, func(h dpkg.Holder) { told <- h }); err != cause {
		t.Errorf("%v, want the cause of the cancel", err)
	}
}

func BenchmarkRead(b *testing.B) {
	if _, err := os.Stat(dpkg.Dir + "/status"); err != nil {
		b.Skipf("needs the program dpkg: %v", err)
	}
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			if _, err := dpkg.Read(dpkg.Dir); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("changed", func(b *testing.B) {
		text, err := os.ReadFile(dpkg.Dir + "/status")
		if err != nil {
			b.Fatal(err)
		}
		dir := b.TempDir()
		if err := os.WriteFile(dir+"/status", text, 0o644); err != nil {
			b.Fatal(err)
		}
		for n := 0; b.Loop(); n++ {
			if err := os.Chtimes(dir+"/status", time.Time{}, time.Unix(int64(n), 0)); err != nil {
				b.Fatal(err)
			}
			if _, err := dpkg.Read(dir); err != nil {
				b.Fatal(err)
			}
		}
	})
}
