package svc_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sinks/svc"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
	"github.com/mgmtproject/mgmt/streams"
)

func apply(t testing.TB, r sinks.Resource) sinks.Outcome {
	t.Helper()
	out, err := r.CheckApply(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fails applies r and returns its error, in which all parts must be.
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

// watched has f called with the events of r's watches on its way.
func watched(t *testing.T, r sinks.Resource, f func(events <-chan sources.Event)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan sources.Event, 1000)
	var streamsOf []streams.Observable[sources.Event]
	for _, s := range all.New(nil) {
		used := false
		for _, w := range r.Watches() {
			if w.Source() == s.Name() {
				used = true
				if err := s.Add(w); err != nil {
					t.Fatal(err)
				}
			}
		}
		if used {
			streamsOf = append(streamsOf, s.Events())
		}
	}
	done := make(chan error, len(streamsOf))
	for _, s := range streamsOf {
		go func() { done <- s.Subscribe(ctx, func(e sources.Event) bool { events <- e; return true }) }()
	}
	f(events)
	cancel()
	for range streamsOf {
		<-done
	}
}

func next(t *testing.T, events <-chan sources.Event) {
	t.Helper()
	select {
	case <-events:
	case <-time.After(10 * time.Second):
		t.Fatal("no event has come")
	}
}

func TestAUnitThatIsNotInstalledYetIsWaitedFor(t *testing.T) {
	needs.Systemd(t)
	r := sinktest.Build(t, svc.Spec, "later", values{"state": "running", "startup": "enabled"})
	watched(t, r, func(events <-chan sources.Event) {
		fails(t, r, "there is no unit later.service: waiting until it is installed")
		path := filepath.Join(system.dir, "later.service")
		system.write(t, path, sleeper) // and no daemon-reload
		t.Cleanup(func() {
			_ = system.ctl("disable", "--now", "later.service")
			os.Remove(path)
			_ = system.ctl("daemon-reload")
		})
		next(t, events)
		if out := apply(t, r); len(out.Changes) != 2 {
			t.Errorf("the changes are %v", out.Changes)
		}
	})
	if err := system.ctl("is-active", "later.service"); err != nil {
		t.Error(err)
	}
	if err := system.ctl("is-enabled", "later.service"); err != nil {
		t.Error(err)
	}
}

// Systemd remembers that a file was not there until the time of its directory changes,
// which it does not within a tick of the kernel's clock.
func TestAUnitIsStartedThatSystemdHasJustLookedForInVain(t *testing.T) {
	needs.Systemd(t)
	if err := system.ctl("start", "sudden.service"); err == nil {
		t.Fatal("it is there already")
	}
	before, err := os.Stat(system.dir)
	if err != nil {
		t.Fatal(err)
	}
	system.install(t, "sudden.service", sleeper)
	if err := os.Chtimes(system.dir, time.Time{}, before.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := system.ctl("start", "sudden.service"); err == nil {
		t.Fatal("systemd finds it by itself, so this test shows nothing")
	}
	r := sinktest.Build(t, svc.Spec, "sudden", values{"state": "running"})
	apply(t, r)
	if err := system.ctl("is-active", "sudden.service"); err != nil {
		t.Error(err)
	}
	if out := apply(t, r); out.Changed {
		t.Errorf("it does not stay: %v", out.Changes)
	}
}

// Systemd can't load an instance that has failed and whose file was away, until a reload.
func TestAnInstanceThatHasFailedIsStartedWhenItIsInstalledAgain(t *testing.T) {
	needs.Systemd(t)
	system.install(t, "again@.service", sleeper)
	path := filepath.Join(system.dir, "again@.service")
	t.Cleanup(func() {
		_ = errors.Join(system.ctl("stop", "again@1.service"), system.ctl("reset-failed", "again@1.service"))
	})
	r := sinktest.Build(t, svc.Spec, "again@1", values{"state": "running"})
	watched(t, r, func(events <-chan sources.Event) {
		apply(t, r)
		if err := system.killed("again@1.service")(); err != nil {
			t.Fatal(err)
		}
		next(t, events)
		if err := errors.Join(os.Remove(path), system.ctl("daemon-reload")); err != nil {
			t.Fatal(err)
		}
		fails(t, r, "there is no unit again@1.service")
		system.write(t, path, sleeper)
		apply(t, r)
		if err := system.ctl("is-active", "again@1.service"); err != nil {
			t.Error(err)
		}
	})
}

func TestAUnitThatIsNotInstalledIsStoppedAndDisabled(t *testing.T) {
	needs.Systemd(t)
	for _, startup := range []string{"", "disabled"} {
		r := sinktest.Build(t, svc.Spec, "never", values{"state": "stopped", "startup": startup})
		if out := apply(t, r); out.Changed {
			t.Errorf("something has changed: %v", out.Changes)
		}
	}
}

func TestWhyAUnitDoesNotStart(t *testing.T) {
	needs.Systemd(t)
	for _, tt := range []struct {
		name, unit, text string
		params           values
		want             []string
	}{
		{"a service that fails", "sad", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo the moon is in the way; exit 7'\n",
			values{"state": "running"}, []string{"starting sad.service has not worked: it ended with the exit status 7", "its last lines in the journal:\n\tthe moon is in the way"}},
		{"a service that is killed", "shot", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/bin/sh -c 'kill -9 $$$$'\n",
			values{"state": "running"}, []string{"it was killed by the signal 9"}},
		{"a service that ends at once", "brief", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/bin/true\n",
			values{"state": "running"}, []string{"it has ended at once, without an error", "RemainAfterExit=yes"}},
		{"a service without a program", "empty", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nExecStart=/nowhere/at/all\n",
			values{"state": "running"}, []string{"empty.service", "203", "/nowhere/at/all"}},
		{"a service that needs one that fails", "needy", "[Unit]\nRequires=sad.service\nAfter=sad.service\n[Service]\nExecStart=/bin/sleep infinity\n",
			values{"state": "running"}, []string{"a unit that it requires has failed"}},
		{"a service that takes too long", "slow", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nTimeoutStartSec=200ms\nExecStart=/bin/sleep 60\n",
			values{"state": "running"}, []string{"starting slow.service has not worked"}},
		{"a service without an [Install] section", "plain", "[Service]\nExecStart=/bin/sleep infinity\n",
			values{"startup": "enabled"}, []string{"making plain.service enabled: its file has no [Install] section"}},
		{"a service with a condition that does not hold", "picky", "[Unit]\nConditionPathExists=/etc\nConditionPathExists=!/usr\n[Service]\nExecStart=/bin/sleep infinity\n",
			values{"state": "running"}, []string{"starting picky.service has not worked: systemd does not start it, since its file asks for ConditionPathExists=!/usr, which is not so"}},
		{"a service with an assertion that does not hold", "proud", "[Unit]\nAssertPathExists=/nowhere\n[Service]\nExecStart=/bin/sleep infinity\n",
			values{"state": "running"}, []string{"its file asks for AssertPathExists=/nowhere, which is not so"}},
		{"a service that doesn't let itself be started", "shy", "[Service]\nExecCondition=/bin/false\nExecStart=/bin/sleep infinity\n",
			values{"state": "running"}, []string{"its ExecCondition= does not let it"}},
		{"a file that makes no sense", "odd", "[Service]\nType=odd\n",
			values{"state": "running"}, []string{"starting odd.service", "bad unit file setting"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			system.install(t, tt.unit+".service", tt.text)
			if tt.unit == "needy" {
				system.install(t, "sad.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
			}
			fails(t, sinktest.Build(t, svc.Spec, tt.unit, tt.params), tt.want...)
		})
	}
}

// limited is a service that systemd refuses to start for the third time, and fails with the
// exit status 7 unless the file works exists.
func limited(works string) string {
	return "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n[Service]\nType=oneshot\nRemainAfterExit=yes\n" +
		"ExecStart=/bin/sh -c 'test -e " + works + " || { echo no " + works + "; exit 7; }'\n"
}

func TestAUnitThatWasStartedTooOften(t *testing.T) {
	needs.Systemd(t)
	for _, tt := range []struct {
		name string
		mend func(t *testing.T, r sinks.Resource, path, works string) // ends with the unit running
	}{
		{"is started again when its file has changed", func(t *testing.T, r sinks.Resource, path, works string) {
			system.write(t, path, strings.Replace(limited(works), "test -e", "true || test -e", 1))
			apply(t, r)
		}},
		{"is started again when its file has changed and systemd knows it", func(t *testing.T, r sinks.Resource, path, works string) {
			system.write(t, path, strings.Replace(limited(works), "test -e", "true || test -e", 1))
			if err := system.ctl("daemon-reload"); err != nil {
				t.Fatal(err)
			}
			apply(t, r)
		}},
		{"is started again when it has another drop-in", func(t *testing.T, r sinks.Resource, path, _ string) {
			system.write(t, filepath.Join(path+".d", "mend.conf"), "[Service]\nExecStart=\nExecStart=/bin/true\n")
			t.Cleanup(func() { os.RemoveAll(path + ".d") })
			apply(t, r)
		}},
		{"is started again when it is notified", func(t *testing.T, r sinks.Resource, _, works string) {
			system.write(t, works, "")
			if _, err := r.(sinks.Refresher).Refresh(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}},
		{"is started again when systemd was told to forget it", func(t *testing.T, r sinks.Resource, _, works string) {
			system.write(t, works, "")
			if err := system.ctl("reset-failed", "limited.service"); err != nil {
				t.Fatal(err)
			}
			apply(t, r)
		}},
		{"is seen to run when somebody else has mended it", func(t *testing.T, r sinks.Resource, _, works string) {
			system.write(t, works, "")
			if err := errors.Join(system.ctl("reset-failed", "limited.service"), system.ctl("start", "limited.service")); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			works := filepath.Join(t.TempDir(), "works")
			system.install(t, "limited.service", limited(works))
			r := sinktest.Build(t, svc.Spec, "limited", values{"state": "running"})
			watched(t, r, func(<-chan sources.Event) { // so that it is told of what happens
				fails(t, r, "it ended with the exit status 7")
				fails(t, r, "it ended with the exit status 7")
				for range 2 {
					fails(t, r, "starting limited.service has not worked: systemd refuses it, since it was started 2 times within 1h0m0s, which is all that its StartLimitBurst= allows",
						"; the last time, it ended with the exit status 7; mend that", "systemctl reset-failed limited.service", "its last lines in the journal:\n\tno "+works)
				}
				tt.mend(t, r, filepath.Join(system.dir, "limited.service"), works)
				if err := system.ctl("is-active", "limited.service"); err != nil {
					t.Error(err)
				}
				if out := apply(t, r); out.Changed {
					t.Errorf("it does not stay: %v", out.Changes)
				}
			})
		})
	}
}

// Who notifies it often means it: systemd does not.
func TestAServiceThatIsNotifiedOftenIsRestartedEachTime(t *testing.T) {
	needs.Systemd(t)
	system.install(t, "often.service", strings.Replace(sleeper, "StartLimitIntervalSec=0", "StartLimitIntervalSec=1h\nStartLimitBurst=2", 1))
	r := sinktest.Build(t, svc.Spec, "often", values{"state": "running"})
	for range 5 {
		if _, err := r.(sinks.Refresher).Refresh(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	if err := system.ctl("is-active", "often.service"); err != nil {
		t.Error(err)
	}
}

func TestAReloadThatFailsLeavesItRunning(t *testing.T) {
	needs.Systemd(t)
	system.install(t, "stubborn.service", strings.Replace(sleeper, "[Install]", "ExecReload=/bin/sh -c 'echo never; exit 3'\n[Install]", 1))
	r := sinktest.Build(t, svc.Spec, "stubborn", values{"state": "running"})
	apply(t, r)
	_, err := r.(sinks.Refresher).Refresh(t.Context(), true)
	if err == nil || !strings.Contains(err.Error(), "reloading stubborn.service has not worked: it runs on as before") || !strings.Contains(err.Error(), "\tnever") {
		t.Errorf("it says %v", err)
	}
	if err := system.ctl("is-active", "stubborn.service"); err != nil {
		t.Error(err)
	}
}

// A start that fails is no reason to try again: it would never end.
func TestAStartThatFailsDoesNotWakeItself(t *testing.T) {
	needs.Systemd(t)
	for _, tt := range []struct{ name, limit, want string }{
		{"one that systemd tries", "StartLimitIntervalSec=0", "it ended with the exit status 1"},
		{"one that systemd refuses", "StartLimitIntervalSec=1h\nStartLimitBurst=1", "systemd refuses it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			system.install(t, "sad.service", "[Unit]\n"+tt.limit+"\n[Service]\nType=oneshot\nExecStart=/bin/false\n")
			r := sinktest.Build(t, svc.Spec, "sad", values{"state": "running"})
			watched(t, r, func(events <-chan sources.Event) {
				fails(t, r, "exit status 1")
				fails(t, r, tt.want)
				if err := bus.System().Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				select {
				case e := <-events:
					t.Errorf("it is woken by %v", e)
				case <-time.After(100 * time.Millisecond):
				}
				if err := system.ctl("reset-failed", "sad.service"); err != nil {
					t.Fatal(err)
				}
				next(t, events) // somebody else's doing is one
			})
		})
	}
}

func TestANotifiedServiceReloadsOrIsRestarted(t *testing.T) {
	needs.Systemd(t)
	dir := t.TempDir()
	mark := filepath.Join(dir, "reloaded")
	system.install(t, "reloads.service", strings.Replace(sleeper, "[Install]", "ExecReload=/bin/touch "+mark+"\n[Install]", 1))
	system.install(t, "restarts.service", sleeper)
	system.install(t, "rests.service", sleeper)
	invocation := func(unit string) string {
		out, err := exec.Command("systemctl", "show", "--property=InvocationID", unit).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	refresh := func(r sinks.Resource) sinks.Outcome {
		t.Helper()
		out, err := r.(sinks.Refresher).Refresh(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}

	r := sinktest.Build(t, svc.Spec, "reloads", values{"state": "running"})
	refresh(r)
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a service that has just been started was reloaded: %v", err)
	}
	first := invocation("reloads.service")
	due := func(to string) []sinks.Change { return []sinks.Change{{Field: "refresh", From: "due", To: to}} }
	would, err := r.(sinks.Refresher).Refresh(t.Context(), false)
	if err != nil || !slices.Equal(would.Changes, due("reloaded")) {
		t.Errorf("a reload is foretold as %v, %v", would.Changes, err)
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("to foretell it reloads it: %v", err)
	}
	if out := refresh(r); !out.Changed || !slices.Equal(out.Changes, due("reloaded")) {
		t.Errorf("a reload is told as %v", out.Changes)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("it was not reloaded: %v", err)
	}
	if invocation("reloads.service") != first {
		t.Error("what can reload was restarted")
	}

	r = sinktest.Build(t, svc.Spec, "restarts", values{"startup": "disabled"})
	if err := system.ctl("start", "restarts.service"); err != nil {
		t.Fatal(err)
	}
	first = invocation("restarts.service")
	if out := refresh(r); !out.Changed || !slices.Equal(out.Changes, due("restarted")) {
		t.Errorf("a restart is told as %v", out.Changes)
	}
	if invocation("restarts.service") == first {
		t.Error("what can't reload was not restarted")
	}

	r = sinktest.Build(t, svc.Spec, "rests", values{"startup": "disabled"})
	if out := refresh(r); out.Changed {
		t.Error("a service that does not run was touched")
	}
	if err := system.ctl("is-active", "--quiet", "rests.service"); err == nil {
		t.Error("a service that did not run was started")
	}
}

func TestAnAliasIsWatchedToo(t *testing.T) {
	needs.Systemd(t)
	system.install(t, "true-name.service", sleeper+"Alias=nick-name.service\n")
	if err := system.ctl("enable", "true-name.service"); err != nil {
		t.Fatal(err)
	}
	r := sinktest.Build(t, svc.Spec, "nick-name", values{"state": "running"})
	watched(t, r, func(events <-chan sources.Event) {
		apply(t, r)
		for len(events) > 0 {
			<-events
		}
		if err := system.ctl("stop", "true-name.service"); err != nil {
			t.Fatal(err)
		}
		next(t, events)
		if out := apply(t, r); !out.Changed {
			t.Error("it was not started again")
		}
	})
}

// killer kills a service as soon as systemd tells that it runs, some times. It holds up the
// news of the end of the job until systemd has news of the end of the service, too.
type killer struct {
	unit string
	left atomic.Int32
}

func (k *killer) Changed(c bus.Change) {
	if c.Path != bus.UnitPath(k.unit) || !strings.HasPrefix(c.What, "active") || k.left.Load() == 0 {
		return
	}
	k.left.Add(-1)
	_ = system.ctl("kill", "--signal=KILL", k.unit)
	for range 1000 {
		if system.ctl("is-failed", "--quiet", k.unit) == nil {
			return
		}
	}
}

func (k *killer) Lost(string) {}

// What happens between the end of a job and who waits for it must not be taken for what the
// job has done.
func TestAServiceThatIsKilledAsSoonAsItRunsIsStartedAgain(t *testing.T) {
	needs.Systemd(t)
	system.install(t, "brittle.service", sleeper)
	// So who waits gets its turn only when all news has been read.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	_, stop := engine(t, "brittle")
	defer stop()
	k := &killer{unit: "brittle.service"}
	t.Cleanup(bus.System().Listen(k))
	for range 5 {
		k.left.Store(3)
		if err := system.ctl("kill", "--signal=KILL", "brittle.service"); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(20 * time.Second)
		for k.left.Load() > 0 || system.ctl("is-active", "--quiet", "brittle.service") != nil {
			if time.Now().After(deadline) {
				t.Fatalf("it is not started again, and was to be killed %d times more", k.left.Load())
			}
		}
	}
}

// Whatever happens while there is no bus, or no systemd to ask, is put right afterwards.
func TestNothingIsLostWhenTheBusOrSystemdIsRestarted(t *testing.T) {
	for _, tt := range []struct {
		name string
		manager
		needs   func(testing.TB)
		session bool
	}{
		{"of the system", system, needs.Systemd, false},
		{"of the user", session, needs.UserBus, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.needs(t)
			tt.install(t, "many@.service", sleeper)
			var units []string
			for i := range 20 {
				units = append(units, fmt.Sprintf("many@%d.service", i))
			}
			t.Cleanup(func() { _ = errors.Join(tt.ctl("stop", "many@*.service"), tt.ctl("reset-failed", "many@*.service")) })
			_, stop := run(t, &svc.Config{State: "running", Session: tt.session}, func(err error) {
				// What has just been started may be killed at once.
				if !errors.Is(err, bus.ErrMissing) && !strings.Contains(err.Error(), "bus has ended") && !strings.Contains(err.Error(), " has not worked: ") {
					t.Errorf("it fails otherwise: %v", err)
				}
			}, units...)
			defer stop()
			for range 2 {
				tt.disrupted(t, units)
			}
		})
	}
}

// disrupted restarts the bus and systemd in several ways, kills units each time meanwhile and
// stops some afterwards, and waits until they run. It calls systemd by a socket of its own.
func (m manager) disrupted(t *testing.T, units []string) {
	t.Helper()
	for _, steps := range [][][]string{
		{{"restart", "dbus.service"}},
		{{"daemon-reexec"}},
		{{"daemon-reload"}, {"restart", "dbus.service"}, {"daemon-reexec"}, {"restart", "dbus.service"}},
		{{"stop", "dbus.socket", "dbus.service"}, append([]string{"stop"}, units[:10]...), {"start", "dbus.socket", "dbus.service"}},
	} {
		pids, err := exec.Command("systemctl", append(append(m.flags, "show", "--value", "--property=MainPID"), units[10:]...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		var beside sync.WaitGroup
		beside.Go(func() {
			for text := range strings.FieldsSeq(string(pids)) {
				if pid, err := strconv.Atoi(text); err == nil && pid > 1 { // 0 is one that is about to start
					_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
				}
				time.Sleep(10 * time.Millisecond) // so that it goes on all the time
			}
		})
		for _, step := range steps {
			if err := m.ctl(step...); err != nil {
				t.Fatal(err)
			}
		}
		beside.Wait()
		_ = m.ctl(append([]string{"stop"}, units[:5]...)...) // fails if what stops is started again
		deadline := time.Now().Add(20 * time.Second)
		for m.ctl(append([]string{"is-active", "--quiet"}, units...)...) != nil {
			if time.Now().After(deadline) {
				t.Fatalf("after %v not all are started again", steps)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// role is set in a process that a test below starts of itself.
const role = "MGMT_TEST_ROLE"

// child runs this test in a process of its own, as another user if uid is not 0.
func child(t *testing.T, uid uint32, env ...string) {
	t.Helper()
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join("/tmp", "svc.test."+t.Name()) // t.TempDir is closed to others
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(program)
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), role+"=child")
	cmd.Env = append(cmd.Env, env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if os.Getuid() != 0 {
		cmd.SysProcAttr = nil
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestWithoutABusItSaysWhatIsMissing(t *testing.T) {
	if os.Getenv(role) == "" {
		dir := t.TempDir()
		child(t, 0, "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+filepath.Join(dir, "socket"), "DBUS_SESSION_BUS_ADDRESS=", "XDG_RUNTIME_DIR="+dir)
		return
	}
	r := sinktest.Build(t, svc.Spec, "a", values{"state": "running"})
	if _, err := r.CheckApply(t.Context(), true); !errors.Is(err, bus.ErrMissing) {
		t.Errorf("it says %v", err)
	}
	fails(t, sinktest.Build(t, svc.Spec, "a", values{"state": "running", "session": true}), "there is no session bus of the user with the number", "loginctl enable-linger")
}

func TestWithoutPrivilegeItSaysSo(t *testing.T) {
	needs.Systemd(t)
	if os.Getenv(role) == "" {
		system.install(t, "off.service", sleeper)
		child(t, 65534)
		return
	}
	r := sinktest.Build(t, svc.Spec, "off", values{"state": "running"})
	_, err := r.CheckApply(t.Context(), true)
	if !errors.Is(err, bus.ErrDenied) || !strings.Contains(err.Error(), "run as root") {
		t.Errorf("it says %v", err)
	}
}
