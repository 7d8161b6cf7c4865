package file

import (
	"path/filepath"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

var (
	_ sinks.Provider = (*file)(nil)
	_ sinks.Needer   = (*file)(nil)
)

// Provides implements sinks.Provider. A link leads to a file or to a directory: what
// lies below its path comes after it, too. A file of which only the owner or the mode
// is managed counts as made, so that what runs it comes when it may be run.
func (f *file) Provides() []sinks.Fact {
	switch f.want {
	case wantNothing:
		return []sinks.Fact{{Space: sinks.SpaceGone, Name: f.path}}
	case wantDir:
		return []sinks.Fact{{Space: sinks.SpaceDir, Name: f.path}}
	case wantSymlink:
		return f.unit([]sinks.Fact{{Space: sinks.SpaceFile, Name: f.path}, {Space: sinks.SpaceDir, Name: f.path}})
	}
	return f.unit([]sinks.Fact{{Space: sinks.SpaceFile, Name: f.path}})
}

// Needs implements sinks.Needer. What shall be absent needs little: a package may bring
// it, a mount may uncover it, and a directory goes when what was in it has gone.
func (f *file) Needs() []sinks.Need {
	owned := sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: f.path}, Why: "which brings it"}
	if f.want == wantNothing {
		needs := []sinks.Need{owned, {Fact: sinks.Fact{Space: sinks.SpaceMount, Name: f.path}, Above: true, Why: "on which it is"}}
		if f.slash {
			needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceGone, Name: f.path}, Below: true, Why: "which may be in it"})
		}
		return needs
	}
	needs := append(sinks.AddHolders(make([]sinks.Need, 0, 6), f.path), owned)
	needs = sinks.AddAccount(needs, sinks.SpaceUser, f.owner.name, "its owner")
	needs = sinks.AddAccount(needs, sinks.SpaceGroup, f.group.name, "its group")
	if !f.create { // somebody else makes it
		needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: f.space(), Name: f.path}, Why: "which makes it"})
	}
	if f.target != "" {
		target := f.target
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(f.path), target)
		}
		for _, space := range []sinks.Space{sinks.SpaceFile, sinks.SpaceDir} {
			needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: space, Name: filepath.Clean(target)}, Why: "its target"})
		}
	}
	switch {
	case f.source == "":
	case f.slash:
		needs = sinks.AddInputTree(needs, f.source, "its source")
	default:
		needs = sinks.AddInput(needs, f.source, "its source")
	}
	if f.maker != nil {
		needs = sinks.AddInput(needs, f.maker.path, "its template")
	}
	for _, path := range f.fragments {
		needs = sinks.AddInputTree(needs, path, "one of its fragments")
	}
	return needs
}

// space is what the path belongs to when it exists.
func (f *file) space() sinks.Space {
	if f.slash {
		return sinks.SpaceDir
	}
	return sinks.SpaceFile
}

// unitDirs are where systemd looks for units of the system.
var unitDirs = []string{
	"/etc/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/",
	"/usr/local/lib/systemd/system/", "/run/systemd/system/",
}

// unit adds to facts the unit of systemd that the file describes, or changes as a
// drop-in: /etc/systemd/system/nginx.service.d/limits.conf.
func (f *file) unit(facts []sinks.Fact) []sinks.Fact {
	if !strings.Contains(f.path, "/systemd/system/") {
		return facts
	}
	for _, dir := range unitDirs {
		name, ok := strings.CutPrefix(f.path, dir)
		if !ok {
			continue
		}
		if unit, base, ok := strings.Cut(name, ".d/"); ok && strings.HasSuffix(base, ".conf") {
			name = unit
		}
		if strings.Contains(name, ".") && !strings.Contains(name, "/") {
			return append(facts, sinks.Fact{Space: sinks.SpaceUnit, Name: name})
		}
	}
	return facts
}
