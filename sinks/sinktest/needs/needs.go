// Package needs lets a test say what it needs of the machine, and skips it where that
// is missing, with what to do about it. A test that needs systemd runs in a test host, a
// throw-away machine: mark its package by a file testdata/testhost. See
// docs/test-hosts.md.
package needs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Set by the test-host tool: in a host its name, and outside why there is none.
const (
	insideEnv  = "MGMT_TESTHOST"
	missingEnv = "MGMT_TESTHOST_MISSING"
)

// packageKitService is how the bus starts PackageKit.
const packageKitService = "/usr/share/dbus-1/system-services/org.freedesktop.PackageKit.service"

// userBusSocket is the unit that gives a user a bus.
const userBusSocket = "/usr/lib/systemd/user/dbus.socket"

// Systemd skips the test unless it runs in a test host, where it may do to the machine
// what it likes: a systemd as process 1, the system bus, logind and journald. That it
// runs on systemd is not enough: that may be the developer's own machine.
func Systemd(t testing.TB) {
	t.Helper()
	if err := hosted(); err != nil {
		t.Skipf("needs a test host (make test-host, as root): %v", err)
	}
}

// PackageKit skips the test unless it runs in a test host that has PackageKit, which the
// bus starts when it is asked.
func PackageKit(t testing.TB) {
	t.Helper()
	Systemd(t)
	if _, err := os.Stat(packageKitService); err != nil {
		t.Skipf("needs the package packagekit: %v", err)
	}
}

// UserBus skips the test unless it runs in a test host. It starts the systemd of the
// user that the test runs as, and sets XDG_RUNTIME_DIR and DBUS_SESSION_BUS_ADDRESS for
// the time of the test, so that libraries find that systemd and its bus. The test can't
// be parallel.
func UserBus(t testing.TB) {
	t.Helper()
	Systemd(t)
	if _, err := os.Stat(userBusSocket); err != nil {
		t.Skipf("needs the package dbus-user-session: %v", err)
	}
	uid := strconv.Itoa(os.Getuid())
	if out, err := exec.CommandContext(t.Context(), "systemctl", "start", "user@"+uid+".service").CombinedOutput(); err != nil {
		t.Fatalf("starting the systemd of the user %s: %v: %s", uid, err, out)
	}
	dir := filepath.Join("/run/user", uid)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(dir, "bus"))
}

// hosted says why this is not a test host.
func hosted() error {
	if os.Getenv(insideEnv) == "" {
		if why := os.Getenv(missingEnv); why != "" {
			return errors.New(why)
		}
		return errors.New("this is not one")
	}
	comm, err := os.ReadFile("/proc/1/comm")
	if err != nil {
		return err
	}
	if name := strings.TrimSpace(string(comm)); name != "systemd" {
		return fmt.Errorf("%s is set, but process 1 is %s", insideEnv, name)
	}
	return nil
}
