package hostname

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: the names from before are put back.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	undo := &Config{}
	for field, param := range map[string]*string{
		static.field: &undo.StaticHostname, pretty.field: &undo.PrettyHostname, transient.field: &undo.TransientHostname,
	} {
		name, changed := was[field]
		if changed && name == "" {
			return nil, fmt.Errorf("there was no %s before, and it can't be removed", field)
		}
		*param = name
	}
	if *undo == (Config{}) {
		return nil, nil
	}
	return undo, nil
}
