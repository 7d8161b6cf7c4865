package sysctl_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/private"
	"github.com/mgmtproject/mgmt/sinks/sysctl"
)

func TestMain(m *testing.M) { private.Main(m) }

type params = map[string]any

const forward = "net.ipv4.ip_forward"

// set gives a parameter of the private network a value.
func set(name, value string) error {
	return os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value+"\n"), 0)
}

func get(name string) string {
	b, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	return strings.Join(strings.Fields(string(b)), " ")
}

// state tells the values in force and the files.
func state(t *testing.T, dir string, files func(...string) func() (string, error)) func() (string, error) {
	t.Helper()
	return func() (string, error) {
		text, err := files(dir)()
		return fmt.Sprintf("%s forward %s ports %s\n%s", t.Name(), get(forward), get("net.ipv4.ip_local_port_range"), text), err
	}
}

func TestConformance(t *testing.T) {
	private.Need(t)
	d := t.TempDir()
	f := d + "/a.conf"
	write := func(text string) func() error {
		return func() error { return os.WriteFile(f, []byte(text), 0o644) }
	}
	both := func(a, b func() error) func() error { return func() error { return errors.Join(a(), b()) } }
	for _, c := range []sinktest.Case{
		{Name: "a value in force and in a file", Resource: forward, Params: params{"value": 1, "path": f},
			Disturb: both(func() error { return set(forward, "0") }, write("# mine\nother = 1\n"))},
		{Name: "another program sets it", Resource: "net/ipv4/ip_forward", Params: params{"value": "1", "path": f},
			Disturb: func() error { return set(forward, "0") }},
		{Name: "somebody edits the file", Resource: forward, Params: params{"value": "1", "path": f},
			Disturb: write("net/ipv4/ip_forward=1\n-net.ipv4.ip_forward = 0\n")},
		{Name: "the file is removed", Resource: forward, Params: params{"value": "1", "path": d + "/new/b.conf"},
			Disturb: func() error { return os.RemoveAll(d + "/new") }},
		{Name: "only in force, with several numbers", Resource: "net.ipv4.ip_local_port_range", Params: params{"value": "20000 30000", "persist": false},
			Disturb: func() error { return set("net.ipv4.ip_local_port_range", "20000 40000") }},
		{Name: "only in the file", Resource: "no.such", Params: params{"value": "x y", "runtime": false, "path": f},
			Disturb: write("no.such = x z\n")},
		{Name: "not in the file", Resource: forward, Params: params{"state": "absent", "path": f},
			Disturb: write("; first\nnet.ipv4.ip_forward = 1\n")},
	} {
		c.State = state(t, d, sinktest.Files)
		if c.Name != "somebody edits the file" && c.Name != "the file is removed" { // where a directory is left, or a line more
			c.Undone = state(t, d, sinktest.Contents)
		}
		sinktest.Run(t, sysctl.Spec, c)
	}
}

// TestKernel has the kernel change a value because of another one, of which it says nothing.
func TestTheKernelChangesIt(t *testing.T) {
	private.Need(t)
	const name = "net.ipv4.conf.lo.forwarding"
	sinktest.Run(t, sysctl.Spec, sinktest.Case{Name: "through another parameter", Resource: name,
		Params: params{"value": "0", "persist": false},
		Disturb: func() error {
			return errors.Join(set("net.ipv4.conf.all.forwarding", "0"), set("net.ipv4.conf.all.forwarding", "1"))
		},
		State: func() (string, error) { return get(name), nil }})
}

func TestDefaultFile(t *testing.T) {
	private.Need(t)
	const f = "/etc/sysctl.d/99-net.ipv4.conf.lo.forwarding.conf"
	r := sinktest.Build(t, sysctl.Spec, "net.ipv4.conf.lo.forwarding", params{"value": 1})
	if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
		t.Fatal(out, err)
	}
	text, err := os.ReadFile(f)
	if err != nil || string(text) != "net.ipv4.conf.lo.forwarding = 1\n" {
		t.Errorf("%s has %q, %v", f, text, err)
	}
	if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("its mode is %v, %v", st.Mode(), err)
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct{ name, key string }{
		{"net.ipv4.ip_forward", "net/ipv4/ip_forward"},
		{"net/ipv4/ip_forward", "net/ipv4/ip_forward"},
		{"/proc/sys/net/ipv4/ip_forward", "net/ipv4/ip_forward"},
		{"net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"},
		{"net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"},
	} {
		r := sinktest.Build(t, sysctl.Spec, test.name, params{"value": "1"})
		if owns := r.(sinks.Owner).Owns(); owns[0] != "kernel parameter "+test.key {
			t.Errorf("%s owns %q, want %s", test.name, owns, test.key)
		}
	}
}

func TestEdits(t *testing.T) {
	f := t.TempDir() + "/a.conf"
	for _, test := range []struct {
		name, before string
		params       params
		after        string
	}{
		{"a missing line goes to the end", "# a\n\n  b=2", params{"value": "1"}, "# a\n\n  b=2\nkernel.x = 1\n"},
		{"a line is replaced where it is", "a=1\nkernel.x=0\nb = 2\r\n", params{"value": "1"}, "a=1\nkernel.x = 1\nb = 2\r\n"},
		{"the last line of several counts", "kernel/x=1\nkernel.x=0\n", params{"value": "1"}, "kernel/x=1\nkernel.x = 1\n"},
		{"a line that says it otherwise stays", "-kernel/x \t=  1   2 \n#kernel.x=3", params{"value": "1 2"}, "-kernel/x \t=  1   2 \n#kernel.x=3"},
		{"an empty value", "kernel.x=1\n", params{"value": ""}, "kernel.x =\n"},
		{"all lines of it are removed", "kernel.x=1\na=1\n-kernel/x=2\nkernel.xy=3", params{"state": "absent"}, "a=1\nkernel.xy=3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(f, []byte(test.before), 0o600); err != nil {
				t.Fatal(err)
			}
			test.params["path"], test.params["runtime"] = f, false
			r := sinktest.Build(t, sysctl.Spec, "kernel.x", test.params)
			out, err := r.CheckApply(t.Context(), true)
			text, _ := os.ReadFile(f)
			if err != nil || out.Changed != (test.before != test.after) || string(text) != test.after {
				t.Errorf("%+v, %v makes %q, want %q", out, err, text, test.after)
			}
			if st, _ := os.Stat(f); st.Mode().Perm() != 0o600 {
				t.Errorf("the mode is %v now", st.Mode())
			}
		})
	}
}

func TestTogether(t *testing.T) {
	f := t.TempDir() + "/a.conf"
	var members []sinks.Resource
	for i := range 500 {
		members = append(members, sinktest.Build(t, sysctl.Spec, fmt.Sprint("kernel.x", i), params{"value": i, "path": f, "runtime": false}))
	}
	g := members[0].(sinks.Grouper)
	start := time.Now()
	for _, changed := range []bool{true, false} {
		for i, r := range g.CheckApplyGroup(t.Context(), true, members) {
			if r.Err != nil || r.Changed != changed {
				t.Fatalf("member %d: %+v, want Changed to be %v", i, r, changed)
			}
		}
	}
	t.Logf("500 in one file took %v", time.Since(start))
	text, err := os.ReadFile(f)
	if err != nil || strings.Count(string(text), "\n") != 500 || !strings.HasSuffix(string(text), "kernel.x499 = 499\n") {
		t.Errorf("the file has %q, %v", text, err)
	}
	if err := os.Mkdir(filepath.Dir(f)+"/d.conf", 0o755); err != nil {
		t.Fatal(err)
	}
	bad := sinktest.Build(t, sysctl.Spec, "kernel.x", params{"value": "1", "path": filepath.Dir(f) + "/d.conf", "runtime": false})
	if _, err := bad.CheckApply(t.Context(), true); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory in place of the file: %v", err)
	}
}

func TestRefused(t *testing.T) {
	private.Need(t)
	for _, test := range []struct{ name, resource, value, want string }{
		{"a parameter that there is not", "net.ipv4.nonsense", "1", "this kernel has no parameter net.ipv4.nonsense"},
		{"a directory", "net.ipv4", "1", "net.ipv4 is not one parameter but a directory"},
		{"a value that the kernel refuses", forward, "many", `the kernel refuses the value "many"`},
		{"a parameter that can only be written", "net.ipv4.route.flush", "1", "use exec"},
		{"a value in a form that the kernel does not show", "net.ipv4.tcp_fin_timeout", "0x10", `the kernel has made "16" of the value "0x10"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := sinktest.Build(t, sysctl.Spec, test.resource, params{"value": test.value, "persist": false})
			if _, err := r.CheckApply(t.Context(), true); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v, want %q", err, test.want)
			}
		})
	}
	t.Run("a /proc/sys that is read-only", func(t *testing.T) {
		if err := errors.Join(unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""),
			unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Unmount("/proc/sys", 0) }()
		value := map[string]string{"0": "1", "1": "0"}[get(forward)]
		r := sinktest.Build(t, sysctl.Spec, forward, params{"value": value, "persist": false})
		if _, err := r.CheckApply(t.Context(), true); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "on the host") {
			t.Errorf("it says %v", err)
		}
	})
}

func TestInvalid(t *testing.T) {
	for _, test := range []struct {
		name   string
		params params
		want   string
	}{
		{forward, nil, "value: it is missing"},
		{forward, params{"value": "1\n2"}, "more than one line"},
		{forward, params{"value": "1", "state": "gone"}, "gone"},
		{forward, params{"value": "1", "runtime": false, "persist": false}, "nothing to do"},
		{forward, params{"state": "absent", "persist": false}, "nothing to do"},
		{forward, params{"value": "1", "path": "x.txt"}, "does not end in .conf"},
		{forward, params{"value": "1", "path": "../x.conf"}, "goes up"},
		{"net.ipv4.conf.*.forwarding", params{"value": "1"}, "not the name of a kernel parameter"},
		{"net..x", params{"value": "1"}, "not the name of a kernel parameter"},
		{"net/../x", params{"value": "1"}, "not the name of a kernel parameter"},
		{"/etc/passwd", params{"value": "1"}, "not the name of a kernel parameter"},
		{"", params{"value": "1"}, "not the name of a kernel parameter"},
	} {
		sinktest.Invalid(t, sysctl.Spec, test.name, test.params, test.want)
	}
}

func TestEdges(t *testing.T) {
	one := "1"
	for _, test := range []struct {
		name string
		cfg  *sysctl.Config
		want []string
	}{
		{"its file has a directory, and others may make it", &sysctl.Config{Value: &one, Persist: true, Path: "a.conf"}, []string{
			"provides edits /etc/sysctl.d/a.conf",
			"needs file /etc/sysctl.d/a.conf, its file",
			"needs owned /etc/sysctl.d/a.conf, which brings its file",
			"needs dir above /etc/sysctl.d/a.conf, which holds it",
			"needs mount above /etc/sysctl.d/a.conf, on which it is",
		}},
		{"what is absent needs no directory", &sysctl.Config{State: "absent", Persist: true, Path: "/a.conf"}, []string{
			"provides edits /a.conf", "needs file /a.conf, its file", "needs owned /a.conf, which brings its file", "needs mount above /a.conf, on which it is",
		}},
		{"without a file it stands alone", &sysctl.Config{Value: &one, Runtime: true}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, forward)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAParameterOfAnInterfaceIsSetAfterIt(t *testing.T) {
	one := "1"
	for name, link := range map[string]string{
		"net.ipv4.conf.eth0.forwarding":              "eth0",
		"net.ipv4.conf.eth0/100.forwarding":          "eth0.100",
		"net/ipv6/conf/eth0.100/accept_ra":           "eth0.100",
		"net.ipv6.neigh.eth0.base_reachable_time_ms": "eth0",
		"net.ipv4.conf.all.forwarding":               "",
		"net.ipv4.neigh.default.gc_interval":         "",
		"net.ipv4.ip_forward":                        "",
		"net.netfilter.nf_log.2":                     "",
		"kernel.x":                                   "",
	} {
		var want []string
		if link != "" {
			want = []string{"needs link " + link + ", whose parameter it is"}
		}
		if diff := cmp.Diff(want, sinktest.Edges(t, &sysctl.Config{Value: &one, Runtime: true}, name)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	for _, line := range sinktest.Edges(t, &sysctl.Config{Value: &one, Persist: true}, "net.ipv4.conf.eth0.forwarding") {
		if strings.HasPrefix(line, "needs link") {
			t.Errorf("what is for the next boot alone %s", line)
		}
	}
}

func TestCancelledBeforeTheFile(t *testing.T) {
	f := t.TempDir() + "/a.conf"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := sinktest.Build(t, sysctl.Spec, "kernel.x", params{"value": "1", "path": f, "runtime": false})
	if _, err := r.CheckApply(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("it says %v", err)
	}
	if _, err := os.Stat(f); err == nil {
		t.Error("there is a file")
	}
}
