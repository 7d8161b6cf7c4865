package mount

import (
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

var (
	_ sinks.Provider = (*mount)(nil)
	_ sinks.Needer   = (*mount)(nil)
)

// Provides implements sinks.Provider.
func (m *mount) Provides() []sinks.Fact {
	var facts []sinks.Fact
	switch m.live {
	case yes:
		facts = append(facts, sinks.Fact{Space: sinks.SpaceMount, Name: m.path})
	case no:
		facts = append(facts, sinks.Fact{Space: sinks.SpaceGone, Name: m.path})
	}
	if m.entry != either {
		facts = append(facts, sinks.Fact{Space: sinks.SpaceEdits, Name: fstab})
	}
	return facts
}

// Needs implements sinks.Needer. What lies on a mount goes before it.
func (m *mount) Needs() []sinks.Need {
	var needs []sinks.Need
	if m.entry != either {
		needs = append(needs,
			sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceFile, Name: fstab}, Why: "its file"},
			sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: fstab}, Why: "which brings its file"})
	}
	switch {
	case m.live == no:
		return append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceGone, Name: m.path}, Below: true, Why: "which may be on it"})
	case m.live == either:
		return needs
	}
	needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceDir, Name: m.path}, Why: "its mount point"})
	needs = sinks.AddHolders(needs, m.path)
	if strings.HasPrefix(m.is.device, "/") {
		needs = sinks.AddInput(needs, m.is.device, "its device")
		if m.bind() {
			needs = append(needs,
				sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceDir, Name: m.is.device}, Why: "which it shows"},
				sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceMount, Name: m.is.device}, Why: "which it shows"})
		}
	}
	if kind := m.is.kind; kind != "none" && kind != "auto" {
		for _, dir := range []string{"/sbin/mount.", "/usr/sbin/mount."} {
			needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: dir + kind}, Why: "which brings the program for " + kind})
		}
	}
	return needs
}
