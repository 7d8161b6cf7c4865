package nspawn_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/nspawn"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type values = map[string]any

const machines = "/var/lib/machines"

// initProgram is the program that containers run, built once.
var initProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "nspawn")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-o", program, "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // there are no libraries in an image
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(program)
})

// image is a container in the making.
type image struct {
	t        testing.TB
	name     string
	unit     string
	dir      string
	settings string
}

// ready has the unit of a container count as started only when its program says so.
const ready = "[Exec]\nNotifyReady=yes\n"

// container makes an image that can be booted, and removes it after the test.
func container(t testing.TB, name string) image {
	t.Helper()
	m := image{t, name, "systemd-nspawn@" + name + ".service", filepath.Join(machines, name), "/etc/systemd/nspawn/" + name + ".nspawn"}
	t.Cleanup(func() {
		m.remove()
		if err := os.Remove(m.settings); err != nil {
			t.Error(err)
		}
	})
	write(t, m.settings, ready)
	m.release()
	m.put("sbin/init")
	return m
}

func (m image) remove() {
	_ = ctl("stop", m.unit)
	_ = ctl("reset-failed", m.unit)
	if err := os.RemoveAll(m.dir); err != nil {
		m.t.Error(err)
	}
}

// release gives the image what says that it is one.
func (m image) release() {
	m.t.Helper()
	write(m.t, filepath.Join(m.dir, "etc/os-release"), "ID=tiny\n")
	if err := os.MkdirAll(filepath.Join(m.dir, "usr"), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// put gives the image its program at a path in it.
func (m image) put(path string) {
	m.t.Helper()
	program, err := initProgram()
	if err != nil {
		m.t.Fatal(err)
	}
	path = filepath.Join(m.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", program, 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		m.t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// ctl calls systemctl.
func ctl(args ...string) error {
	out, err := exec.Command("systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// does is ctl for a Disturb.
func does(args ...string) func() error {
	return func() error { return ctl(args...) }
}

// show is a property of a unit.
func show(t testing.TB, unit, property string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "--value", "--property="+property, unit).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// ends has the program of a container get a signal, and waits until systemd has seen its end.
func (m image) ends(signal string) func() error {
	return func() error {
		out, err := exec.Command("pgrep", "--parent", show(m.t, m.unit, "MainPID")).Output()
		if err != nil {
			return fmt.Errorf("looking for the program of %s: %w", m.name, err)
		}
		if out, err := exec.Command("kill", "-s", signal, strings.TrimSpace(string(out))).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		m.waits(m.t, "inactive", "failed")
		return nil
	}
}

// waits returns when the unit is in one of the states.
func (m image) waits(t testing.TB, states ...string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for is := ""; !slices.Contains(states, is); is = show(t, m.unit, "ActiveState") {
		if time.Now().After(deadline) {
			t.Fatalf("%s is %s, want %v", m.unit, is, states)
		}
	}
}

// state is a State.
func (m image) state() (string, error) {
	out, err := exec.Command("systemctl", "show", m.unit, "--property=LoadState,ActiveState,InvocationID,StateChangeTimestampMonotonic").Output()
	return string(out), err
}

// undone is what Reverse brings back.
func (m image) undone() (string, error) {
	state := show(m.t, m.unit, "ActiveState")
	return strings.ReplaceAll(state, "failed", "inactive"), nil
}

func TestConformance(t *testing.T) {
	needs.Systemd(t)
	on, off := container(t, "on"), container(t, "off.example-1")
	// Containers are started more often here than systemd allows by itself.
	dropIns := "/run/systemd/system/systemd-nspawn@.service.d"
	write(t, filepath.Join(dropIns, "often.conf"), "[Unit]\nStartLimitIntervalSec=0\n")
	t.Cleanup(func() {
		if err := os.RemoveAll(dropIns); err != nil {
			t.Error(err)
		}
	})
	cases := []sinktest.Case{
		{Name: "a container that is stopped is started", Resource: on.name, Params: values{}, Disturb: does("stop", on.unit)},
		{Name: "a container that ends by itself is started", Resource: on.name, Params: values{"state": "running"}, Disturb: on.ends("TERM")},
		{Name: "a container that is killed is started", Resource: on.name, Params: values{"state": "running"}, Disturb: on.ends("KILL")},
		{Name: "a container that is started is stopped", Resource: off.name, Params: values{"state": "stopped"}, Disturb: does("start", off.unit)},
	}
	for i := range cases {
		m := on
		if cases[i].Resource == off.name {
			m = off
		}
		cases[i].State, cases[i].Undone = m.state, m.undone
	}
	sinktest.Run(t, nspawn.Spec, cases...)
}

func TestInvalid(t *testing.T) {
	for _, name := range []string{"", "a b", "a_b", "../a", ".a", "a.", "-a", "a-", "a..b", "a@b", strings.Repeat("a", 65)} {
		sinktest.Invalid(t, nspawn.Spec, name, values{}, "is not the name of a container")
	}
	sinktest.Invalid(t, nspawn.Spec, "a", values{"state": "up"}, `"up"`)
	sinktest.Invalid(t, nspawn.Spec, "a", values{"state": ""}, "state")
}

func TestWhatAPurgeSpares(t *testing.T) {
	r := sinktest.Build(t, nspawn.Spec, "web", values{"state": "stopped"})
	want := []string{"path /etc/systemd/nspawn/web.nspawn", "path /var/lib/machines/web", "path /var/lib/machines/web.raw"}
	if got := r.(sinks.Keeper).Keeps(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEdges(t *testing.T) {
	lines := strings.Join(sinktest.Edges(t, &nspawn.Config{State: "running"}, "web"), "\n") + "\n"
	for _, want := range []string{
		"provides unit systemd-nspawn@web.service",
		"needs package systemd-container, which brings systemd-nspawn",
		"needs file /lib/systemd/system/systemd-nspawn@.service, which describes it",
		"needs dir /var/lib/machines/web, its image",
		"needs dir above /var/lib/machines/web, which holds a file that it uses",
		"needs mount above /var/lib/machines/web, on which a file is that it uses",
		"needs file below /var/lib/machines/web, which is in a directory that it uses",
		"needs file /var/lib/machines/web.raw, its image",
		"needs file /etc/systemd/nspawn/web.nspawn, its settings",
	} {
		if !strings.Contains(lines, want+"\n") {
			t.Errorf("%q is not among them:\n%s", want, lines)
		}
	}
	if lines := strings.Join(sinktest.Edges(t, &nspawn.Config{State: "stopped"}, "web"), "\n"); strings.Contains(lines, "provides") || strings.Contains(lines, machines) {
		t.Errorf("one that is stopped provides nothing and needs no image:\n%s", lines)
	}
}
