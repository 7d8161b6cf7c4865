package pkg

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (c *Config) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "version", Type: sinks.TypeString, Doc: "The version that is installed; empty if none is."}}
}

// send tells what is installed, where nothing has gone wrong.
func (g *group) send() {
	for i := range g.results {
		if g.results[i].Err == nil {
			g.results[i].Values = map[string]any{"version": g.now[i].Version}
		}
	}
}
