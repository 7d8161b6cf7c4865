package nspawn_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/nspawn"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// starts has r start its container.
func starts(t *testing.T, r sinks.Resource) {
	t.Helper()
	if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
		t.Fatalf("it was not started: %+v, %v", out, err)
	}
}

// fails applies r and returns when it has failed with an error in which all parts are.
func fails(t *testing.T, r sinks.Resource, parts ...string) {
	t.Helper()
	_, err := r.CheckApply(t.Context(), true)
	if err == nil {
		t.Fatalf("it has worked, want an error with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("it says %q, want %q in it", err, part)
		}
	}
}

// watched has f called with a function that waits for an event of one of r's watches.
func watched(t *testing.T, r sinks.Resource, f func(next func())) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan sources.Event, 1000)
	byName := make(map[string]sources.Source)
	for _, s := range all.New(nil) {
		byName[s.Name()] = s
	}
	used := make(map[string]sources.Source)
	for _, w := range r.Watches() {
		s := byName[w.Source()]
		if err := s.Add(w); err != nil {
			t.Fatal(err)
		}
		used[s.Name()] = s
	}
	done := make(chan error, len(used))
	for _, s := range used {
		go func() { done <- s.Events().Subscribe(ctx, func(e sources.Event) bool { events <- e; return true }) }()
	}
	defer func() {
		cancel()
		for range used {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("a source has failed: %v", err)
			}
		}
	}()
	f(func() {
		t.Helper()
		select {
		case <-events:
		case <-time.After(10 * time.Second):
			t.Fatal("no event has come")
		}
		for len(events) > 0 {
			<-events
		}
	})
}

// until calls f at each event until it returns nil.
func until(t *testing.T, next func(), r sinks.Resource, want string) {
	t.Helper()
	for {
		next()
		_, err := r.CheckApply(t.Context(), true)
		switch {
		case err == nil && want == "":
			return
		case err != nil && want != "" && strings.Contains(err.Error(), want):
			return
		case err == nil:
			t.Fatalf("it has worked, want an error with %q", want)
		}
	}
}

func TestAnImageIsWaitedFor(t *testing.T) {
	needs.Systemd(t)
	m := container(t, "later")
	m.remove()
	r := sinktest.Build(t, nspawn.Spec, m.name, values{})
	fails(t, r, "there is no container later: no image /var/lib/machines/later or /var/lib/machines/later.raw; waiting")
	watched(t, r, func(next func()) {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		until(t, next, r, "can't be booted: there is no etc/os-release or /usr/lib/os-release in it; waiting")
		m.release()
		until(t, next, r, "or /sbin/init in it")
		m.put("sbin/init")
		until(t, next, r, "")
	})
	if err := ctl("is-active", m.unit); err != nil {
		t.Error(err)
	}
}

func TestSystemdNspawnIsWaitedFor(t *testing.T) {
	needs.Systemd(t)
	m := container(t, "early")
	r := sinktest.Build(t, nspawn.Spec, m.name, values{})
	for _, path := range []string{"/usr/bin/systemd-nspawn", "/lib/systemd/system/systemd-nspawn@.service"} {
		watched(t, r, func(next func()) {
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Rename(path+".away", path) }) // for the other tests
			next()
			fails(t, r, "systemd-nspawn is missing: install it (Debian and Fedora package systemd-container)")
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
			until(t, next, r, "")
		})
		if err := ctl("is-active", m.unit); err != nil {
			t.Errorf("%s was missing: %v", path, err)
		}
		if err := ctl("stop", m.unit); err != nil {
			t.Error(err)
		}
	}
}

func TestAnImageThatIsMissingMayBeStoppedAndMayRun(t *testing.T) {
	needs.Systemd(t)
	r := sinktest.Build(t, nspawn.Spec, "never", values{"state": "stopped"})
	if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
		t.Errorf("one that is not there is not stopped: %+v, %v", out, err)
	}

	m := container(t, "moved")
	r = sinktest.Build(t, nspawn.Spec, m.name, values{})
	starts(t, r)
	if err := os.Rename(m.dir, m.dir+"-away"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(m.dir + "-away") })
	if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
		t.Errorf("one that runs is not let alone: %+v, %v", out, err)
	}
	if _, err := r.(sinks.Refresher).Refresh(t.Context(), true); err == nil || !strings.Contains(err.Error(), "there is no container moved") {
		t.Errorf("a restart that can't work says %v", err)
	}
	if err := ctl("is-active", m.unit); err != nil {
		t.Errorf("a restart that can't work stops it: %v", err)
	}
}

func TestWhyAContainerDoesNotStart(t *testing.T) {
	needs.Systemd(t)
	m := container(t, "sad")
	write(t, m.settings, ready+"[Files]\nBind=/nowhere/at/all\n")
	fails(t, sinktest.Build(t, nspawn.Spec, m.name, values{}),
		"starting systemd-nspawn@sad.service has not worked: it ended with the exit status 1", "its last lines in the journal:\n\t", "/nowhere/at/all")
}

// Systemd refuses to start what was started too often, but not what was mended.
func TestAContainerThatIsMendedIsStartedAtOnce(t *testing.T) {
	needs.Systemd(t)
	m := container(t, "mended")
	write(t, filepath.Join(m.dir, "sbin/init"), "#!/nowhere\n")
	dropIns := filepath.Join("/etc/systemd/system", m.unit+".d")
	write(t, filepath.Join(dropIns, "limit.conf"), "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n")
	t.Cleanup(func() {
		if err := os.RemoveAll(dropIns); err != nil {
			t.Error(err)
		}
	})
	r := sinktest.Build(t, nspawn.Spec, m.name, values{})
	for range 2 { // whether a start has worked may not be known yet when it ends
		_, _ = r.CheckApply(t.Context(), true)
		m.waits(t, "failed")
	}
	fails(t, r, "starting systemd-nspawn@mended.service has not worked")
	m.put("sbin/init")
	starts(t, r)
	if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
		t.Errorf("it does not stay: %+v, %v", out, err)
	}
}

func TestSettingsMayDoWithoutAnInit(t *testing.T) {
	needs.Systemd(t)
	m := container(t, "lone")
	if err := os.Rename(filepath.Join(m.dir, "sbin/init"), filepath.Join(m.dir, "program")); err != nil {
		t.Fatal(err)
	}
	r := sinktest.Build(t, nspawn.Spec, m.name, values{})
	fails(t, r, "can't be booted")
	write(t, m.settings, ready+"Boot=no\nParameters=/program\n")
	starts(t, r)
}

func TestAnImageMayBeElsewhere(t *testing.T) {
	needs.Systemd(t)
	m := container(t, "far")
	elsewhere := filepath.Join(t.TempDir(), "far")
	// It may be on another file system.
	if out, err := exec.Command("mv", m.dir, elsewhere).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	link := "/run/machines/far"
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	dropIn := filepath.Join("/etc/systemd/system", m.unit+".d", "place.conf")
	for _, tt := range []struct {
		name     string
		put, end func() error
	}{
		{
			"a link in another place where images are looked for",
			func() error { return os.Symlink(elsewhere, link) },
			func() error { return os.Remove(link) },
		},
		{
			"a unit that was told the place",
			func() error {
				write(t, dropIn, "[Service]\nExecStart=\nExecStart=systemd-nspawn --quiet --keep-unit --boot --link-journal=no -U --machine=far --directory="+elsewhere+"\n")
				return ctl("daemon-reload")
			},
			func() error { return errors.Join(os.RemoveAll(filepath.Dir(dropIn)), ctl("daemon-reload")) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := sinktest.Build(t, nspawn.Spec, m.name, values{})
			fails(t, r, "there is no container far")
			err := tt.put()
			t.Cleanup(func() {
				if err := errors.Join(ctl("stop", m.unit), tt.end()); err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			starts(t, r)
			if err := ctl("is-active", m.unit); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestANotifiedContainerIsRestarted(t *testing.T) {
	needs.Systemd(t)
	m := container(t, "again")
	refresh := func(state string, want ...sinks.Change) {
		t.Helper()
		r := sinktest.Build(t, nspawn.Spec, m.name, values{"state": state})
		out, err := r.(sinks.Refresher).Refresh(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(out.Changes, want) {
			t.Errorf("the changes are %v, want %v", out.Changes, want)
		}
	}
	refresh("running", sinks.Change{Field: "state", From: "stopped", To: "running"})
	first := show(t, m.unit, "InvocationID")
	leader := show(t, m.unit, "MainPID")
	out, err := exec.Command("pgrep", "--parent", leader).Output()
	if err != nil {
		t.Fatal(err)
	}
	if is := environment(t, strings.TrimSpace(string(out))); strings.Contains(is, "GREETING=hello") {
		t.Fatalf("it has settings that were not made: %q", is)
	}

	write(t, m.settings, ready+"Environment=GREETING=hello\n")
	refresh("running", sinks.Change{Field: "refresh", From: "due", To: "restarted"})
	if show(t, m.unit, "InvocationID") == first {
		t.Error("it was not restarted")
	}
	out, err = exec.Command("pgrep", "--parent", show(t, m.unit, "MainPID")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if is := environment(t, strings.TrimSpace(string(out))); !strings.Contains(is, "GREETING=hello") {
		t.Errorf("it does not have its new settings: %q", is)
	}
	refresh("stopped", sinks.Change{Field: "state", From: "running", To: "stopped"})
	if err := ctl("is-active", "--quiet", m.unit); err == nil {
		t.Error("one that shall be stopped runs after a notification")
	}
	refresh("stopped")
	if err := ctl("is-active", "--quiet", m.unit); err == nil {
		t.Error("one that shall be stopped was started by a notification")
	}
}

func environment(t *testing.T, pid string) string {
	t.Helper()
	env, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
	if err != nil {
		t.Fatal(err)
	}
	return string(env)
}

// role is set in a process that the test below starts of itself.
const role = "MGMT_TEST_ROLE"

func TestWithoutSystemdItSaysWhatIsMissing(t *testing.T) {
	if os.Getenv(role) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), role+"=child", "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+filepath.Join(t.TempDir(), "socket"))
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	for _, state := range []string{"running", "stopped"} {
		r := sinktest.Build(t, nspawn.Spec, "a", values{"state": state})
		if _, err := r.CheckApply(t.Context(), true); !errors.Is(err, bus.ErrMissing) {
			t.Errorf("%s: it says %v", state, err)
		}
	}
}
