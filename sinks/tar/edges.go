package tar

import "github.com/mgmtproject/mgmt/sinks"

var (
	_ sinks.Provider = (*archive)(nil)
	_ sinks.Needer   = (*archive)(nil)
)

// Provides implements sinks.Provider.
func (a *archive) Provides() []sinks.Fact {
	return []sinks.Fact{{Space: sinks.SpaceFile, Name: a.file.Path}}
}

// Needs implements sinks.Needer.
func (a *archive) Needs() []sinks.Need {
	needs := sinks.AddHolders(nil, a.file.Path)
	for _, in := range a.inputs {
		needs = sinks.AddInputTree(needs, in.path, "one of its inputs")
	}
	return needs
}
