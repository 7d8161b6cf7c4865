package net

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Provider = (*link)(nil)

// Provides implements sinks.Provider.
func (l *link) Provides() []sinks.Fact {
	return []sinks.Fact{{Space: sinks.SpaceLink, Name: l.name}}
}
