package gzip

import "github.com/mgmtproject/mgmt/sinks"

var (
	_ sinks.Provider = (*compressed)(nil)
	_ sinks.Needer   = (*compressed)(nil)
)

// Provides implements sinks.Provider.
func (z *compressed) Provides() []sinks.Fact {
	return []sinks.Fact{{Space: sinks.SpaceFile, Name: z.file.Path}}
}

// Needs implements sinks.Needer.
func (z *compressed) Needs() []sinks.Need {
	needs := sinks.AddHolders(nil, z.file.Path)
	if z.input != "" {
		needs = sinks.AddInput(needs, z.input, "its input")
	}
	return needs
}
