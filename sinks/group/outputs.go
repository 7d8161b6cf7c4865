package group

import (
	"slices"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/accounts/local"
)

const gidOutput = "gid"

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (c *Config) Outputs() []sinks.Output {
	return []sinks.Output{{Name: gidOutput, Type: sinks.TypeInt, Doc: "The number of the group."}}
}

// values are what others receive of the group.
func (g *group) values(found local.Group) map[string]any {
	if !slices.Contains(g.sends, gidOutput) {
		return nil
	}
	return map[string]any{gidOutput: found.GID}
}
