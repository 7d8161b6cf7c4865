package httpserverfile

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: a file that has left the graph is not served.
func (*Config) Reverse(map[string]string) (sinks.Config, error) { return nil, nil }
