package schedule

import "github.com/mgmtproject/mgmt/sinks"

const (
	hostsOutput  = "hosts"
	chosenOutput = "chosen"
)

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (*Config) Outputs() []sinks.Output {
	return []sinks.Output{
		{Name: hostsOutput, Type: sinks.TypeStrings, Doc: "The hosts that are chosen, those that have been for the longest time first."},
		{Name: chosenOutput, Type: sinks.TypeBool, Doc: "Whether this host is one of them."},
	}
}
