package value

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender. They are those that are given, or all if it is not known
// yet, since the value is received.
func (c *Config) Outputs() []sinks.Output {
	all := []sinks.Output{
		{Name: "value", Type: sinks.TypeString, Secret: c.Secret, Doc: "The string, if value is given."},
		{Name: "list", Type: sinks.TypeStrings, Secret: c.Secret, Doc: "The list, if list is given."},
		{Name: "map", Type: sinks.TypeMap, Secret: c.Secret, Doc: "The mapping, if map is given."},
	}
	var given []sinks.Output
	for i, is := range []bool{c.Value != nil, c.List != nil, c.Map != nil} {
		if is {
			given = append(given, all[i])
		}
	}
	if given == nil {
		return all
	}
	return given
}
