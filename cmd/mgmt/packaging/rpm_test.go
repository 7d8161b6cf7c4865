package packaging_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// On a machine of Debian's, whose rpm has a database of its own, without what Debian's
// packages provide.
func TestRPMPackage(t *testing.T) {
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("needs the program rpm")
	}
	m := boot(t, both(t, ".rpm"))
	before := m.sh(t, "rm -rf /etc/mgmt /var/lib/mgmt /usr/bin/mgmt; "+residue)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"it installs, disabled where the distribution has it so", m.rpmDisabled},
		{"it installs, enabled where the distribution has it so, and is not started", m.rpmEnabled},
		{"the units are as systemd wants them", m.verified},
		{"the service has what it needs, and no more", m.confined},
		{"a graph that is saved is in force", m.saved},
		{"an upgrade restarts the service and keeps the graph file", m.rpmUpgrades},
		{"an agent that upgrades itself is not killed meanwhile", m.rpmUpgradesItself},
		{"it starts at boot", m.rpmBoots},
		{"what was disabled stays so", m.rpmStaysDisabled},
	} {
		if !t.Run(step.name, step.run) {
			return // each builds upon those before
		}
	}
	t.Run("what is removed leaves its configuration and its state", func(t *testing.T) {
		m.sh(t, "systemctl enable --now mgmt-once.timer mgmt.service 2>/dev/null; rpm --erase mgmt; ! pgrep -x mgmt")
		m.sh(t, "test -e /etc/mgmt/graph.yaml.rpmsave; ls /var/lib/mgmt/*/lock; rm -r /etc/mgmt /var/lib/mgmt; systemctl reset-failed")
		if diff := cmp.Diff(before, m.sh(t, residue)); diff != "" {
			t.Errorf("(-before +after)\n%s", diff)
		}
		if units := m.sh(t, "systemctl list-units --all --no-legend 'mgmt.*' 'mgmt-once.*'"); units != "" {
			t.Errorf("systemd still knows %s", units)
		}
	})
}

// preset has it be the distribution's will that all or no services are enabled.
func (m *machine) preset(t *testing.T, what string) {
	t.Helper()
	m.sh(t, "mkdir -p /etc/systemd/system-preset; echo "+what+" mgmt.service >/etc/systemd/system-preset/00-test.preset")
}

func (m *machine) rpmDisabled(t *testing.T) {
	m.preset(t, "disable")
	m.sh(t, "rpm --install /packages/old.rpm; test -x /usr/bin/mgmt")
	if state := m.sh(t, "systemctl is-enabled mgmt.service || true; systemctl is-active mgmt.service || true"); state != "disabled\ninactive" {
		t.Errorf("it is %q", state)
	}
	m.sh(t, "rpm --erase mgmt; ! test -e /usr/bin/mgmt; ! test -e /etc/mgmt; ! test -e /usr/share/doc/mgmt")
}

func (m *machine) rpmEnabled(t *testing.T) {
	m.preset(t, "enable")
	m.sh(t, "rpm --install /packages/old.rpm; rpm --verify mgmt")
	if state := m.sh(t, "systemctl is-enabled mgmt.service mgmt-once.timer || true; systemctl is-active mgmt.service || true"); state != "enabled\ndisabled\ninactive" {
		t.Errorf("it is %q", state)
	}
	if v := m.sh(t, "mgmt version"); !strings.HasPrefix(v, "mgmt v1.2.3\n") {
		t.Errorf("the version is %q", v)
	}
	m.sh(t, "systemctl start mgmt.service")
	m.eventually(t, "systemctl show --value --property=StatusText mgmt.service", "host: 1 right; 0 resources changed so far")
}

func (m *machine) rpmUpgrades(t *testing.T) {
	pid := m.property(t, "mgmt.service", "MainPID")
	m.sh(t, "rpm --upgrade /packages/new.rpm")
	if m.later(t, pid); !strings.HasPrefix(m.sh(t, "mgmt version"), "mgmt v1.2.3-4-g1234567\n") {
		t.Error("it is not the new version")
	}
	m.sh(t, "grep saved /etc/mgmt/graph.yaml; ! ls /etc/mgmt/*.rpm*")
}

func (m *machine) rpmUpgradesItself(t *testing.T) {
	pid := m.property(t, "mgmt.service", "MainPID")
	m.graph(t, "graph: managed\nresources:\n  exec:\n  - {name: upgrade, shell: /bin/sh, cmd: \"rpm --upgrade --oldpackage /packages/old.rpm >/root/log 2>&1 && touch /root/upgraded\", creates: /root/upgraded}\n")
	m.eventually(t, "ls /root/upgraded", "/root/upgraded")
	m.sh(t, "grep 'mgmt is upgrading itself' /root/log; rm /root/log; mgmt version | grep -x 'mgmt v1.2.3'")
	if now := m.property(t, "mgmt.service", "MainPID"); now != pid {
		t.Error("it was restarted")
	}
}

func (m *machine) rpmBoots(t *testing.T) {
	m.graph(t, managed("booted"))
	m.eventually(t, "cat /etc/managed", "booted")
	m.sh(t, "systemctl add-wants mgmt-testhost.target multi-user.target; systemctl stop mgmt.service; rm /etc/managed")
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.state(t, "mgmt.service", "active")
	m.eventually(t, "cat /etc/managed", "booted")
}

func (m *machine) rpmStaysDisabled(t *testing.T) {
	m.sh(t, "systemctl disable --now mgmt.service; rpm --upgrade /packages/new.rpm")
	if state := m.sh(t, "systemctl is-enabled mgmt.service || true; systemctl is-active mgmt.service || true"); state != "disabled\ninactive" {
		t.Errorf("it is %q", state)
	}
}
