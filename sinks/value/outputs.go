package value

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (c *Config) Outputs() []sinks.Output {
	return []sinks.Output{
		{Name: "value", Type: sinks.TypeString, Secret: c.Secret, Doc: "The string, if value is given."},
		{Name: "list", Type: sinks.TypeStrings, Secret: c.Secret, Doc: "The list, if list is given."},
		{Name: "map", Type: sinks.TypeMap, Secret: c.Secret, Doc: "The mapping, if map is given."},
	}
}
