package httpserver

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (*Config) Outputs() []sinks.Output {
	return []sinks.Output{
		{Name: "address", Type: sinks.TypeString, Doc: "The host and port on which the server listens."},
		{Name: "url", Type: sinks.TypeString, Doc: "The address for a client on this host, such as http://127.0.0.1:8080."},
	}
}
