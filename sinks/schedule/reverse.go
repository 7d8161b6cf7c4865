package schedule

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: there is nothing to undo, since the offer goes with the
// resource anyway.
func (*Config) Reverse(map[string]string) (sinks.Config, error) { return nil, nil }
