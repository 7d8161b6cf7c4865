package pkg

import (
	"path/filepath"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources/packages/dpkg"
)

var (
	_ sinks.Provider = (*pkg)(nil)
	_ sinks.Needer   = (*pkg)(nil)
)

// Provides implements sinks.Provider: the package, and what it brings. For one that dpkg
// has installed that is read from its database. What another one would bring nobody knows
// before it is fetched, so these are the paths that packages commonly have: whoever manages
// one of them means the package, and if not, nothing is wrong with the order.
func (p *pkg) Provides() []sinks.Fact {
	if p.state == uninstalled {
		return nil
	}
	name, arch, _ := strings.Cut(p.name, ":")
	facts := []sinks.Fact{{Space: sinks.SpacePackage, Name: name}}
	for _, path := range common(name) {
		facts = append(facts, sinks.Fact{Space: sinks.SpaceOwned, Name: path})
	}
	for _, path := range dpkg.Paths(dpkg.Dir, name, arch) {
		facts = append(facts, sinks.Fact{Space: sinks.SpaceOwned, Name: path})
		if other := merged(path); other != "" {
			facts = append(facts, sinks.Fact{Space: sinks.SpaceOwned, Name: other})
		}
	}
	return facts
}

// common are paths that a package of that name is likely to bring.
func common(name string) []string {
	return []string{
		"/usr/bin/" + name, "/usr/sbin/" + name, "/etc/" + name, "/etc/" + name + ".conf", "/etc/" + name + "/" + name + ".conf",
		"/etc/default/" + name, "/usr/lib/systemd/system/" + name + ".service", "/lib/systemd/system/" + name + ".service",
	}
}

// merged is the other name of a path where /bin, /sbin and /lib lead to /usr; empty if it
// has none.
func merged(path string) string {
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/"} {
		if strings.HasPrefix(path, dir) {
			return "/usr" + path
		}
		if strings.HasPrefix(path, "/usr"+dir) && filepath.Dir(path) != "/usr/lib" {
			return strings.TrimPrefix(path, "/usr")
		}
	}
	return ""
}

// archives are where package managers are told where packages come from.
var archives = []string{"/etc/apt", "/usr/share/keyrings", "/etc/yum.repos.d"}

// Needs implements sinks.Needer: what says where packages come from.
func (p *pkg) Needs() []sinks.Need {
	if p.state == uninstalled {
		return nil
	}
	var needs []sinks.Need
	for _, dir := range archives {
		for _, space := range []sinks.Space{sinks.SpaceFile, sinks.SpaceEdits} {
			needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: space, Name: dir}, Below: true, Why: "which says where packages come from"})
		}
	}
	return needs
}
