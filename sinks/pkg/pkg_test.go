package pkg_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/pkg"
	"github.com/mgmtproject/mgmt/sinks/pkg/backend"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sinks/sinktest/testrepo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type params map[string]any

// ways runs a test with PackageKit on the bus, and without.
func ways(t *testing.T, test func(*testing.T)) {
	needs.Systemd(t)
	t.Run("apt", func(t *testing.T) {
		withoutPackageKit(t)
		test(t)
	})
	t.Run("PackageKit", func(t *testing.T) {
		needs.PackageKit(t)
		command(t, "sh", "-c", "ip link show br0 >/dev/null 2>&1 || { ip link add br0 up type bridge && ip route add default dev br0; }")
		test(t)
	})
}

const service = "/usr/share/dbus-1/system-services/org.freedesktop.PackageKit.service"

// withoutPackageKit takes it from the bus for the time of a test.
func withoutPackageKit(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(service); err != nil {
		return
	}
	command(t, "sh", "-c", "systemctl stop packagekit; mv "+service+" /root/service; busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig")
	t.Cleanup(func() {
		out, err := exec.Command("sh", "-c", "mv /root/service "+service+"; busctl call org.freedesktop.DBus / org.freedesktop.DBus ReloadConfig").CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// run is a program that disturbs.
func run(name string, args ...string) func() error {
	return func() error {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
		}
		return nil
	}
}

// state is what dpkg says of packages, and what is in the database beside it.
func state(names ...string) func() (string, error) {
	return func() (string, error) {
		var b strings.Builder
		for _, name := range names {
			out, _ := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n", name).Output()
			if text := string(out); strings.HasSuffix(text, " installed\n") || strings.Contains(text, "half") {
				b.WriteString(text)
			}
		}
		lists, err := filepath.Glob("/var/lib/apt/lists/*")
		fmt.Fprint(&b, lists)
		return b.String(), err
	}
}

func TestConformance(t *testing.T) {
	ways(t, func(t *testing.T) {
		a := testrepo.New(t, "/srv/conformance")
		a.Add(testrepo.Package{Name: "mhello"}, testrepo.Package{Name: "mhello", Version: "2.0"}, testrepo.Package{Name: "mother"})
		a.Publish()
		install := func(version string) func() error {
			return run("dpkg", "--force-downgrade", "--install", "/srv/conformance/mhello_"+version+"_all.deb")
		}
		purge, remove := run("dpkg", "--purge", "mhello"), run("dpkg", "--remove", "mhello")
		cases := []sinktest.Case{
			{Name: "a package is installed again that somebody has removed", Resource: "mhello", Params: params{}, Disturb: remove, State: state("mhello"), Undone: state("mhello")},
			{Name: "an exact version comes in place of a newer one", Resource: "mhello", Params: params{"state": "1.0", "allowdowngrade": true}, Disturb: install("2.0"), State: state("mhello"), Undone: state("mhello")},
			{Name: "a package is removed that somebody has installed", Resource: "mhello", Params: params{"state": "uninstalled"}, Disturb: install("2.0"), State: state("mhello"), Undone: state("mhello")},
		}
		if !strings.HasSuffix(t.Name(), "PackageKit") {
			cases = append(cases,
				sinktest.Case{Name: "a package with an architecture that somebody has purged", Resource: "mhello:all", Params: params{"state": "installed"}, Disturb: purge, State: state("mhello")},
				sinktest.Case{Name: "an exact version comes in place of none", Resource: "mother", Params: params{"state": "1.0"}, Disturb: run("dpkg", "--purge", "mother"), State: state("mother")},
				sinktest.Case{Name: "a package that was never there is gone", Resource: "mnever", Params: params{"state": "uninstalled"}})
		}
		cases = append(cases, sinktest.Case{Name: "the newest version comes in place of an older one", Resource: "mhello", Params: params{"state": "newest"}, Disturb: install("1.0"), State: state("mhello"), Undone: state("mhello")})
		sinktest.Run(t, pkg.Spec, cases...)
	})
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		name, resource string
		params         params
		want           string
	}{
		{"a name that apt would take for an option", "-o=x", nil, "is no name of a package"},
		{"a name that apt would take for a pattern", "mono*", nil, "is no name of a package"},
		{"a name with a version", "mhello=1.0", nil, "is no name of a package"},
		{"a state of other tools", "mhello", params{"state": "present"}, "is none of installed, uninstalled and newest"},
		{"a version with a blank", "mhello", params{"state": "1 0"}, "is none of installed"},
		{"a permission for nothing", "mhello", params{"state": "uninstalled", "allownonfree": true}, "nothing has to be allowed"},
	} {
		t.Run(tt.name, func(t *testing.T) { sinktest.Invalid(t, pkg.Spec, tt.resource, tt.params, tt.want) })
	}
}

// apply applies the members as a group.
func apply(t testing.TB, members ...sinks.Resource) []sinks.GroupResult {
	t.Helper()
	return members[0].(sinks.Grouper).CheckApplyGroup(t.Context(), true, members)
}

// transactions counts what apt has done, by its log.
func transactions(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/var/log/apt/history.log")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "Start-Date:")
}

func TestGroupIsOneTransaction(t *testing.T) {
	ways(t, func(t *testing.T) {
		a := testrepo.New(t, "/srv/group")
		var members []sinks.Resource
		for i := range 5 {
			name := fmt.Sprint("mgroup", i)
			a.Add(testrepo.Package{Name: name})
			members = append(members, sinktest.Build(t, pkg.Spec, name, params{}))
		}
		a.Publish()
		before := transactions(t)
		for i, r := range apply(t, members...) {
			if r.Err != nil || !r.Changed || a.Version(fmt.Sprint("mgroup", i)) != "1.0" || r.Values["version"] != "1.0" {
				t.Errorf("member %d: %+v", i, r)
			}
		}
		if n := transactions(t) - before; n != 1 {
			t.Errorf("it took %d transactions, want one", n)
		}
		for i := range members {
			members[i] = sinktest.Build(t, pkg.Spec, fmt.Sprint("mgroup", i), params{"state": "uninstalled"})
		}
		for i, r := range apply(t, members...) {
			if r.Err != nil || !r.Changed || a.Version(fmt.Sprint("mgroup", i)) != "" {
				t.Errorf("removing member %d: %+v", i, r)
			}
		}
		if n := transactions(t) - before; n != 2 {
			t.Errorf("together it took %d transactions, want two", n)
		}
	})
}

// TestOneOfAGroupFails has a transaction fail for each reason there is: the others are
// installed, and only the one to blame has failed.
func TestOneOfAGroupFails(t *testing.T) {
	ways(t, func(t *testing.T) {
		a := testrepo.New(t, "/srv/blame")
		a.Add(testrepo.Package{Name: "mgood1"}, testrepo.Package{Name: "mgood2"},
			testrepo.Package{Name: "mscript", Scripts: map[string]string{"postinst": "#!/bin/sh\necho no luck >&2\nexit 3\n"}},
			testrepo.Package{Name: "mdepends", Fields: "Depends: nowhere\n"},
			testrepo.Package{Name: "mdamaged", Broken: true})
		a.Publish()
		for _, tt := range []struct{ bad, want string }{
			{"munknown", "no such package"}, {"mdepends", "nowhere"}, {"mdamaged", ""}, {"mscript", ""},
		} {
			t.Run(tt.bad, func(t *testing.T) {
				var members []sinks.Resource
				for _, name := range []string{"mgood1", tt.bad, "mgood2"} {
					members = append(members, sinktest.Build(t, pkg.Spec, name, params{}))
				}
				for i, r := range apply(t, members...) {
					switch {
					case i == 1 && (r.Err == nil || !strings.Contains(r.Err.Error(), tt.want)):
						t.Errorf("%s: %v, want %q", tt.bad, r.Err, tt.want)
					case i == 1:
						t.Logf("%s: %v", tt.bad, r.Err)
					case r.Err != nil || !r.Changed:
						t.Errorf("member %d: %+v", i, r)
					}
				}
				if a.Version("mgood1") == "" || a.Version("mgood2") == "" {
					t.Error("the good ones are not there")
				}
				for _, name := range []string{"mgood1", "mgood2", tt.bad} {
					_ = run("dpkg", "--purge", "--force-all", name)() // it may not be there
				}
			})
		}
	})
}

func TestEdges(t *testing.T) {
	got := sinktest.Edges(t, &pkg.Config{State: "newest"}, "mnever")
	for _, want := range []string{
		"provides package mnever",
		"provides owned /etc/mnever.conf",
		"provides owned /usr/bin/mnever",
		"needs file below /etc/apt, which says where packages come from",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if got := sinktest.Edges(t, &pkg.Config{State: "uninstalled"}, "mnever"); len(got) > 0 {
		t.Errorf("to uninstall: %q", got)
	}
	if _, err := os.Stat("/var/lib/dpkg/info/dpkg.list"); err != nil {
		t.Skipf("needs the program dpkg: %v", err)
	}
	got = sinktest.Edges(t, &pkg.Config{State: "installed"}, "dpkg")
	for want, is := range map[string]bool{"provides owned /usr/bin/dpkg-deb": true, "provides owned /usr": false, "provides owned /var/lib/dpkg": false} {
		if slices.Contains(got, want) != is {
			t.Errorf("%q is among them: %v, want %v", want, !is, is)
		}
	}
}

func TestReverse(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  pkg.Config
		was  map[string]string
		want *pkg.Config
	}{
		{"what was installed goes", pkg.Config{State: "installed", AllowUntrusted: true}, map[string]string{"state": "uninstalled"}, &pkg.Config{State: "uninstalled"}},
		{"what was uninstalled comes", pkg.Config{State: "uninstalled"}, map[string]string{"state": "1.0"}, &pkg.Config{State: "installed", AllowNonFree: true, AllowUnsupported: true}},
		{"what was replaced goes back", pkg.Config{State: "newest"}, map[string]string{"state": "1.0"}, &pkg.Config{State: "1.0", AllowNonFree: true, AllowUnsupported: true, AllowDowngrade: true}},
		{"what was completed stays", pkg.Config{State: "installed"}, map[string]string{"state": "half-configured"}, nil},
		{"what was right stays", pkg.Config{State: "installed"}, map[string]string{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.cfg.Reverse(tt.was)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == nil {
				if got != nil {
					t.Errorf("%+v, want nothing", got)
				}
			} else if c, ok := got.(*pkg.Config); !ok || *c != *tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestNotRoot runs the test binary again as nobody, who may look and not change.
func TestNotRoot(t *testing.T) {
	if os.Getenv("MGMT_TEST_NOBODY") != "" {
		if _, err := sinktest.Build(t, pkg.Spec, "dpkg", params{}).CheckApply(t.Context(), true); err != nil {
			t.Errorf("looking: %v", err)
		}
		_, err := sinktest.Build(t, pkg.Spec, "mnever", params{}).CheckApply(t.Context(), true)
		if err == nil || !strings.Contains(err.Error(), "only root may change packages: run mgmt as root") {
			t.Errorf("changing: %v", err)
		}
		return
	}
	needs.Systemd(t)
	withoutPackageKit(t)
	exe := "/srv/nobody.test"
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", exe, "-test.run=^TestNotRoot$")
	cmd.Env, cmd.Dir = append(os.Environ(), "MGMT_TEST_NOBODY=1", "GOCOVERDIR="), "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestNoPackageManager takes all away that could do it.
func TestNoPackageManager(t *testing.T) {
	needs.Systemd(t)
	withoutPackageKit(t)
	r := sinktest.Build(t, pkg.Spec, "mnever", params{})
	t.Run("neither", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := r.CheckApply(t.Context(), true)
		if !errors.Is(err, backend.ErrNone) {
			t.Errorf("%v, want %v", err, backend.ErrNone)
		}
	})
	a := testrepo.New(t, "/srv/recovers")
	a.Add(testrepo.Package{Name: "mnever"})
	a.Publish()
	if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
		t.Errorf("when it is there again: %+v, %v", out, err)
	}
}

// BenchmarkPackages installs and removes 20 packages: in one transaction, and one by one.
func BenchmarkPackages(b *testing.B) {
	needs.Systemd(b)
	a := testrepo.New(b, "/srv/bench")
	many := 20
	if testing.Short() {
		many = 3
	}
	var names []string
	for i := range many {
		names = append(names, fmt.Sprint("mbench", i))
		a.Add(testrepo.Package{Name: names[i]})
	}
	a.Publish()
	members := func(state string) []sinks.Resource {
		var all []sinks.Resource
		for _, name := range names {
			all = append(all, sinktest.Build(b, pkg.Spec, name, params{"state": state}))
		}
		return all
	}
	there, gone := members("installed"), members("uninstalled")
	together := func(ctx context.Context, all []sinks.Resource) []sinks.GroupResult {
		return all[0].(sinks.Grouper).CheckApplyGroup(ctx, true, all)
	}
	single := func(ctx context.Context, all []sinks.Resource) []sinks.GroupResult {
		var results []sinks.GroupResult
		for _, m := range all {
			out, err := m.CheckApply(ctx, true)
			results = append(results, sinks.GroupResult{Outcome: out, Err: err})
		}
		return results
	}
	check := func(b *testing.B, results []sinks.GroupResult) {
		for _, r := range results {
			if r.Err != nil || !r.Changed {
				b.Fatalf("%+v", r)
			}
		}
	}
	bench := func(b *testing.B) {
		for _, way := range []struct {
			name string
			do   func(context.Context, []sinks.Resource) []sinks.GroupResult
		}{{"together", together}, {"single", single}} {
			b.Run(way.name, func(b *testing.B) {
				var install, remove time.Duration
				for b.Loop() {
					began := time.Now()
					check(b, way.do(b.Context(), there))
					middle := time.Now()
					check(b, way.do(b.Context(), gone))
					install += middle.Sub(began)
					remove += time.Since(middle)
				}
				b.ReportMetric(float64(install.Milliseconds())/float64(b.N), "ms/install")
				b.ReportMetric(float64(remove.Milliseconds())/float64(b.N), "ms/remove")
			})
		}
	}
	b.Run("PackageKit", func(b *testing.B) {
		needs.PackageKit(b)
		bench(b)
	})
	b.Run("apt", func(b *testing.B) {
		withoutPackageKit(b)
		bench(b)
	})
	b.Run("right", func(b *testing.B) {
		check(b, together(b.Context(), there))
		for b.Loop() {
			for _, r := range together(b.Context(), there) {
				if r.Err != nil || r.Changed {
					b.Fatalf("%+v", r)
				}
			}
		}
	})
}
