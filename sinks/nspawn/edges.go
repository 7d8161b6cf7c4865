package nspawn

import "github.com/mgmtproject/mgmt/sinks"

var (
	_ sinks.Provider = (*nspawn)(nil)
	_ sinks.Needer   = (*nspawn)(nil)
)

// Provides implements sinks.Provider.
func (n *nspawn) Provides() []sinks.Fact {
	if n.state == stopped {
		return nil
	}
	return []sinks.Fact{{Space: sinks.SpaceUnit, Name: n.unit}}
}

// Needs implements sinks.Needer: besides what describes the unit, for one that shall run
// the image with all that is in it, and the settings.
func (n *nspawn) Needs() []sinks.Need {
	needs := n.service.Needs()
	if n.state == stopped {
		return needs
	}
	needs = append(needs,
		sinks.Need{Fact: sinks.Fact{Space: sinks.SpacePackage, Name: "systemd-container"}, Why: "which brings systemd-nspawn"})
	needs = sinks.AddInputTree(needs, n.images()[0], "its image")
	needs = sinks.AddInput(needs, n.images()[1], "its image")
	return sinks.AddInput(needs, n.settings(), "its settings")
}
