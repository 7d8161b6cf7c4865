package hostname_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/hostname"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type params = map[string]any

// run is a command that has to succeed.
func run(name string, args ...string) func() error {
	return func() error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
		}
		return nil
	}
}

// all is one after the other.
func all(steps ...func() error) func() error {
	return func() error {
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	}
}

func write(path, text string) func() error {
	return func() error { return os.WriteFile(path, []byte(text), 0o644) }
}

// with adds the name that the kernel has to the state of the files.
func with(files func() (string, error)) func() (string, error) {
	return func() (string, error) {
		text, err1 := files()
		name, err2 := os.Hostname()
		return text + name, errors.Join(err1, err2)
	}
}

var (
	state  = with(sinktest.Files("/etc/hostname", "/etc/machine-info"))
	undone = with(sinktest.Contents("/etc/hostname", "/etc/machine-info"))
)

func TestConformance(t *testing.T) {
	host(t)
	sinktest.Run(t, hostname.Spec,
		sinktest.Case{Name: "all names, after hostnamed changed them", Resource: "this host", Params: params{"hostname": "one.example.org"},
			Disturb: all(run("hostnamectl", "hostname", "other"), run("hostnamectl", "hostname", "--pretty", "The Other")), State: state, Undone: undone},
		sinktest.Case{Name: "all names, by the name of the resource, after the kernel's was changed", Resource: "two",
			Disturb: run("hostname", "other"), State: state, Undone: undone},
		sinktest.Case{Name: "the static name, after its file was changed", Resource: "this host", Params: params{"static_hostname": "three"},
			Disturb: write("/etc/hostname", "other\n"), State: state},
		sinktest.Case{Name: "the static name, after its file was removed", Resource: "this host", Params: params{"static_hostname": "three"},
			Disturb: run("rm", "/etc/hostname"), State: state},
		sinktest.Case{Name: "the transient name, after hostnamed changed it", Resource: "this host", Params: params{"transient_hostname": "four"}, // which it does with the static one
			Disturb: all(run("hostnamectl", "hostname", "--static", "another"), run("hostnamectl", "hostname", "--static", "other")), State: state},
		sinktest.Case{Name: "the transient name, after the kernel's was changed", Resource: "this host", Params: params{"transient_hostname": "five"},
			Disturb: run("hostname", "other"), State: state, Undone: undone},
		sinktest.Case{Name: "a transient name that is not the static one", Resource: "this host",
			Params:  params{"transient_hostname": "six", "static_hostname": "seven"},
			Disturb: run("hostnamectl", "hostname", "--static", "other"), State: state, Undone: undone},
		sinktest.Case{Name: "the pretty name, after hostnamed changed it", Resource: "this host", Params: params{"pretty_hostname": `Eve's "PC" $1 ü`},
			Disturb: run("hostnamectl", "hostname", "--pretty", "Other"), State: state, Undone: undone},
		sinktest.Case{Name: "the pretty name, after its file was changed", Resource: "this host", Params: params{"pretty_hostname": "Seven"},
			Disturb: write("/etc/machine-info", "PRETTY_HOSTNAME=\"Other one\"\nLOCATION=here\n"), State: state, Undone: undone},
	)
	if text, err := os.ReadFile("/etc/machine-info"); !strings.Contains(string(text), "LOCATION=here") {
		t.Errorf("something else was lost: %s, %v", text, err)
	}
}

// host has the test run in a test host, which has its names back afterwards.
func host(t *testing.T) {
	t.Helper()
	needs.Systemd(t)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run("hostname", name)(); err != nil {
			t.Error(err)
		}
	})
	sinktest.Restore(t, "/etc/hostname", "/etc/machine-info")
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		name, resource string
		params         params
		want           string
	}{
		{"the resource's name, which is no hostname", "this host", nil, `the name of the resource, "this host", can't be a hostname: there may be only letters`},
		{"a name with an underscore", "a", params{"hostname": "a_b"}, `hostname: "a_b" can't be one: there may be only letters`},
		{"a static name that ends with a dot", "a", params{"static_hostname": "a."}, `static_hostname: "a." can't be one: it begins or ends with a dot`},
		{"a transient name with a hyphen in the beginning", "a", params{"transient_hostname": "b.-a"}, `transient_hostname: "b.-a" can't be one: a part of it begins or ends with a hyphen`},
		{"a name that the kernel can't hold", "a", params{"hostname": strings.Repeat("a", 65)}, "it has 65 characters, and 64 are the most"},
		{"a pretty name with two lines", "a", params{"pretty_hostname": "a\nb"}, `pretty_hostname: "a\nb" can't be one: it has a control character`},
	} {
		t.Run(tt.name, func(t *testing.T) { sinktest.Invalid(t, hostname.Spec, tt.resource, tt.params, tt.want) })
	}
	sinktest.Build(t, hostname.Spec, "this host", params{"pretty_hostname": "any: thing/at all"})
}

// The bus is somewhere else for the time of the test. A connection that is left from
// another test is closed when it has been idle for a moment.
func TestWithoutABus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	r := sinktest.Build(t, hostname.Spec, "nobody", nil)
	var out sinks.Outcome
	var err error
	for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); {
		if out, err = r.CheckApply(t.Context(), false); err == nil {
			time.Sleep(200 * time.Millisecond)
		}
	}
	if !errors.Is(err, bus.ErrMissing) || out.Changed || !strings.Contains(err.Error(), "through systemd-hostnamed: there is no system bus") {
		t.Errorf("got %+v, %v", out, err)
	}
}

func TestWithoutHostnamed(t *testing.T) {
	host(t)
	const activation = "/usr/share/dbus-1/system-services/org.freedesktop.hostname1.service"
	for _, step := range []func() error{run("systemctl", "stop", "systemd-hostnamed"), run("mv", activation, "/run/away"), run("busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig")} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	r := sinktest.Build(t, hostname.Spec, "nobody", nil)
	out, err := r.CheckApply(t.Context(), true)
	if !errors.Is(err, bus.ErrMissing) || out.Changed || !strings.Contains(err.Error(), "org.freedesktop.hostname1 is not on the system bus") {
		t.Errorf("got %+v, %v", out, err)
	}
	for _, step := range []func() error{run("mv", "/run/away", activation), run("busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "ReloadConfig")} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
		t.Errorf("when it is back: %+v, %v", out, err)
	}
}

func TestOutputs(t *testing.T) {
	host(t)
	r, err := (&hostname.Config{Hostname: "sent"}).Build("a", sinks.Options{Sends: []string{"hostname"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out, err := r.CheckApply(t.Context(), true)
		if diff := cmp.Diff(map[string]any{"hostname": "sent"}, out.Values); diff != "" || err != nil {
			t.Errorf("%v, -want +got:\n%s", err, diff)
		}
	}
}

func TestEdges(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  *hostname.Config
		want []string
	}{
		{"all names are in two files", &hostname.Config{Hostname: "a"}, []string{
			"provides edits /etc/hostname", "provides edits /etc/machine-info",
			"needs owned /usr/lib/systemd/systemd-hostnamed, which brings hostnamed", "needs unit dbus.service, by which hostnamed is asked",
			"needs file /etc/hostname, which hostnamed changes", "needs file /etc/machine-info, which hostnamed changes"}},
		{"the transient name is in none", &hostname.Config{TransientHostname: "a"}, []string{
			"needs owned /usr/lib/systemd/systemd-hostnamed, which brings hostnamed", "needs unit dbus.service, by which hostnamed is asked"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, sinktest.Edges(t, tt.cfg, "a")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReverse(t *testing.T) {
	cfg := &hostname.Config{Hostname: "new"}
	got, err := cfg.Reverse(map[string]string{"static_hostname": "a", "transient_hostname": "b"})
	if diff := cmp.Diff(sinks.Config(&hostname.Config{StaticHostname: "a", TransientHostname: "b"}), got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if got, err := cfg.Reverse(map[string]string{"pretty_hostname": ""}); err == nil {
		t.Errorf("a name that was not there is put back as %+v", got)
	}
}
