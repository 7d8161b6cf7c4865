package msg

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: what has been sent stays sent.
func (*Config) Reverse(map[string]string) (sinks.Config, error) { return nil, nil }
