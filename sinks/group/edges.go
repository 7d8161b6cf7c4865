package group

import (
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/accounts/local"
)

var (
	_ sinks.Provider = (*group)(nil)
	_ sinks.Needer   = (*group)(nil)
)

// Provides implements sinks.Provider. Users can ask for a group by its number.
func (g *group) Provides() []sinks.Fact {
	if g.absent {
		return nil
	}
	facts := []sinks.Fact{{Space: sinks.SpaceGroup, Name: g.name}}
	if g.gid != nil {
		facts = append(facts, sinks.Fact{Space: sinks.SpaceGroup, Name: number(*g.gid)})
	}
	return facts
}

// Needs implements sinks.Needer. A group can be removed when it is no longer the primary
// one of a user.
func (g *group) Needs() []sinks.Need {
	needs := []sinks.Need{{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: local.Groupadd}, Why: "which brings the tool for it"}}
	if g.absent {
		needs = append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceFreed, Name: g.name}, Why: "which was in it"})
	}
	return needs
}
