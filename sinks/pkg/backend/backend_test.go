package backend_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/pkg/backend"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sinks/sinktest/testrepo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log is what a backend has logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// each runs a test with every backend that this host has.
func each(t *testing.T, test func(*testing.T, backend.Backend, *log)) {
	for _, o := range []backend.Options{{Only: backend.Apt}, {Only: backend.PackageKit}, {Only: backend.PackageKit, NoDatabase: true}} {
		name := o.Only
		if o.NoDatabase {
			name += " alone"
		}
		t.Run(name, func(t *testing.T) {
			if o.Only == backend.PackageKit {
				packageKit(t)
			}
			var l log
			o.Log = slog.New(slog.NewTextHandler(&l, &slog.HandlerOptions{Level: slog.LevelDebug}))
			b, err := backend.ForChanging(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			test(t, b, &l)
			if t.Failed() {
				t.Log(l.String())
			}
		})
	}
}

// packageKit skips where there is none, and gives it the default route that it wants to
// see before it refreshes anything.
func packageKit(t *testing.T) {
	needs.PackageKit(t)
	if out, err := exec.Command("sh", "-c", "ip link show br0 >/dev/null 2>&1 || { ip link add br0 up type bridge && ip route add default dev br0; }").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// do prepares and applies actions, for each of which Now is looked up.
func do(t *testing.T, b backend.Backend, allow backend.Allow, actions ...backend.Action) error {
	t.Helper()
	names := make([]string, len(actions))
	for i, a := range actions {
		names[i] = a.Name
	}
	now, err := b.Look(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	for i := range actions {
		actions[i].Now = now[i]
	}
	for i, err := range b.Prepare(t.Context(), actions, allow) {
		if err != nil {
			return fmt.Errorf("%s: %w", actions[i].Name, err)
		}
	}
	return b.Apply(t.Context(), actions, allow)
}

// versions are what is installed, as the backend sees it.
func versions(t *testing.T, b backend.Backend, names ...string) []string {
	t.Helper()
	all, err := b.Look(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	found := make([]string, len(all))
	for i, s := range all {
		if found[i] = s.Version; s.Broken != "" {
			found[i] = s.Broken
		}
	}
	return found
}

func TestTransactions(t *testing.T) {
	needs.Systemd(t)
	a := testrepo.New(t, "/srv/transactions")
	a.Add(testrepo.Package{Name: "tone"}, testrepo.Package{Name: "tone", Version: "2.0"}, testrepo.Package{Name: "ttwo"}, testrepo.Package{Name: "g++-like"},
		testrepo.Package{Name: "tconflict", Fields: "Conflicts: ttwo\n"}, testrepo.Package{Name: "tneeds", Fields: "Depends: nowhere\n"},
		testrepo.Package{Name: "tprovides", Fields: "Provides: tvirtual\n"})
	a.Publish()
	each(t, func(t *testing.T, b backend.Backend, _ *log) {
		steps := []struct {
			name    string
			allow   backend.Allow
			actions []backend.Action
			want    []string // of tone, ttwo, g++-like
			err     string
		}{
			{"an exact version and two others", backend.Allow{}, []backend.Action{{Name: "tone", Version: "1.0"}, {Name: "ttwo"}, {Name: "g++-like"}}, []string{"1.0", "1.0", "1.0"}, ""},
			{"a newer version, while another goes", backend.Allow{}, []backend.Action{{Name: "tone", Version: "2.0"}, {Name: "g++-like", Remove: true}}, []string{"2.0", "1.0", ""}, ""},
			{"an older version is refused", backend.Allow{}, []backend.Action{{Name: "tone", Version: "1.0"}}, []string{"2.0", "1.0", ""}, "downgrade"},
			{"unless it is allowed", backend.Allow{Downgrade: true}, []backend.Action{{Name: "tone", Version: "1.0"}}, []string{"1.0", "1.0", ""}, ""},
			{"a version that is not there", backend.Allow{}, []backend.Action{{Name: "tone", Version: "3.0"}}, []string{"1.0", "1.0", ""}, "no version 3.0"},
			{"a name that is not there", backend.Allow{}, []backend.Action{{Name: "tno.e"}}, []string{"1.0", "1.0", ""}, "no such package"},
			{"a package that can't be installed", backend.Allow{}, []backend.Action{{Name: "tneeds"}}, []string{"1.0", "1.0", ""}, "nowhere"},
			{"all go", backend.Allow{}, []backend.Action{{Name: "tone", Remove: true}, {Name: "ttwo", Remove: true}, {Name: "g++-like", Remove: true}}, []string{"", "", ""}, ""},
			{"what is not there can go", backend.Allow{}, []backend.Action{{Name: "tone", Remove: true}}, []string{"", "", ""}, ""},
		}
		for _, s := range steps {
			err := do(t, b, s.allow, s.actions...)
			if (err == nil) != (s.err == "") || err != nil && !strings.Contains(err.Error(), s.err) {
				t.Errorf("%s: %v, want %q", s.name, err, s.err)
			}
			if got := versions(t, b, "tone", "ttwo", "g++-like"); !slices.Equal(got, s.want) {
				t.Errorf("%s: there is %q, want %q", s.name, got, s.want)
			}
		}
	})
	each(t, func(t *testing.T, b backend.Backend, _ *log) {
		if err := do(t, b, backend.Allow{}, backend.Action{Name: "ttwo"}); err != nil {
			t.Fatal(err)
		}
		if err := do(t, b, backend.Allow{}, backend.Action{Name: "tconflict"}); err == nil || !strings.Contains(err.Error(), "beside ttwo:") || a.Version("ttwo") == "" {
			t.Errorf("%v, and ttwo is at %q", err, a.Version("ttwo"))
		}
		if err := do(t, b, backend.Allow{}, backend.Action{Name: "tconflict"}, backend.Action{Name: "ttwo", Remove: true}); err != nil || a.Version("tconflict") != "1.0" {
			t.Error(err)
		}
		if err := do(t, b, backend.Allow{}, backend.Action{Name: "tconflict", Remove: true}); err != nil {
			t.Error(err)
		}
		if err := do(t, b, backend.Allow{}, backend.Action{Name: "tvirtual"}); err == nil {
			t.Error("a virtual package is installed")
		}
	})
}

func TestAptHelpsOutWherePackageKitDoesNotStart(t *testing.T) {
	packageKit(t)
	const service = "/usr/share/dbus-1/system-services/org.freedesktop.PackageKit.service"
	good, err := os.ReadFile(service)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(service, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("sh", "-c", "systemctl stop packagekit; busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	write([]byte("[D-BUS Service]\nName=org.freedesktop.PackageKit\nExec=/bin/false\nUser=root\n"))
	defer write(good)
	var l log
	b, err := backend.ForChanging(t.Context(), backend.Options{Log: slog.New(slog.NewTextHandler(&l, nil))})
	if err != nil || b.Name() != backend.Apt || !strings.Contains(l.String(), "PackageKit can't be started") {
		t.Errorf("%v, %v: %s", b, err, l.String())
	}
	write(good)
	if b, err = backend.ForChanging(t.Context(), backend.Options{}); err != nil || b.Name() != backend.PackageKit {
		t.Errorf("when it is there again: %v, %v", b, err)
	}
}

func TestNewest(t *testing.T) {
	needs.Systemd(t)
	a := testrepo.New(t, "/srv/newest")
	a.Add(testrepo.Package{Name: "nold"}, testrepo.Package{Name: "nold", Version: "1.10"}, testrepo.Package{Name: "nold", Version: "1.9"}, testrepo.Package{Name: "nthere"})
	a.Publish()
	a.Run("apt-get", "-y", "-q", "install", "nthere")
	each(t, func(t *testing.T, b backend.Backend, _ *log) {
		got, err := b.Newest(t.Context(), []string{"nold", "nthere", "nowhere"})
		if err != nil || !slices.Equal(got, []string{"1.10", "1.0", ""}) {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestWhatIsAllowed(t *testing.T) {
	needs.Systemd(t)
	a := testrepo.New(t, "/srv/foreign")
	a.Origin("Example Corp")
	a.Add(testrepo.Package{Name: "aforeign"})
	a.Publish()
	b, err := backend.ForChanging(t.Context(), backend.Options{Only: backend.Apt})
	if err != nil {
		t.Fatal(err)
	}
	if err := do(t, b, backend.Allow{}, backend.Action{Name: "aforeign"}); err == nil || !strings.Contains(err.Error(), "an archive of Example Corp") || !strings.Contains(err.Error(), "allowunsupported") {
		t.Errorf("unsupported: %v", err)
	}
	if err := do(t, b, backend.Allow{Unsupported: true}, backend.Action{Name: "aforeign"}); err != nil {
		t.Errorf("allowed: %v", err)
	}

	free := testrepo.New(t, "/srv/pool")
	free.Add(testrepo.Package{Name: "anotfree"})
	free.Publish()
	index, err := os.ReadFile("/srv/pool/Packages")
	if err != nil {
		t.Fatal(err)
	}
	dir := "/srv/pool/dists/stable/non-free/binary-amd64"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/Packages", index, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/srv/pool/dists/stable/Release", []byte("Origin: Debian\nComponents: non-free\nArchitectures: amd64\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/etc/apt/sources.list", []byte("deb [trusted=yes arch=amd64] file:/srv/pool stable non-free\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	a.Run("apt-get", "update")
	if err := do(t, b, backend.Allow{Unsupported: true}, backend.Action{Name: "anotfree"}); err == nil || !strings.Contains(err.Error(), "allownonfree") {
		t.Errorf("not free: %v", err)
	}
	if err := do(t, b, backend.Allow{NonFree: true}, backend.Action{Name: "anotfree"}); err != nil {
		t.Errorf("allowed: %v", err)
	}

	if err := os.WriteFile("/etc/apt/sources.list", []byte("deb [allow-insecure=yes] file:/srv/unsigned ./\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	unsigned := testrepo.New(t, "/srv/unsigned")
	unsigned.Add(testrepo.Package{Name: "aunsigned"})
	unsigned.Index()
	a.Run("apt-get", "update")
	if err := do(t, b, backend.Allow{Unsupported: true}, backend.Action{Name: "aunsigned"}); err == nil || !strings.Contains(err.Error(), "unauthenticated") {
		t.Errorf("unsigned: %v", err)
	}
	if err := do(t, b, backend.Allow{Unsupported: true, Untrusted: true}, backend.Action{Name: "aunsigned"}); err != nil {
		t.Errorf("allowed: %v", err)
	}
}

func TestRefreshesListsForAPackageThatIsNotInThem(t *testing.T) {
	needs.Systemd(t)
	a := testrepo.New(t, "/srv/refresh")
	a.Add(testrepo.Package{Name: "rfirst"})
	a.Publish()
	n := 0
	each(t, func(t *testing.T, b backend.Backend, l *log) {
		n++
		name := fmt.Sprint("rlater", n)
		a.Add(testrepo.Package{Name: name})
		a.Index()
		if err := do(t, b, backend.Allow{}, backend.Action{Name: name}); err != nil || a.Version(name) != "1.0" {
			t.Errorf("%s is at %q: %v", name, a.Version(name), err)
		}
		if err := do(t, b, backend.Allow{}, backend.Action{Name: "rnever"}); err == nil {
			t.Error("it installs what is not there")
		}
		if n := strings.Count(l.String(), "refreshing the lists"); n != 1 {
			t.Errorf("the lists were refreshed %d times, want once", n)
		}
	})
}

// locked holds a lock as dpkg does until the returned function is called. It is another
// process that has it: a lock is not seen by its own.
func locked(t *testing.T, path string) (release func()) {
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
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 64)); err != nil {
		t.Fatal(n, err)
	}
	return sync.OnceFunc(func() {
		in.Close()
		cmd.Wait()
	})
}

func TestWaitsForTheLock(t *testing.T) {
	needs.Systemd(t)
	a := testrepo.New(t, "/srv/locked")
	a.Add(testrepo.Package{Name: "lone"})
	a.Publish()
	each(t, func(t *testing.T, b backend.Backend, l *log) {
		for _, lock := range []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/cache/apt/archives/lock"} {
			if err := do(t, b, backend.Allow{}, backend.Action{Name: "lone", Remove: true}); err != nil {
				t.Fatal(err)
			}
			before := strings.Count(l.String(), "waiting for the lock")
			release := locked(t, lock)
			defer release()
			done := make(chan error, 1)
			go func() { done <- do(t, b, backend.Allow{}, backend.Action{Name: "lone"}) }()
			deadline := time.Now().Add(10 * time.Second)
			for strings.Count(l.String(), "waiting for the lock") == before {
				select {
				case err := <-done:
					t.Fatalf("%s: it does not wait: %v", lock, err)
				case <-time.After(5 * time.Millisecond):
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s: it says nothing: %s", lock, l)
				}
			}
			if !strings.Contains(l.String(), "perl") {
				t.Errorf("%s: it does not say who has it: %s", lock, l)
			}
			began := time.Now()
			release()
			if err := <-done; err != nil || a.Version("lone") != "1.0" {
				t.Errorf("%s: %v, the version is %q", lock, err, a.Version("lone"))
			}
			t.Logf("%s: done %v after it was released", lock, time.Since(began).Round(time.Millisecond))
			if n := strings.Count(l.String(), "waiting for the lock") - before; n != 1 {
				t.Errorf("%s: it says %d times that it waits", lock, n)
			}
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	needs.Systemd(t)
	a := testrepo.New(t, "/srv/cancelled")
	a.Add(testrepo.Package{Name: "cone"})
	a.Publish()
	each(t, func(t *testing.T, b backend.Backend, l *log) {
		release := locked(t, "/var/lib/dpkg/lock-frontend")
		defer release()
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Apply(ctx, []backend.Action{{Name: "cone"}}, backend.Allow{}) }()
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(l.String(), "waiting for the lock"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(l)
			}
		}
		cause := fmt.Errorf("enough")
		cancel(cause)
		select {
		case err := <-done:
			if err != cause || a.Version("cone") != "" {
				t.Errorf("%v, the version is %q", err, a.Version("cone"))
			}
		case <-time.After(5 * time.Second):
			t.Fatal("it goes on waiting")
		}
	})
}

// TestCancelWhileWorking has dpkg run a script for a while: what it has begun is completed.
func TestCancelWhileWorking(t *testing.T) {
	needs.Systemd(t)
	a := testrepo.New(t, "/srv/working")
	const fifo = "/srv/working/fifo" // /tmp is PackageKit's own
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	a.Add(testrepo.Package{Name: "wslow", Scripts: map[string]string{"postinst": "#!/bin/sh\necho begun >" + fifo + "\nread x <" + fifo + "\n"}})
	a.Publish()
	each(t, func(t *testing.T, b backend.Backend, l *log) {
		if err := do(t, b, backend.Allow{}, backend.Action{Name: "wslow", Remove: true}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Apply(ctx, []backend.Action{{Name: "wslow"}}, backend.Allow{}) }()
		begun := make(chan string, 1)
		go func() {
			text, _ := os.ReadFile(fifo)
			begun <- string(text)
		}()
		select {
		case text := <-begun:
			if text != "begun\n" {
				t.Fatalf("the script says %q", text)
			}
		case err := <-done:
			t.Fatalf("it has ended: %v\n%s", err, l)
		}
		cancel()
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(l.String(), "complete what it has begun"); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(l)
			}
		}
		if err := os.WriteFile(fifo, []byte("go on\n"), 0); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			if a.Version("wslow") != "1.0" {
				t.Errorf("the version is %q", a.Version("wslow"))
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it does not end")
		}
	})
}

func TestCompletesWhatWasInterrupted(t *testing.T) {
	needs.Systemd(t)
	a := testrepo.New(t, "/srv/interrupted")
	a.Add(testrepo.Package{Name: "ione"}, testrepo.Package{Name: "ikilled", Scripts: map[string]string{
		"postinst": "#!/bin/sh\nif [ -e /run/kill ]; then rm /run/kill; kill -9 $PPID; sleep 1; fi\n"}})
	a.Publish()
	each(t, func(t *testing.T, b backend.Backend, l *log) {
		if err := do(t, b, backend.Allow{}, backend.Action{Name: "ione", Remove: true}, backend.Action{Name: "ikilled", Remove: true}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("/run/kill", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("dpkg", "--install", "/srv/interrupted/ikilled_1.0_all.deb").CombinedOutput(); err == nil {
			t.Fatalf("it was not killed: %s", out)
		}
		if err := do(t, b, backend.Allow{}, backend.Action{Name: "ione"}); err != nil {
			t.Fatalf("after dpkg was killed: %v\n%s", err, l)
		}
		if got := versions(t, b, "ione", "ikilled"); !slices.Equal(got, []string{"1.0", "1.0"}) {
			t.Errorf("there is %q", got)
		}
	})
}
