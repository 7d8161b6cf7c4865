package svc

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: what was started is stopped, what was enabled
// disabled, and the other way round.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	undo := &Config{Session: c.Session}
	if _, changed := was["state"]; changed {
		undo.State = map[string]string{running: stopped, stopped: running}[c.State]
	}
	if files, changed := was["startup"]; changed {
		switch before := installed(files); before {
		case enabled, disabled, masked:
			undo.Startup = before
		}
	}
	if undo.State == running && undo.Startup == masked {
		undo.State = "" // it can't have been so
	}
	if undo.State == "" && undo.Startup == "" {
		return nil, nil
	}
	return undo, nil
}
