package svc

import (
	"path"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

var _ sinks.Needer = (*svc)(nil)

// Needs implements sinks.Needer: whatever describes the unit.
func (s *svc) Needs() []sinks.Need {
	var needs []sinks.Need
	for _, name := range s.names() {
		if !s.session {
			needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceUnit, Name: name}, Why: "which describes it"})
		}
		for _, dir := range bus.UnitDirs(s.session) {
			file := path.Join(dir, name)
			needs = append(needs,
				sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceFile, Name: file}, Why: "which describes it"},
				sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: file}, Why: "which brings it"},
				sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceEdits, Name: file}, Why: "which changes what describes it"},
				sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceFile, Name: file + ".d"}, Below: true, Why: "which changes what describes it"})
		}
	}
	return needs
}
