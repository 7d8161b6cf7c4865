package backend

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// policy is what apt says of a package: what it would install, and where each version
// comes from.
type policy struct {
	candidate string              // empty if there is none, as of a virtual package
	archives  map[string][]string // by version: "http://deb.debian.org/debian bookworm/main amd64 Packages"
}

// parsePolicy reads what apt-cache policy prints in the locale C:
//
//	bash:
//	  Installed: 5.2.15-2
//	  Candidate: 5.2.15-2+b8
//	  Version table:
//	     5.2.15-2+b8 500
//	        500 http://deb.debian.org/debian bookworm/main amd64 Packages
//	 *** 5.2.15-2 100
//	        100 /var/lib/dpkg/status
func parsePolicy(text []byte) map[string]*policy {
	all := map[string]*policy{}
	var p *policy
	version := ""
	for line := range bytes.Lines(text) {
		s := strings.TrimRight(string(line), "\n")
		fields := strings.Fields(s)
		indent := len(s) - len(strings.TrimLeft(s, " "))
		switch {
		case len(fields) == 0:
		case indent == 0:
			p, version = &policy{archives: map[string][]string{}}, ""
			all[strings.TrimSuffix(s, ":")] = p
		case p == nil:
		case indent == 2 && fields[0] == "Candidate:" && len(fields) == 2 && fields[1] != "(none)":
			p.candidate = fields[1]
		case indent == 2:
		case indent < 8: // a version, and what it is worth
			version = fields[0]
			if version == "***" && len(fields) > 1 {
				version = fields[1]
			}
			p.archives[version] = nil
		case len(fields) > 2: // not the database itself, which is no archive
			p.archives[version] = append(p.archives[version], strings.Join(fields[1:], " "))
		}
	}
	return all
}

// policies asks apt about packages. A name that it does not know is not in the result.
// If only is set nothing at all is changed: what apt caches of the lists is made in memory,
// too.
func (a *apt) policies(ctx context.Context, names []string, only bool) (map[string]*policy, error) {
	args := append([]string{"-q", "policy", "--"}, names...)
	args = append(slices.Clone(noCache), args...)
	if only && os.Geteuid() == 0 { // who else could write it?
		args = append([]string{"-o", "Dir::Cache::srcpkgcache="}, args...)
	}
	out, err := a.ask(ctx, "apt-cache", args...)
	if err != nil {
		return nil, err
	}
	all := parsePolicy(out)
	db, err := a.native()
	if err != nil {
		return nil, err
	}
	for _, name := range names { // one of this architecture is called by its bare name
		if bare, arch, given := strings.Cut(name, ":"); given && all[name] == nil && (arch == db || arch == "all") && all[bare] != nil {
			all[name] = all[bare]
		}
	}
	return all, nil
}

// archive describes where packages come from.
type archive struct {
	origin    string // "Debian"; empty if the archive does not say
	component string // "main"; empty if the archive has none
}

// archives lists what is configured, by the name that a policy has.
func (a *apt) archives(ctx context.Context) (map[string]archive, error) {
	const format = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ARCHITECTURE)\t$(ORIGIN)"
	out, err := a.ask(ctx, "apt-get", "indextargets", "--format", format, "Created-By: Packages")
	if err != nil {
		return nil, err
	}
	all := map[string]archive{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 5 {
			continue
		}
		for i := range f { // what an archive does not have is left as it stands in the format
			if strings.HasPrefix(f[i], "$(") {
				f[i] = ""
			}
		}
		uri, release, component, arch := strings.TrimSuffix(f[0], "/"), f[1], f[2], f[3]
		name := uri + " " + release
		if component != "" {
			name += "/" + component + " " + arch
		}
		all[name+" Packages"] = archive{origin: f[4], component: component}
	}
	return all, nil
}

// distribution is who supports this host, as origins of archives call it: "debian".
func distribution() []string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return nil
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if name == "ID" || name == "ID_LIKE" {
			names = append(names, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	return names
}

// notFree are the components of archives whose packages are not free software, or need
// some that is not.
var notFree = []string{"non-free", "non-free-firmware", "contrib", "restricted", "multiverse"}

// permitted refuses a version that comes only from archives that are not wished for.
func permitted(from []string, known map[string]archive, ours []string, allow Allow) error {
	free, supported := false, false
	who := ""
	for _, name := range from {
		a := known[name]
		_, component, _ := strings.Cut(a.component, "/") // "updates/main" of old
		if component == "" {
			component = a.component
		}
		origin, _, _ := strings.Cut(strings.ToLower(a.origin), " ") // "Debian Backports"
		isFree := !slices.Contains(notFree, component)
		free = free || isFree
		supported = supported || slices.Contains(ours, origin)
		if who == "" {
			who = a.origin
		}
	}
	switch {
	case len(from) == 0:
		return nil // apt has the last word
	case !free && !allow.NonFree:
		return fmt.Errorf("it is not free software, or needs some that is not (%s): set allownonfree to install it", from[0])
	case !supported && !allow.Unsupported:
		if who == "" {
			who = "nobody in particular"
		}
		return fmt.Errorf("it comes from an archive of %s (%s), which the distribution does not support: set allowunsupported to install it", who, from[0])
	}
	return nil
}

// older reports whether version a is older than b.
func older(ctx context.Context, a, b string) (bool, error) {
	cmd := exec.CommandContext(ctx, "dpkg", "--compare-versions", a, "lt", b)
	err := cmd.Run()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// newer refuses a version that is older than the one that is there.
func newer(ctx context.Context, there, version string) error {
	lower, err := older(ctx, version, there)
	if lower {
		return fmt.Errorf("%s is installed, which is newer than %s: set allowdowngrade to go back", there, version)
	}
	return err
}
