package cron_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks/cron"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type values = map[string]any

// manager is a systemd: of the system, or of the user.
type manager struct {
	flags []string
	dir   string // of unit files
}

func system() manager { return manager{nil, "/etc/systemd/system"} }

func (m manager) ctl(args ...string) error {
	out, err := exec.Command("systemctl", append(m.flags, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (m manager) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.ctl("disable", "--now", name)
		os.Remove(path)
	})
}

// state is a State of a timer.
func (m manager) state(timer string) func() (string, error) {
	return func() (string, error) {
		show, err := exec.Command("systemctl", append(m.flags, "show", timer, "--property=ActiveState,StateChangeTimestampMonotonic,NeedDaemonReload,TimersCalendar,TimersMonotonic")...).Output()
		if err != nil {
			return "", err
		}
		is, err := exec.Command("systemctl", append(m.flags, "is-enabled", timer)...).Output()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			return "", err
		}
		// The time of the next elapse is told by a calendar timer, and stays the same here.
		files, err := sinktest.Files(filepath.Join(m.dir, timer))()
		return string(show) + string(is) + files, err
	}
}

func (m manager) undone(timer string) func() (string, error) {
	return func() (string, error) {
		active, _ := exec.Command("systemctl", append(m.flags, "is-active", timer)...).Output()
		is, _ := exec.Command("systemctl", append(m.flags, "is-enabled", timer)...).Output()
		files, err := sinktest.Contents(filepath.Join(m.dir, timer))()
		return string(active) + string(is) + files, err
	}
}

func (m manager) cases(t *testing.T) []sinktest.Case {
	m.write(t, "backup.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
	path := filepath.Join(m.dir, "backup.timer")
	t.Cleanup(func() {
		_ = m.ctl("disable", "--now", "backup.timer")
		os.Remove(path)
	})
	remove := func() error {
		return errors.Join(m.ctl("disable", "--now", "backup.timer"), os.Remove(path), m.ctl("daemon-reload"))
	}
	install := func() error {
		return errors.Join(os.WriteFile(path, []byte("[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n"), 0o644), m.ctl("enable", "--now", "backup.timer"))
	}
	daily := values{"time": "*-01-01 03:30", "startup": "enabled"}
	full := values{
		"trigger": "OnBootSec", "time": "200d", "unit": "backup.service", "accuracysec": "1s", "randomizeddelaysec": "5s",
		"persistent": true, "wakesystem": false, "remainafterelapse": true, "description": "Keep what we have",
	}
	cases := []sinktest.Case{
		{Name: "a timer that is removed is made", Params: daily, Disturb: remove, Undone: m.undone("backup.timer")},
		{Name: "a timer that is stopped is started", Params: daily, Disturb: func() error { return m.ctl("stop", "backup.timer") }},
		{Name: "a timer that is disabled is enabled", Params: daily, Disturb: func() error { return m.ctl("disable", "backup.timer") }},
		{Name: "a timer whose file is changed gets its file", Params: daily, Disturb: func() error {
			return errors.Join(os.WriteFile(path, []byte("[Timer]\nOnCalendar=yearly\n"), 0o644), m.ctl("daemon-reload"))
		}},
		{Name: "a timer with all parameters", Params: full, Disturb: func() error { return m.ctl("stop", "backup.timer") }},
		{Name: "a timer that shall be absent is removed", Params: values{"state": "absent"}, Disturb: install},
	}
	for i := range cases {
		cases[i].Resource = "backup"
		cases[i].State = m.state("backup.timer")
	}
	return cases
}

func TestConformance(t *testing.T) {
	needs.Systemd(t)
	sinktest.Run(t, cron.Spec, system().cases(t)...)
}

func TestConformanceOfTheUser(t *testing.T) {
	needs.UserBus(t)
	config, err := os.UserConfigDir()
	if err != nil {
		t.Fatal(err)
	}
	cases := manager{[]string{"--user"}, filepath.Join(config, "systemd/user")}.cases(t)
	for i := range cases {
		p := values{"session": true}
		for k, v := range cases[i].Params {
			p[k] = v
		}
		cases[i].Params = p
	}
	sinktest.Run(t, cron.Spec, cases...)
}

func TestItIsReallyStarted(t *testing.T) {
	needs.Systemd(t)
	mark := filepath.Join(t.TempDir(), "mark")
	if out, err := exec.Command("mkfifo", mark).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	system().write(t, "tick.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo tick >"+mark+"'\n")
	t.Cleanup(func() { _ = system().ctl("stop", "tick.timer"); os.Remove("/etc/systemd/system/tick.timer") })
	r := sinktest.Build(t, cron.Spec, "tick", values{"trigger": "OnActiveSec", "time": "1ms", "accuracysec": "1ms"})
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(mark); err != nil || string(text) != "tick\n" {
		t.Errorf("it says %q, %v", text, err)
	}
}

func TestWhatIsMissing(t *testing.T) {
	needs.Systemd(t)
	t.Cleanup(func() { os.Remove("/etc/systemd/system/lonely.timer") })
	r := sinktest.Build(t, cron.Spec, "lonely", values{"time": "daily"})
	if _, err := r.CheckApply(t.Context(), true); err == nil || !strings.Contains(err.Error(), "there is no unit lonely.service, which it starts: waiting until it is installed") {
		t.Errorf("it says %v", err)
	}
	system().write(t, "lonely.service", "[Service]\nExecStart=/bin/true\n")
	t.Cleanup(func() { _ = system().ctl("stop", "lonely.timer") })
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Errorf("when the service is there it says %v", err)
	}

	system().write(t, "wrong.service", "[Service]\nExecStart=/bin/true\n")
	t.Cleanup(func() { os.Remove("/etc/systemd/system/wrong.timer") })
	r = sinktest.Build(t, cron.Spec, "wrong", values{"time": "every blue moon"})
	if _, err := r.CheckApply(t.Context(), true); err == nil || !strings.Contains(err.Error(), "systemd-analyze calendar") {
		t.Errorf("a time that is none is told as %v", err)
	}
}

func TestInvalid(t *testing.T) {
	sinktest.Invalid(t, cron.Spec, "a", values{}, "time: it is missing")
	sinktest.Invalid(t, cron.Spec, "a/b", values{"time": "daily"}, "is not the name of a unit")
	sinktest.Invalid(t, cron.Spec, "a", values{"time": "daily\nOnCalendar=weekly"}, "is more than one line")
	sinktest.Invalid(t, cron.Spec, "a", values{"time": "daily", "trigger": "OnMonday"}, `"OnMonday"`)
	sinktest.Invalid(t, cron.Spec, "a", values{"time": "daily", "unit": "b c"}, "unit: ")
	sinktest.Invalid(t, cron.Spec, "a", values{"time": "daily", "state": "gone"}, `"gone"`)
}
