package svc_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sinks/svc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type values = map[string]any

// manager is a systemd: of the system, or of the user.
type manager struct {
	flags []string
	dir   string // of unit files
}

var (
	system  = manager{nil, "/etc/systemd/system"}
	session = manager{[]string{"--user"}, "/etc/systemd/user"}
)

// links is where systemctl enable makes links.
func (m manager) links() string {
	if m.flags == nil {
		return m.dir
	}
	config, err := os.UserConfigDir()
	if err != nil {
		panic(err)
	}
	return filepath.Join(config, "systemd/user")
}

// ctl calls systemctl.
func (m manager) ctl(args ...string) error {
	out, err := exec.Command("systemctl", append(m.flags, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// does is ctl for a Disturb.
func (m manager) does(args ...string) func() error {
	return func() error { return m.ctl(args...) }
}

// state is a State: of the unit, and of how it is installed.
func (m manager) state(unit string) func() (string, error) {
	return func() (string, error) {
		show, err := exec.Command("systemctl", append(m.flags, "show", unit, "--property=LoadState,ActiveState,InvocationID,StateChangeTimestampMonotonic,NeedDaemonReload,DropInPaths,Description")...).Output()
		if err != nil {
			return "", err
		}
		is, err := exec.Command("systemctl", append(m.flags, "is-enabled", unit)...).Output()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			return "", err
		}
		files, err := sinktest.Files(filepath.Join(m.dir, unit+".d"))()
		return string(show) + string(is) + files, err
	}
}

// undone is what Reverse brings back.
func (m manager) undone(unit string) func() (string, error) {
	return func() (string, error) {
		active, _ := exec.Command("systemctl", append(m.flags, "is-active", unit)...).Output()
		is, _ := exec.Command("systemctl", append(m.flags, "is-enabled", unit)...).Output()
		return strings.ReplaceAll(string(active), "failed", "inactive") + string(is), nil
	}
}

// install writes a unit file and removes the unit after the test.
func (m manager) install(t testing.TB, unit, text string) {
	t.Helper()
	path := filepath.Join(m.dir, unit)
	m.write(t, path, text)
	t.Cleanup(func() {
		_ = m.ctl("stop", unit)
		_ = m.ctl("reset-failed", unit)
		if err := os.RemoveAll(path); err != nil {
			t.Error(err)
		}
	})
}

func (m manager) write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sleeper is a service that runs until it is stopped.
const sleeper = `[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
`

// killed kills a unit's processes and waits until systemd has seen it.
func (m manager) killed(unit string) func() error {
	return func() error {
		if err := m.ctl("kill", "--signal=KILL", unit); err != nil {
			return err
		}
		for range 1000 {
			if m.ctl("is-failed", "--quiet", unit) == nil {
				return nil
			}
			time.Sleep(time.Millisecond)
		}
		return fmt.Errorf("%s does not die", unit)
	}
}

func TestConformance(t *testing.T) {
	needs.Systemd(t)
	sinktest.Run(t, svc.Spec, system.cases(t)...)
}

func TestConformanceOfTheUser(t *testing.T) {
	needs.UserBus(t)
	cases := session.cases(t)
	for i := range cases {
		cases[i].Params["session"] = true
	}
	sinktest.Run(t, svc.Spec, cases...)
}

// cases are those of one systemd.
func (m manager) cases(t *testing.T) []sinktest.Case {
	unit := func(name string) string {
		m.install(t, name+".service", sleeper)
		return name + ".service"
	}
	one, two, three, four, six := unit("one"), unit("two"), unit("three"), unit("four"), unit("six")
	// A file in /etc can't be masked.
	five := "five.service"
	manager{m.flags, strings.Replace(m.dir, "/etc", "/run", 1)}.install(t, five, sleeper)
	dropIn := filepath.Join(m.dir, six+".d", "10-nice.conf")
	nice := 0
	cases := []sinktest.Case{
		{Name: "a service that is stopped is started", Resource: "one", Params: values{"state": "running"}, Disturb: m.does("stop", one)},
		{Name: "a service that is killed is started", Resource: one, Params: values{"state": "running"}, Disturb: m.killed(one)},
		{Name: "a service that is started is stopped", Resource: "two", Params: values{"state": "stopped"}, Disturb: m.does("start", two)},
		{Name: "a service that is disabled is enabled", Resource: "three", Params: values{"startup": "enabled"}, Disturb: m.does("disable", three)},
		{Name: "a service that is enabled is disabled", Resource: "three", Params: values{"startup": "disabled"}, Disturb: m.does("enable", three)},
		{Name: "a service whose link is removed by hand is enabled", Resource: "three", Params: values{"startup": "enabled"}, Disturb: func() error {
			return os.Remove(filepath.Join(m.links(), "multi-user.target.wants", three))
		}},
		{Name: "a service that is stopped and disabled is enabled and started", Resource: "four", Params: values{"startup": "enabled", "state": "running"}, Disturb: m.does("disable", "--now", four)},
		{Name: "a service that is masked is enabled and started", Resource: "five", Params: values{"startup": "enabled", "state": "running"}, Disturb: m.does("mask", "--now", five)},
		{Name: "a service that is started is masked and stopped", Resource: "five", Params: values{"startup": "masked", "state": "stopped"}, Disturb: func() error {
			return errors.Join(m.ctl("unmask", five), m.ctl("start", five))
		}},
		{Name: "a service whose files have changed is read anew", Resource: "six", Params: values{"state": "running"}, Disturb: func() error {
			nice++
			if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
				return err
			}
			return os.WriteFile(dropIn, fmt.Appendf(nil, "[Unit]\nDescription=number %d\n", nice), 0o644)
		}},
	}
	for i := range cases {
		name := strings.TrimSuffix(cases[i].Resource, ".service") + ".service"
		cases[i].State = m.state(name)
		if name != six {
			cases[i].Undone = m.undone(name)
		}
	}
	return cases
}

func TestInvalid(t *testing.T) {
	sinktest.Invalid(t, svc.Spec, "a b", values{}, `"a b.service" is not the name of a unit`)
	sinktest.Invalid(t, svc.Spec, "", values{}, `is not the name of a unit`)
	sinktest.Invalid(t, svc.Spec, "../x", values{}, `is not the name of a unit`)
	sinktest.Invalid(t, svc.Spec, "getty@", values{}, `is a template: name an instance of it, such as "getty@one.service"`)
	sinktest.Invalid(t, svc.Spec, "a", values{"state": "up"}, `"up"`)
	sinktest.Invalid(t, svc.Spec, "a", values{"startup": "manual"}, `"manual"`)
	sinktest.Invalid(t, svc.Spec, "a", values{"startup": "masked", "state": "running"}, "startup: what is masked can't be running")
}
