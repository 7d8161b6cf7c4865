package line

import "github.com/mgmtproject/mgmt/sinks"

var (
	_ sinks.Provider = (*line)(nil)
	_ sinks.Needer   = (*line)(nil)
)

// Provides implements sinks.Provider. It does not claim to make the file: all lines of
// it, and the file itself, may be managed side by side.
func (l *line) Provides() []sinks.Fact {
	return []sinks.Fact{{Space: sinks.SpaceEdits, Name: l.path}}
}

// Needs implements sinks.Needer. A line that is absent needs no directory.
func (l *line) Needs() []sinks.Need {
	needs := []sinks.Need{
		{Fact: sinks.Fact{Space: sinks.SpaceFile, Name: l.path}, Why: "its file"},
		{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: l.path}, Why: "which brings its file"},
	}
	if l.absent {
		return append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceMount, Name: l.path}, Above: true, Why: "on which it is"})
	}
	return sinks.AddHolders(needs, l.path)
}
