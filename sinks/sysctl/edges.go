package sysctl

import "github.com/mgmtproject/mgmt/sinks"

var (
	_ sinks.Provider = (*sysctl)(nil)
	_ sinks.Needer   = (*sysctl)(nil)
)

// Provides implements sinks.Provider. It does not claim to make the file, in which others
// may set other parameters.
func (r *sysctl) Provides() []sinks.Fact {
	if r.file == "" {
		return nil
	}
	return []sinks.Fact{{Space: sinks.SpaceEdits, Name: r.file}}
}

// Needs implements sinks.Needer. What is absent needs no directory.
func (r *sysctl) Needs() []sinks.Need {
	if r.file == "" {
		return nil
	}
	needs := []sinks.Need{
		{Fact: sinks.Fact{Space: sinks.SpaceFile, Name: r.file}, Why: "its file"},
		{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: r.file}, Why: "which brings its file"},
	}
	if r.absent {
		return append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceMount, Name: r.file}, Above: true, Why: "on which it is"})
	}
	return sinks.AddHolders(needs, r.file)
}
