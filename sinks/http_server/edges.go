package httpserver

import "github.com/mgmtproject/mgmt/sinks"

var (
	_ sinks.Provider = (*server)(nil)
	_ sinks.Needer   = (*server)(nil)
)

// Provides implements sinks.Provider.
func (s *server) Provides() []sinks.Fact {
	return []sinks.Fact{{Space: sinks.SpaceHTTPServer, Name: s.name}}
}

// Needs implements sinks.Needer. What is in the directory may come later.
func (s *server) Needs() []sinks.Need {
	if s.root == "" {
		return nil
	}
	return append(sinks.AddHolders(nil, s.root),
		sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceDir, Name: s.root}, Why: "its root"},
		sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceMount, Name: s.root}, Why: "its root"})
}
