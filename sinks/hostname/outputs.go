package hostname

import "github.com/mgmtproject/mgmt/sinks"

const hostnameOutput = "hostname"

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (c *Config) Outputs() []sinks.Output {
	return []sinks.Output{{Name: hostnameOutput, Type: sinks.TypeString, Doc: "The name that the kernel has: the transient one."}}
}

// values are what others receive.
func (h *hostname) values(found names) map[string]any {
	if len(h.sends) == 0 {
		return nil
	}
	return map[string]any{hostnameOutput: found[transient.property]}
}
