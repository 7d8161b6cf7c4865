package hostname

import "github.com/mgmtproject/mgmt/sinks"

var (
	_ sinks.Provider = (*hostname)(nil)
	_ sinks.Needer   = (*hostname)(nil)
)

// Provides implements sinks.Provider.
func (h *hostname) Provides() []sinks.Fact {
	var facts []sinks.Fact
	for _, d := range h.names {
		if d.file != "" {
			facts = append(facts, sinks.Fact{Space: sinks.SpaceEdits, Name: d.file})
		}
	}
	return facts
}

// Needs implements sinks.Needer.
func (h *hostname) Needs() []sinks.Need {
	needs := []sinks.Need{
		{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: "/usr/lib/systemd/systemd-hostnamed"}, Why: "which brings hostnamed"},
		{Fact: sinks.Fact{Space: sinks.SpaceUnit, Name: "dbus.service"}, Why: "by which hostnamed is asked"},
	}
	for _, d := range h.names {
		if d.file != "" {
			needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceFile, Name: d.file}, Why: "which hostnamed changes"})
		}
	}
	return needs
}
