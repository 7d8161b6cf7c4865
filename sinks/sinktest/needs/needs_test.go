package needs_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
)

// asked is a test that notes whether it was skipped, and why.
type asked struct {
	testing.TB
	skipped string
}

type left struct{}

func (a *asked) Skipf(format string, args ...any) {
	a.skipped = strings.TrimSpace(format)
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			a.skipped += " " + err.Error()
		}
	}
	panic(left{})
}

func ask(t *testing.T, need func(testing.TB)) (skipped string) {
	a := &asked{TB: t}
	defer func() {
		if r := recover(); r != nil && r != (left{}) {
			panic(r)
		}
		skipped = a.skipped
	}()
	need(a)
	return ""
}

func TestWhatIsMissingIsTold(t *testing.T) {
	for _, tt := range []struct{ name, inside, missing, want string }{
		{"on a machine of somebody", "", "", "needs a test host (make test-host, as root): %v this is not one"},
		{"where a host is impossible", "", "only root can", "needs a test host (make test-host, as root): %v only root can"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("MGMT_TESTHOST", tt.inside)
			t.Setenv("MGMT_TESTHOST_MISSING", tt.missing)
			for _, need := range []func(testing.TB){needs.Systemd, needs.PackageKit, needs.UserBus} {
				if got := ask(t, need); got != tt.want {
					t.Errorf("skipped for %q, want %q", got, tt.want)
				}
			}
		})
	}
}

// The variable alone makes no test host: the test would harm the machine.
func TestVariableAloneIsNotBelieved(t *testing.T) {
	if comm, err := os.ReadFile("/proc/1/comm"); err != nil {
		t.Fatal(err)
	} else if string(comm) == "systemd\n" {
		inOtherProcessOne(t)
		return
	}
	t.Setenv("MGMT_TESTHOST", "x")
	if got := ask(t, needs.Systemd); !strings.Contains(got, "MGMT_TESTHOST is set, but process 1 is") {
		t.Errorf("skipped for %q", got)
	}
}

// inOtherProcessOne runs the test once more, as process 1 of a PID namespace.
func inOtherProcessOne(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it makes a PID namespace")
	}
	out, err := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--mount-proc",
		os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as process 1: %v\n%s", err, out)
	}
}

func TestSystemdRunsHere(t *testing.T) {
	needs.Systemd(t)
	out, err := exec.CommandContext(t.Context(), "systemctl", "is-system-running").Output()
	if state := strings.TrimSpace(string(out)); state != "running" {
		t.Errorf("the system is %q (%v), want running", state, err)
	}
	if name, err := os.Hostname(); err != nil || name != os.Getenv("MGMT_TESTHOST") {
		t.Errorf("the host is called %q (%v), want %q", name, err, os.Getenv("MGMT_TESTHOST"))
	}
}

func TestUserBusAnswers(t *testing.T) {
	needs.UserBus(t)
	conn, err := net.Dial("unix", filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	out, err := exec.CommandContext(t.Context(), "systemctl", "--user", "is-system-running").CombinedOutput()
	if strings.TrimSpace(string(out)) != "running" {
		t.Errorf("the user's systemd is %q (%v), want running", out, err)
	}
}

func TestPackageKitAnswersWhereItIsInstalled(t *testing.T) {
	needs.Systemd(t)
	if _, err := os.Stat("/usr/share/dbus-1/system-services/org.freedesktop.PackageKit.service"); err != nil {
		if got := ask(t, needs.PackageKit); !strings.HasPrefix(got, "needs the package packagekit") {
			t.Errorf("skipped for %q", got)
		}
		return
	}
	needs.PackageKit(t)
	out, err := exec.CommandContext(t.Context(), "busctl", "get-property", "org.freedesktop.PackageKit", "/org/freedesktop/PackageKit", "org.freedesktop.PackageKit", "VersionMajor").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "u ") {
		t.Errorf("%v: %s", err, out)
	}
}
