package httpclient

import "github.com/mgmtproject/mgmt/sinks"

var (
	_ sinks.Provider = (*client)(nil)
	_ sinks.Needer   = (*client)(nil)
)

// Provides implements sinks.Provider.
func (c *client) Provides() []sinks.Fact {
	return []sinks.Fact{{Space: sinks.SpaceFile, Name: c.path}}
}

// Needs implements sinks.Needer.
func (c *client) Needs() []sinks.Need { return sinks.AddHolders(nil, c.path) }
