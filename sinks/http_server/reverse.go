package httpserver

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: a server that has left the graph serves nobody.
func (*Config) Reverse(map[string]string) (sinks.Config, error) { return nil, nil }
