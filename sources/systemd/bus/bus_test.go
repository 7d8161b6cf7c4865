package bus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dir = "/etc/systemd/system"

func install(t *testing.T, unit, text string) {
	t.Helper()
	path := filepath.Join(dir, unit)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "disable", "--now", unit).Run()
		_ = exec.Command("systemctl", "reset-failed", unit).Run()
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
}

const sleeper = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"

func TestTheLifeOfAUnit(t *testing.T) {
	needs.Systemd(t)
	b, ctx := bus.System(), t.Context()
	if _, err := b.FileState(ctx, "x.service"); !errors.Is(err, bus.ErrNoUnit) {
		t.Errorf("a unit that is not there: %v", err)
	}
	install(t, "x.service", sleeper)
	look := func(active, files string) bus.Unit {
		t.Helper()
		u, err := b.Unit(ctx, "x.service")
		if err != nil || u.Active != active {
			t.Errorf("it is %+v, %v, want %s", u, err, active)
		}
		if state, err := b.FileState(ctx, "x.service"); err != nil || state != files {
			t.Errorf("its files are %s, %v, want %s", state, err, files)
		}
		return u
	}
	if u := look("inactive", "disabled"); u.Loaded || u.Running() || !u.Stopped() {
		t.Errorf("asking for it has loaded it, or it runs: %+v", u)
	}
	job := func(do func(context.Context, string) (bus.Result, error)) {
		t.Helper()
		if result, err := do(ctx, "x.service"); result != bus.Done || err != nil {
			t.Errorf("the job has ended with %q, %v", result, err)
		}
	}
	job(b.Start)
	first := look("active", "disabled")
	job(b.Restart)
	if u := look("active", "disabled"); u.Invocation == first.Invocation || len(u.Invocation) != 32 {
		t.Errorf("the run after a restart is %q, as before %q", u.Invocation, first.Invocation)
	}
	job(b.ReloadOrTryRestart)
	if installable, changed, err := b.Enable(ctx, "x.service"); !installable || !changed || err != nil {
		t.Error("Enable:", installable, changed, err)
	}
	look("active", "enabled")
	if _, changed, err := b.Enable(ctx, "x.service"); changed || err != nil {
		t.Error("Enable again:", changed, err)
	}
	if changed, err := b.Disable(ctx, "x.service"); !changed || err != nil {
		t.Error("Disable:", changed, err)
	}
	job(b.Stop)
	look("inactive", "disabled")
	if err := b.ResetFailed(ctx, "x.service"); err != nil {
		t.Error(err)
	}
}

func TestAnyNumberOfCallsMayBeUnderWay(t *testing.T) {
	needs.Systemd(t)
	install(t, "x.service", sleeper)
	if _, err := bus.System().Start(t.Context(), "x.service"); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for range 500 {
		running.Go(func() {
			if u, err := bus.System().Unit(t.Context(), "x.service"); err != nil || !u.Running() {
				t.Error(u, err)
			}
		})
	}
	running.Wait()
}

func TestACancelIsObeyed(t *testing.T) {
	needs.Systemd(t)
	install(t, "slow.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n")
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	begin := time.Now()
	if _, err := bus.System().Start(ctx, "slow.service"); !errors.Is(err, cause) || time.Since(begin) > 10*time.Second {
		t.Errorf("it returned %v after %v", err, time.Since(begin))
	}
	if err := bus.System().DaemonReload(ctx); !errors.Is(err, cause) {
		t.Error("DaemonReload:", err)
	}
	if _, err := bus.System().Unit(ctx, "slow.service"); !errors.Is(err, cause) {
		t.Error("Unit:", err)
	}
}

func TestReloadsOfThisProcessAreNotToldAsThoseOfOthers(t *testing.T) {
	needs.Systemd(t)
	reloads := listen(t)
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			if err := bus.System().DaemonReload(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if n := reloads.count(); n > 0 {
		t.Errorf("listeners were told %d times that all is suspect, by what this process did", n)
	}
	out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput()
	if err != nil {
		t.Fatal(err, string(out))
	}
	deadline := time.Now().Add(10 * time.Second)
	for reloads.count() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("listeners are not told of somebody else's reload")
		}
		time.Sleep(time.Millisecond)
	}
}

// losses counts how often all was suspect.
type losses struct {
	mu sync.Mutex
	n  int
}

func (l *losses) Changed(bus.Change) {}

func (l *losses) Lost(string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
}

func (l *losses) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func listen(t *testing.T) *losses {
	l := &losses{}
	t.Cleanup(bus.System().Listen(l))
	bus.System().WatchUnits(t.Context())
	t.Cleanup(bus.System().UnwatchUnits)
	return l
}

func TestPrimary(t *testing.T) {
	needs.Systemd(t)
	install(t, "real.service", sleeper)
	for link, target := range map[string]string{
		"nick.service": "real.service", "nick2.service": "/etc/systemd/system/nick.service",
		"masked.service": "/dev/null", "loop.service": "loop.service", "inst@a.service": "/lib/systemd/system/inst@.service",
	} {
		path := filepath.Join(dir, link)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
	}
	for unit, want := range map[string]string{
		"real.service": "real.service", "nick.service": "real.service", "nick2.service": "real.service", "nowhere.service": "nowhere.service",
		"masked.service": "masked.service", "loop.service": "loop.service", "inst@a.service": "inst@a.service",
	} {
		if got := bus.Primary(unit, false); got != want {
			t.Errorf("%s is %s, want %s", unit, got, want)
		}
	}
}

func ExampleUnitPath() {
	fmt.Println(bus.UnitPath("ssh.service"))
	fmt.Println(bus.UnitPath("getty@tty1.service"))
	// Output:
	// /org/freedesktop/systemd1/unit/ssh_2eservice
	// /org/freedesktop/systemd1/unit/getty_40tty1_2eservice
}
