package password

import "github.com/mgmtproject/mgmt/sinks"

var (
	_ sinks.Provider = (*password)(nil)
	_ sinks.Needer   = (*password)(nil)
)

// Provides implements sinks.Provider: the file of a password that is saved.
func (w *password) Provides() []sinks.Fact {
	if w.path == "" {
		return nil
	}
	return []sinks.Fact{{Space: sinks.SpaceFile, Name: w.path}}
}

// Needs implements sinks.Needer.
func (w *password) Needs() []sinks.Need {
	if w.path == "" {
		return nil
	}
	return sinks.AddHolders(nil, w.path)
}
