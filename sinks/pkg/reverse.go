package pkg

import (
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: a package that was installed is uninstalled, one that
// was uninstalled is installed again, and one that was replaced goes back to its version,
// if that can be had yet.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	found, changed := was["state"]
	switch {
	case !changed || found == sinks.Withheld:
		return nil, nil
	case found == uninstalled:
		return &Config{State: uninstalled}, nil
	}
	undo := *c
	undo.AllowUnsupported, undo.AllowNonFree = true, true // it was there
	if c.State == uninstalled {
		undo.State = installed
		return &undo, nil
	}
	if !goodVersion.MatchString(found) || !strings.ContainsAny(found, "0123456789") {
		return nil, nil // it was half installed, and was completed
	}
	undo.State, undo.AllowDowngrade = found, true
	return &undo, nil
}
