package httpserverfile

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Needer = (*file)(nil)

// Needs implements sinks.Needer.
func (f *file) Needs() []sinks.Need {
	needs := []sinks.Need{{Fact: sinks.Fact{Space: sinks.SpaceHTTPServer, Name: f.server}, Why: "its server"}}
	if f.path == "" {
		return needs
	}
	return sinks.AddInput(needs, f.path, "which it serves")
}
