package password

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (*Config) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "password", Type: sinks.TypeString, Secret: true, Doc: "The password."}}
}
