// Package packaging_test installs the packages in a throw-away machine, and uses the
// services as an administrator would.
package packaging_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	_ "github.com/mgmtproject/mgmt/cmd/internal/cli" // what is packaged: go test must not keep results of an older one
	"github.com/mgmtproject/mgmt/cmd/internal/testhost/host"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "packages"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// scratch has the packages of each version, which are built once.
var scratch string

// The versions that are built, the older one first.
const (
	older = "v1.2.3"
	newer = "v1.2.3-4-g1234567"
)

// built has the packages of a version in a directory.
func built(t *testing.T, version string) (dir string) {
	t.Helper()
	dir = filepath.Join(scratch, version)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		build(t, version, dir)
	} else if err != nil {
		t.Fatal(err)
	}
	return dir
}

// both has the packages of both versions with one ending, as old and new in a directory.
func both(t *testing.T, suffix string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, version := range map[string]string{"old": older, "new": newer} {
		if err := os.Link(one(t, built(t, version), suffix), filepath.Join(dir, name+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// build makes the packages in a directory.
func build(t *testing.T, version, dir string) {
	t.Helper()
	// Likewise: a result is kept as long as the files that were opened are the same.
	for _, pattern := range []string{"*", "deb/*", "rpm/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "./build", dir)
	cmd.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH=1790000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// one is the file in a directory whose name ends so.
func one(t *testing.T, dir, suffix string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(files) != 1 {
		t.Fatalf("the files are %q: %v", files, err)
	}
	return files[0]
}

// machine is a host on which the packages are.
type machine struct {
	t *testing.T
	*host.Host
}

func boot(t *testing.T, packages string) *machine {
	t.Helper()
	h, err := host.Boot(t.Context(), host.Options{Binds: []host.Bind{{Source: packages, Target: "/packages"}}})
	if errors.Is(err, host.ErrImpossible) {
		t.Skipf("needs a test host: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	m := &machine{t, h}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := h.Output(context.Background(), "journalctl", "--no-pager", "--lines=300", "--unit=mgmt*")
			t.Logf("the journal:\n%s", log)
		}
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// try runs a script in the host.
func (m *machine) try(script string) (string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), 4*patience)
	defer cancel()
	return m.Output(ctx, "sh", "-ec", script)
}

// sh runs a script that must not fail.
func (m *machine) sh(t *testing.T, script string) string {
	t.Helper()
	out, err := m.try(script)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually waits, in the host, until a script prints a text.
func (m *machine) eventually(t *testing.T, script, want string) {
	t.Helper()
	loop := fmt.Sprintf(`i=0; until [ "$(%s)" = "%s" ]; do i=$((i+1)); [ $i -lt %d ]; sleep 0.05; done 2>/dev/null`, script, want, patience/(50*time.Millisecond))
	if _, err := m.try(loop); err != nil {
		out, err := m.try(script)
		t.Fatalf("%s prints %q (%v), and never %q", script, out, err, want)
	}
}

// property is one of a unit.
func (m *machine) property(t *testing.T, unit, name string) string {
	t.Helper()
	return m.sh(t, "systemctl show --value --property="+name+" "+unit)
}

// state waits until a unit is active, failed and so on, for good.
func (m *machine) state(t *testing.T, unit, want string) {
	t.Helper()
	m.eventually(t, "systemctl show --value --property=ActiveState "+unit, want)
}

// graph saves the graph file.
func (m *machine) graph(t *testing.T, text string) {
	t.Helper()
	m.sh(t, "cat >/etc/mgmt/graph.yaml.new <<'END'\n"+text+"END\nmv /etc/mgmt/graph.yaml.new /etc/mgmt/graph.yaml")
}

// journal returns the entries of the journal that match.
func (m *machine) journal(t *testing.T, matches string) []map[string]any {
	t.Helper()
	var entries []map[string]any
	out := m.sh(t, "journalctl --sync; journalctl --output=json --all "+matches)
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var e map[string]any
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// managed is a graph with a file.
func managed(content string) string {
	return fmt.Sprintf("graph: managed\nresources:\n  file:\n  - {name: /etc/managed, content: %q}\n", content+"\n")
}

// residue lists what has the program's name in its path.
const residue = `find /etc /usr /var /run /root -xdev -path '*mgmt*' -not -path '*mgmt-testhost*' -not -path '/var/log/journal/*' | sort`

func TestDebianPackage(t *testing.T) {
	m := boot(t, both(t, ".deb"))
	before := m.sh(t, "rm -rf /etc/mgmt /var/lib/mgmt /usr/bin/mgmt; "+residue) // the machine at hand may have used it
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"it installs, and its service starts", m.installs},
		{"the units are as systemd wants them", m.verified},
		{"mgmt status finds the run", m.found},
		{"the service has what it needs, and no more", m.confined},
		{"a graph that is saved is in force", m.saved},
		{"a reload fails for a file with mistakes", m.rejected},
		{"a reload reads the file", m.reloads},
		{"the journal has fields", m.fields},
		{"what is killed comes back", m.restarts},
		{"what hangs is killed and comes back", m.watched},
		{"a service that can't begin with its graph begins once that is mended", m.mistaken},
		{"restarts of systemd and of the bus lose nothing", m.outlives},
		{"it starts at boot", m.boots},
		{"the one-shot unit leaves the service alone", m.yields},
		{"the one-shot unit does without the service", m.once},
		{"the one-shot unit fails with its resources", m.onceFails},
		{"the timer starts the one-shot unit", m.timer},
		{"an upgrade restarts the service and keeps the graph file", m.upgrades},
		{"an agent that upgrades itself is not killed meanwhile", m.upgradesItself},
		{"what was disabled stays so", m.staysDisabled},
	} {
		if !t.Run(step.name, step.run) {
			return // each builds upon those before
		}
	}
	t.Run("what is removed leaves its configuration and its state", func(t *testing.T) {
		m.sh(t, "systemctl enable mgmt-once.timer mgmt.service; systemctl start mgmt-once.timer mgmt.service; dpkg --remove mgmt")
		for _, gone := range []string{"/usr/bin/mgmt", "/usr/lib/systemd/system/mgmt.service", "/run/systemd/units/invocation:mgmt.service"} {
			m.sh(t, "! test -e "+gone)
		}
		m.sh(t, "! pgrep -x mgmt; test -e /etc/mgmt/graph.yaml; ls /var/lib/mgmt/*/lock")
	})
	t.Run("what is purged leaves nothing", func(t *testing.T) {
		m.sh(t, "dpkg --purge mgmt; systemctl daemon-reload; systemctl reset-failed")
		if diff := cmp.Diff(before, m.sh(t, residue)); diff != "" {
			t.Errorf("(-before +after)\n%s", diff)
		}
		if units := m.sh(t, "systemctl list-units --all --no-legend 'mgmt.*' 'mgmt-once.*'"); units != "" {
			t.Errorf("systemd still knows %s", units)
		}
	})
}

func (m *machine) installs(t *testing.T) {
	m.sh(t, "dpkg --install /packages/old.deb")
	if state := m.sh(t, "systemctl is-active mgmt.service; systemctl is-enabled mgmt.service"); state != "active\nenabled" {
		t.Errorf("the service is %q", state)
	}
	if state, _ := m.try("systemctl is-enabled mgmt-once.timer"); !strings.HasPrefix(state, "disabled") {
		t.Errorf("the timer is %q", state)
	}
	if v := m.sh(t, "mgmt version"); !strings.HasPrefix(v, "mgmt v1.2.3\n") {
		t.Errorf("the version is %q", v)
	}
	m.eventually(t, "systemctl show --value --property=StatusText mgmt.service", "host: 1 right; 0 resources changed so far")
}

func (m *machine) verified(t *testing.T) {
	m.sh(t, "systemd-analyze verify --man=no mgmt.service mgmt-once.service mgmt-once.timer 2>&1 | grep -i mgmt && exit 1; test -s /usr/share/man/man1/mgmt.1.gz")
	m.sh(t, "mgmt validate /etc/mgmt/graph.yaml; mgmt validate /usr/share/doc/mgmt/examples/*.yaml >/dev/null || test $? = 2")
}

func (m *machine) found(t *testing.T) {
	if out := m.sh(t, "mgmt status"); !strings.Contains(out, "keeps /etc/mgmt/graph.yaml") || !strings.Contains(out, "\n1 right") {
		t.Errorf("it says %q", out)
	}
}

func (m *machine) confined(t *testing.T) {
	pid := m.property(t, "mgmt.service", "MainPID")
	status := map[string]string{}
	for line := range strings.Lines(m.sh(t, "cat /proc/"+pid+"/status")) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.TrimSpace(value)
	}
	bounds, err := strconv.ParseUint(status["CapBnd"], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	const reboot, admin = 22, 21 // capabilities(7)
	if bounds>>reboot&1 != 0 || bounds>>admin&1 == 0 {
		t.Errorf("the capabilities are %x", bounds)
	}
	if status["NoNewPrivs"] != "0" || status["Seccomp"] != "2" {
		t.Errorf("NoNewPrivs is %s, Seccomp %s", status["NoNewPrivs"], status["Seccomp"])
	}
	for _, ns := range []string{"mnt", "uts", "net", "user"} {
		m.sh(t, fmt.Sprintf("test $(readlink /proc/1/ns/%s) = $(readlink /proc/%s/ns/%[1]s)", ns, pid))
	}
	if mode := m.sh(t, "stat -c %a /var/lib/mgmt /etc/mgmt/graph.yaml"); mode != "700\n600" {
		t.Errorf("the modes are %q", mode)
	}
}

func (m *machine) saved(t *testing.T) {
	m.graph(t, managed("saved"))
	m.eventually(t, "cat /etc/managed", "saved")
}

func (m *machine) rejected(t *testing.T) {
	m.graph(t, "graph: managed\nresources:\n  fiel: []\n")
	if _, err := m.try("systemctl reload mgmt.service"); err == nil {
		t.Error("the reload has not failed")
	}
	m.state(t, "mgmt.service", "active")
	m.sh(t, "rm /etc/managed")
	m.eventually(t, "cat /etc/managed", "saved") // by the last good graph
	m.sh(t, "journalctl --sync; journalctl -u mgmt.service | grep 'graph.yaml:3:3: '")
}

func (m *machine) reloads(t *testing.T) {
	m.graph(t, managed("reloaded"))
	pid := m.property(t, "mgmt.service", "MainPID")
	m.sh(t, "systemctl reload mgmt.service")
	m.eventually(t, "cat /etc/managed", "reloaded")
	m.state(t, "mgmt.service", "active")
	if m.property(t, "mgmt.service", "MainPID") != pid {
		t.Error("it has been restarted")
	}
	m.sh(t, "journalctl --sync; journalctl -u mgmt.service MGMT_MESSAGE=reloading | grep SIGHUP")
}

func (m *machine) fields(t *testing.T) {
	m.sh(t, "rm /etc/managed")
	m.eventually(t, "cat /etc/managed", "reloaded")
	var last map[string]any
	for deadline := time.Now().Add(patience); ; {
		entries := m.journal(t, "-u mgmt.service MGMT_MESSAGE=changed MGMT_RESOURCE='file[/etc/managed]'")
		if len(entries) > 0 {
			if last = entries[len(entries)-1]; last["MGMT_CAUSE"] == "event inotify /etc/managed" {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the last entry is %q", last)
		}
	}
	for name, want := range map[string]string{
		"MESSAGE":  `changed       file[/etc/managed]  state: absent -> exists, content: "" -> "reloaded\n"`,
		"PRIORITY": "6", "SYSLOG_IDENTIFIER": "mgmt", "_SYSTEMD_UNIT": "mgmt.service", "_TRANSPORT": "journal",
	} {
		if last[name] != want {
			t.Errorf("%s is %q, want %q", name, last[name], want)
		}
	}
}

// later waits until the service runs as another process.
func (m *machine) later(t *testing.T, pid string) {
	t.Helper()
	m.eventually(t, "systemctl show --value --property=MainPID mgmt.service | grep -cvx -e 0 -e "+pid, "1")
	m.state(t, "mgmt.service", "active")
}

func (m *machine) restarts(t *testing.T) {
	pid := m.property(t, "mgmt.service", "MainPID")
	m.sh(t, "kill -9 "+pid+"; rm /etc/managed")
	m.later(t, pid)
	m.eventually(t, "cat /etc/managed", "reloaded")
}

func (m *machine) watched(t *testing.T) {
	m.sh(t, "mkdir -p /run/systemd/system/mgmt.service.d; printf '[Service]\\nWatchdogSec=500ms\\nTimeoutAbortSec=200ms\\n' >/run/systemd/system/mgmt.service.d/soon.conf; systemctl daemon-reload; systemctl restart mgmt.service")
	pid := m.property(t, "mgmt.service", "MainPID")
	m.sh(t, "sleep 2") // four times as long as it may be silent
	if now := m.property(t, "mgmt.service", "MainPID"); now != pid {
		t.Error("it is not heard of in time")
	}
	m.sh(t, "kill -STOP "+pid)
	m.later(t, pid)
	m.sh(t, "journalctl --sync; journalctl -u mgmt.service | grep -i 'watchdog timeout'")
	m.sh(t, "rm -r /run/systemd/system/mgmt.service.d; systemctl daemon-reload; systemctl restart mgmt.service")
}

func (m *machine) mistaken(t *testing.T) {
	m.graph(t, "graph: managed\nresources:\n  fiel: []\n")
	if _, err := m.try("systemctl restart mgmt.service"); err == nil {
		t.Error("it starts")
	}
	m.state(t, "mgmt.service", "activating")
	m.sh(t, "journalctl --sync; journalctl -u mgmt.service --priority=err | grep 'graph.yaml:3:3: '")
	m.graph(t, managed("mended"))
	m.state(t, "mgmt.service", "active")
	m.eventually(t, "cat /etc/managed", "mended")
}

func (m *machine) outlives(t *testing.T) {
	m.sh(t, `printf '[Service]\nExecStart=/bin/sleep infinity\n[Unit]\nStartLimitIntervalSec=0\n' >/etc/systemd/system/kept.service; systemctl daemon-reload`)
	m.graph(t, managed("mended")+"  svc:\n  - {name: kept, state: running}\n")
	m.state(t, "kept.service", "active")
	pid := m.property(t, "mgmt.service", "MainPID")
	for _, restart := range []string{"systemctl restart dbus.service", "systemctl daemon-reexec", "systemctl stop dbus.socket dbus.service; sleep 0.2; systemctl start dbus.socket"} {
		// By a socket of systemd's own, where that is without the bus.
		m.sh(t, restart+" & systemctl kill --signal=KILL kept.service || true; wait; rm /etc/managed")
		m.state(t, "kept.service", "active")
		m.eventually(t, "cat /etc/managed", "mended")
		m.sh(t, "systemctl stop kept.service || true") // it is cancelled if the agent is quicker
		m.state(t, "kept.service", "active")
	}
	m.state(t, "mgmt.service", "active")
	if now := m.property(t, "mgmt.service", "MainPID"); now != pid {
		t.Error("it was restarted")
	}
	m.graph(t, managed("mended"))
	m.sh(t, "systemctl stop kept.service; rm /etc/systemd/system/kept.service; systemctl daemon-reload")
}

// boots boots the host again, in order and after its power failed, into the target that a
// host usually boots, of which nothing else is enabled.
func (m *machine) boots(t *testing.T) {
	m.sh(t, "systemctl add-wants mgmt-testhost.target multi-user.target; systemctl enable mgmt-once.timer")
	for _, again := range []func(context.Context) error{m.Reboot, m.Reset} {
		m.sh(t, "sync; systemctl stop mgmt.service; rm /etc/managed")
		if err := again(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.state(t, "mgmt.service", "active")
		m.eventually(t, "cat /etc/managed", "mended")
		if state := m.sh(t, "systemctl is-active multi-user.target mgmt-once.timer; systemctl is-system-running"); state != "active\nactive\nrunning" {
			t.Errorf("the target, the timer and the system are %q", state)
		}
		if next := m.property(t, "mgmt-once.timer", "NextElapseUSecMonotonic"); next == "" || next == "infinity" {
			t.Errorf("the timer is due at %q", next)
		}
	}
	m.sh(t, "systemctl disable --now mgmt-once.timer")
}

func (m *machine) yields(t *testing.T) {
	pid := m.property(t, "mgmt.service", "MainPID")
	m.sh(t, "systemctl start mgmt-once.service")
	if entries := m.journal(t, "-u mgmt-once.service MGMT_MESSAGE='graph loaded'"); len(entries) > 0 {
		t.Errorf("it has run: %q", entries)
	}
	if now := m.property(t, "mgmt.service", "MainPID"); now != pid {
		t.Error("the service was restarted")
	}
}

func (m *machine) once(t *testing.T) {
	m.sh(t, "systemctl disable --now mgmt.service; rm /etc/managed; systemctl start mgmt-once.service; grep mended /etc/managed")
	m.state(t, "mgmt-once.service", "inactive")
	if entries := m.journal(t, "-u mgmt-once.service MGMT_MESSAGE=converged"); len(entries) != 1 {
		t.Errorf("it has converged %d times", len(entries))
	}
}

func (m *machine) onceFails(t *testing.T) {
	m.graph(t, "graph: managed\nresources:\n  exec:\n  - {name: x, cmd: \"false\"}\n")
	if _, err := m.try("systemctl start mgmt-once.service"); err == nil {
		t.Error("it has not failed")
	}
	if len(m.journal(t, "-u mgmt-once.service --priority=err MGMT_MESSAGE=failed MGMT_RESOURCE='exec[x]'")) == 0 {
		t.Error("the journal does not say which resource")
	}
	m.graph(t, managed("timed"))
}

func (m *machine) timer(t *testing.T) {
	m.sh(t, "systemctl enable --now mgmt-once.timer")
	if next := m.property(t, "mgmt-once.timer", "NextElapseUSecMonotonic"); next == "" || next == "infinity" {
		t.Errorf("it is due at %q", next)
	}
	m.sh(t, "mkdir -p /run/systemd/system/mgmt-once.timer.d; printf '[Timer]\\nOnActiveSec=100ms\\nAccuracySec=1ms\\nRandomizedDelaySec=0\\n' >/run/systemd/system/mgmt-once.timer.d/soon.conf; systemctl daemon-reload; systemctl restart mgmt-once.timer")
	m.eventually(t, "cat /etc/managed", "timed")
	m.sh(t, "rm -r /run/systemd/system/mgmt-once.timer.d; systemctl daemon-reload; systemctl disable --now mgmt-once.timer")
	m.state(t, "mgmt-once.service", "inactive")
}

func (m *machine) upgrades(t *testing.T) {
	m.sh(t, "systemctl enable --now mgmt.service")
	pid := m.property(t, "mgmt.service", "MainPID")
	m.sh(t, "dpkg --install /packages/new.deb")
	if m.later(t, pid); !strings.HasPrefix(m.sh(t, "mgmt version"), "mgmt v1.2.3-4-g1234567\n") {
		t.Error("it is not the new version")
	}
	m.state(t, "mgmt.service", "active")
	m.sh(t, "grep timed /etc/mgmt/graph.yaml; dpkg --compare-versions $(dpkg-query -W -f '${Version}' mgmt) gt 1.2.3-1")
}

func (m *machine) upgradesItself(t *testing.T) {
	pid := m.property(t, "mgmt.service", "MainPID")
	m.graph(t, "graph: managed\nresources:\n  exec:\n  - {name: upgrade, shell: /bin/sh, cmd: \"dpkg --install /packages/new.deb >/root/log 2>&1 && touch /root/upgraded\", creates: /root/upgraded}\n")
	m.eventually(t, "ls /root/upgraded", "/root/upgraded")
	m.sh(t, "grep 'mgmt is upgrading itself' /root/log; rm /root/log")
	if now := m.property(t, "mgmt.service", "MainPID"); now != pid {
		t.Error("it was restarted")
	}
	m.sh(t, "dpkg --audit; test -z \"$(dpkg --audit)\"")
}

func (m *machine) staysDisabled(t *testing.T) {
	m.sh(t, "systemctl disable --now mgmt.service; dpkg --install /packages/new.deb")
	if state, _ := m.try("systemctl is-enabled mgmt.service; systemctl is-active mgmt.service"); !strings.HasPrefix(state, "disabled") {
		t.Errorf("it is %q", state)
	}
	m.state(t, "mgmt.service", "inactive")
}

func TestPackagesAreTheSameForTheSameCommit(t *testing.T) {
	a, b := built(t, newer), t.TempDir()
	build(t, newer, b)
	for _, suffix := range []string{".deb", ".rpm"} {
		x, err := os.ReadFile(one(t, a, suffix))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(one(t, b, suffix))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(x, y) {
			t.Errorf("the %s packages differ", suffix)
		}
	}
	t.Run("what is in the .rpm", func(t *testing.T) { inRPM(t, one(t, a, ".rpm")) })
}

// inRPM looks at an .rpm.
func inRPM(t *testing.T, file string) {
	t.Helper()
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("needs the program rpm")
	}
	ask := func(args ...string) []string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "rpm", append(args, file)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(out)), "\n")
	}
	ask("--checksig", "--nosignature")
	list := ask("--query", "--list", "--package")
	for _, want := range []string{
		"/usr/bin/mgmt", "/usr/libexec/mgmt/mgmt-mesh", "/usr/lib/systemd/system/mgmt.service", "/usr/lib/systemd/system/mgmt-once.service", "/usr/lib/systemd/system/mgmt-once.timer",
		"/usr/share/man/man1/mgmt.1.gz", "/usr/share/licenses/mgmt/LICENSE", "/usr/share/zsh/site-functions/_mgmt", "/usr/share/doc/mgmt/service.md",
	} {
		if !slices.Contains(list, want) {
			t.Errorf("it has no %s", want)
		}
	}
	for _, shared := range []string{"/usr", "/usr/bin", "/usr/libexec", "/etc", "/usr/lib/systemd/system"} {
		if slices.Contains(list, shared) {
			t.Errorf("it owns %s", shared)
		}
	}
	if config := ask("--query", "--configfiles", "--package"); !slices.Equal(config, []string{"/etc/mgmt/graph.yaml"}) {
		t.Errorf("the configuration files are %q", config)
	}
	if got := ask("--query", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE} %{LICENSE}", "--package"); got[0] != "mgmt 1.2.3+4.g1234567-1 GPL-3.0-or-later" {
		t.Errorf("it is %q", got)
	}
	for _, scriptlet := range []string{"post", "preun", "postun"} {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", "rpm/"+scriptlet).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", scriptlet, out)
		}
	}
}
