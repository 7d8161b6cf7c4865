package print

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: what has been said stays said.
func (*Config) Reverse(map[string]string) (sinks.Config, error) { return nil, nil }
