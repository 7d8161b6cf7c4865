package timer

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: time does not run backwards.
func (*Config) Reverse(map[string]string) (sinks.Config, error) { return nil, nil }
