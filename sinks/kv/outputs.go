package kv

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (*Config) Outputs() []sinks.Output {
	return []sinks.Output{{
		Name: "value", Type: sinks.TypeString,
		Doc: "What the key holds: value, or with skiplessthan or follow what others have let it hold.",
	}}
}
