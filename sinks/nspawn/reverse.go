package nspawn

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: what was started is stopped, and the other way round.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	if _, changed := was["state"]; !changed {
		return nil, nil
	}
	return &Config{State: map[string]string{running: stopped, stopped: running}[c.State]}, nil
}
