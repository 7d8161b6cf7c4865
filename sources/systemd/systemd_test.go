package systemd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/systemd"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

func run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func install(t testing.TB, unit, text string) {
	t.Helper()
	path := filepath.Join("/etc/systemd/system", unit)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "stop", unit).Run()
		_ = exec.Command("systemctl", "reset-failed", unit).Run()
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
}

const sleeper = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep infinity\n"

// observer is a subscription to a source.
type observer struct {
	testing.TB
	*systemd.Source
	events chan sources.Event
}

// observe serves watches until the end of the test.
func observe(t testing.TB, watches ...sources.Watch) *observer {
	t.Helper()
	o := &observer{t, systemd.New(), make(chan sources.Event, 10000)}
	for _, w := range watches {
		if err := o.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- o.Events().Subscribe(ctx, func(e sources.Event) bool { o.events <- e; return true })
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the subscription ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("the subscription does not end")
		}
	})
	return o
}

// until waits for an event that satisfies want.
func (o *observer) until(what string, want func(sources.Event) bool) {
	o.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e := <-o.events:
			if want(e) {
				return
			}
		case <-deadline:
			o.Fatalf("no event has come: %s", what)
		}
	}
}

func (o *observer) fired(w sources.Watch) {
	o.Helper()
	o.until(w.String(), func(e sources.Event) bool { return e.Watch == w })
}

// lost waits for the event that makes all suspect, with that word in it.
func (o *observer) lost(why string) {
	o.Helper()
	o.until(why, func(e sources.Event) bool { return e.Watch == nil && strings.Contains(e.What, why) })
}

// quiet flushes, and returns what has come.
func (o *observer) quiet() []sources.Event {
	o.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := o.Flush(ctx); err != nil {
		o.Fatal(err)
	}
	var events []sources.Event
	for len(o.events) > 0 {
		events = append(events, <-o.events)
	}
	return events
}

func TestAUnitFiresWhenItsStateChanges(t *testing.T) {
	needs.Systemd(t)
	install(t, "x.service", sleeper)
	install(t, "other.service", sleeper)
	x := systemd.Unit("x.service")
	o := observe(t, x)
	for _, how := range [][]string{{"start"}, {"kill", "--signal=KILL"}, {"start"}, {"stop"}} {
		run(t, append(append([]string{"systemctl"}, how...), "x.service")...)
		o.fired(x)
		o.quiet()
	}
	run(t, "systemctl", "start", "other.service")
	if events := o.quiet(); len(events) > 0 {
		t.Errorf("another unit causes %v", events)
	}
}

func TestAStateThatIsToldTwiceFiresOnce(t *testing.T) {
	needs.Systemd(t)
	install(t, "x.service", sleeper)
	o := observe(t, systemd.Unit("x.service"))
	run(t, "systemctl", "start", "x.service")
	o.quiet()
	run(t, "systemctl", "set-property", "--runtime", "x.service", "CPUWeight=50")
	run(t, "systemctl", "start", "x.service") // a job that does nothing
	if events := o.quiet(); len(events) > 0 {
		t.Errorf("no change of state causes %v", events)
	}
}

func TestWhatTheProcessItselfBringsAboutIsLeftOutIfAsked(t *testing.T) {
	needs.Systemd(t)
	install(t, "x.service", sleeper)
	all, managed := systemd.Unit("x.service"), systemd.Managed("x.service", false)
	o := observe(t, all, managed)
	if result, err := bus.System().Start(t.Context(), "x.service"); err != nil || result != bus.Done {
		t.Fatal(result, err)
	}
	o.fired(all)
	for _, e := range o.quiet() {
		if e.Watch == managed {
			t.Errorf("it hears itself: %v", e)
		}
	}
	run(t, "systemctl", "stop", "x.service")
	o.fired(managed)
}

func TestWhatMayHaveChangedAllUnitsFiresAll(t *testing.T) {
	needs.Systemd(t)
	install(t, "x.service", sleeper+"[Install]\nWantedBy=multi-user.target\n")
	o := observe(t, systemd.Unit("x.service"))
	run(t, "systemctl", "daemon-reload")
	o.lost("daemon-reload")
	run(t, "systemctl", "enable", "--no-reload", "x.service")
	o.lost("unit files changed")
	o.quiet()

	if _, err := bus.System().Disable(t.Context(), "x.service"); err != nil {
		t.Fatal(err)
	}
	if err := bus.System().DaemonReload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range o.quiet() {
		if e.Watch == nil {
			t.Errorf("what the process has done itself fires all: %v", e)
		}
	}
}

// The bus is that of the user: the host is run by way of the bus of the system.
func TestARestartOfTheBusLosesNothing(t *testing.T) {
	needs.UserBus(t)
	x := systemd.UserUnit("x.service")
	o := observe(t, x)
	for range 3 {
		run(t, "systemd-run", "--user", "--unit=x.service", "sleep", "infinity")
		o.until("after the start", func(e sources.Event) bool { return e.Watch == x || e.Watch == nil })
		restartUserBus(t)
		run(t, "systemctl", "--user", "stop", "x.service") // perhaps while there is no connection
		o.until("after the bus was restarted", func(e sources.Event) bool { return e.Watch == nil })
		calls(t, bus.User())
		o.quiet()
	}
	run(t, "systemd-run", "--user", "--unit=x.service", "sleep", "infinity")
	o.fired(x)
	run(t, "systemctl", "--user", "stop", "x.service")
}

// restartUserBus returns when the user's systemd is on the new bus.
func restartUserBus(t *testing.T) {
	t.Helper()
	run(t, "systemctl", "--user", "restart", "dbus.service")
	deadline := time.Now().Add(patience)
	for exec.Command("busctl", "--user", "status", "org.freedesktop.systemd1").Run() != nil {
		if time.Now().After(deadline) {
			t.Fatal("the user's systemd does not come back to the bus")
		}
	}
}

// calls waits until systemd answers by way of the bus.
func calls(t *testing.T, b *bus.Bus) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		_, err := b.Unit(t.Context(), "x.service")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestAReexecOfSystemdLosesNothing(t *testing.T) {
	needs.Systemd(t)
	install(t, "x.service", sleeper)
	x := systemd.Unit("x.service")
	o := observe(t, x)
	for range 3 {
		run(t, "systemctl", "daemon-reexec")
		o.until("after a reexec", func(e sources.Event) bool { return e.Watch == nil })
		calls(t, bus.System())
		o.quiet()
		run(t, "systemctl", "start", "x.service")
		o.fired(x)
		o.quiet()
		run(t, "systemctl", "stop", "x.service")
		o.fired(x)
	}
}

func TestAJobOutlivesARestartOfSystemdAndOfTheBus(t *testing.T) {
	needs.UserBus(t)
	for _, tt := range []struct {
		name    string
		restart func(t *testing.T)
	}{
		{"systemd", func(t *testing.T) { run(t, "systemctl", "--user", "daemon-reexec") }},
		{"the bus", restartUserBus},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gate := filepath.Join(t.TempDir(), "gate")
			run(t, "mkfifo", gate)
			path := "/etc/systemd/user/slow.service"
			text := "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/cat " + gate + "\n"
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			defer os.Remove(path)
			defer run(t, "systemctl", "--user", "stop", "slow.service")
			observe(t, systemd.UserUnit("slow.service")) // as the engine does
			type end struct {
				result bus.Result
				err    error
			}
			ended := make(chan end, 1)
			go func() {
				result, err := bus.User().Start(t.Context(), "slow.service")
				ended <- end{result, err}
			}()
			deadline := time.Now().Add(patience)
			for !strings.Contains(run(t, "systemctl", "--user", "show", "--property=ActiveState", "slow.service"), "activating") {
				if time.Now().After(deadline) {
					t.Fatal("it does not begin to start")
				}
			}
			tt.restart(t)
			calls(t, bus.User())
			var e end
			select {
			case e = <-ended:
				// The bus was away when the job was looked for: that is an error, after
				// which the caller looks again.
				if !errors.Is(e.err, bus.ErrMissing) {
					t.Fatalf("the job has ended before its unit: %v", e)
				}
			case <-time.After(100 * time.Millisecond):
			}
			run(t, "sh", "-c", "echo go >"+gate)
			if e.err != nil {
				return
			}
			select {
			case e = <-ended:
				if e.err != nil || e.result != bus.Done && e.result != bus.Unknown {
					t.Errorf("the job has ended with %v", e)
				}
			case <-time.After(patience):
				t.Error("the end of the job was missed")
			}
		})
	}
}

func TestManyUnitsShareOneConnection(t *testing.T) {
	needs.Systemd(t)
	before := connections(t)
	var watches []sources.Watch
	for i := range 500 {
		watches = append(watches, systemd.Unit(fmt.Sprintf("u%d.service", i)))
	}
	o := observe(t, watches...)
	if n := connections(t) - before; n != 1 {
		t.Errorf("500 units need %d connections", n)
	}
	install(t, "u499.service", sleeper)
	run(t, "systemctl", "start", "u499.service")
	o.fired(watches[499])
}

// connections counts those that this process has to the bus of the system.
func connections(t *testing.T) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(run(t, "busctl", "list", "--unique", "--no-legend")) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == fmt.Sprint(os.Getpid()) {
			n++
		}
	}
	return n
}

func TestTheUsersUnitsAreWatchedBesideThoseOfTheSystem(t *testing.T) {
	needs.UserBus(t)
	install(t, "x.service", sleeper)
	x, mine := systemd.Unit("x.service"), systemd.UserUnit("mine.service")
	o := observe(t, x, mine)
	run(t, "systemd-run", "--user", "--unit=mine.service", "sleep", "infinity")
	o.fired(mine)
	o.quiet()
	run(t, "systemctl", "--user", "daemon-reload")
	o.fired(mine)
	for _, e := range o.quiet() {
		if e.Watch != mine {
			t.Errorf("a reload of the user's systemd causes %v", e)
		}
	}
	run(t, "systemctl", "start", "x.service")
	o.fired(x)
	run(t, "systemctl", "--user", "stop", "mine.service")
	o.fired(mine)
}

func TestAnObjectOfAnotherServiceIsWatched(t *testing.T) {
	needs.Systemd(t)
	name := systemd.Object("org.freedesktop.hostname1", "/org/freedesktop/hostname1")
	o := observe(t, name)
	run(t, "busctl", "call", "org.freedesktop.hostname1", "/org/freedesktop/hostname1", "org.freedesktop.hostname1", "SetPrettyHostname", "sb", "A Box", "false")
	o.fired(name)
	o.Remove(name)
	run(t, "busctl", "call", "org.freedesktop.hostname1", "/org/freedesktop/hostname1", "org.freedesktop.hostname1", "SetPrettyHostname", "sb", "Another Box", "false")
	if events := o.quiet(); len(events) > 0 {
		t.Errorf("what is no longer watched causes %v", events)
	}
	v, err := bus.System().Property(t.Context(), "org.freedesktop.hostname1", "/org/freedesktop/hostname1", "org.freedesktop.hostname1", "PrettyHostname")
	if err != nil || v != "Another Box" {
		t.Errorf("the property is %v, %v", v, err)
	}
	_, err = bus.System().Call(t.Context(), "org.example.None", "/", "org.example.None.Do")
	if !errors.Is(err, bus.ErrMissing) || !strings.Contains(err.Error(), "org.example.None is not on the system bus") {
		t.Errorf("a service that is missing is told as %v", err)
	}
}

// role is set in a process that a test starts of itself.
const role = "MGMT_TEST_ROLE"

func TestABusThatAppearsLaterIsJoined(t *testing.T) {
	if os.Getenv(role) == "" {
		if _, err := exec.LookPath("dbus-daemon"); err != nil {
			t.Skip("needs the program dbus-daemon")
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), role+"=child", "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+filepath.Join(t.TempDir(), "socket"))
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	o := observe(t, systemd.Unit("x.service"))
	if _, err := bus.System().Unit(t.Context(), "x.service"); !errors.Is(err, bus.ErrMissing) {
		t.Fatalf("without a bus it says %v", err)
	}
	if events := o.quiet(); len(events) > 0 {
		t.Errorf("without a bus there is %v", events)
	}
	daemon := exec.Command("dbus-daemon", "--session", "--nofork", "--address="+os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"))
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = daemon.Wait() }()
	defer func() { _ = daemon.Process.Kill() }()
	o.lost("reconnected")
	_, err := bus.System().Unit(t.Context(), "x.service")
	if !errors.Is(err, bus.ErrMissing) || !strings.Contains(err.Error(), "systemd is not on the system bus") {
		t.Errorf("without systemd it says %v", err)
	}
}

func TestWatchesThatMakeNoSenseAreRefused(t *testing.T) {
	s := systemd.New()
	for _, w := range []sources.Watch{
		systemd.Unit(""), systemd.Unit("a/b.service"), systemd.Object("org.example", "no path"), systemd.Object("a'b", "/x"), sources.Interval{Every: time.Second},
	} {
		if err := s.Add(w); err == nil {
			t.Errorf("%#v is accepted", w)
		}
	}
}
