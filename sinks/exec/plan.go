package exec

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

var (
	_ sinks.Planner = (*execution)(nil)
	_ sinks.Reader  = (*execution)(nil)
)

// Plan implements sinks.Planner: it asks ifcmd and nifcmd only if they are safe. If they
// are not, and would decide, the change says so.
func (e *execution) Plan(ctx context.Context, safe, refresh bool) (sinks.Outcome, error) {
	switch {
	case ctx.Err() != nil:
		return sinks.Outcome{}, context.Cause(ctx)
	case refresh:
		return e.run(ctx, false)
	case safe:
		return e.CheckApply(ctx, false)
	}
	needed, why, err := e.filesAsk()
	if err != nil {
		return sinks.Outcome{}, err
	}
	if !needed {
		e.opts.Logger().Debug("not needed", "because", why)
		return sinks.Outcome{}, nil
	}
	out, err := e.run(ctx, false)
	if unless := e.unasked(); unless != "" && err == nil {
		out.Changes[0].From = unless
	}
	return out, err
}

// unasked tells of commands that decide but have not been asked; it is empty if there are
// none.
func (e *execution) unasked() string {
	switch asks, refuses := e.ifcmd().given(), e.nifcmd().given(); {
	case asks && refuses:
		return "(not run; would run, if ifcmd and nifcmd agree)"
	case asks:
		return "(not run; would run, if ifcmd agrees)"
	case refuses:
		return "(not run; would run, if nifcmd agrees)"
	}
	return ""
}

// Reads implements sinks.Reader: the files of mtimes, and what looks like a path in the
// commands that are asked.
func (e *execution) Reads() []string {
	var names []string
	for _, path := range e.Mtimes {
		names = append(names, "path "+path)
	}
	for _, r := range []role{e.ifcmd(), e.nifcmd()} {
		for _, word := range strings.FieldsFunc(r.command.Cmd, separates) {
			switch {
			case filepath.IsAbs(word):
				names = append(names, "path "+word)
			case filepath.IsAbs(r.command.Dir):
				names = append(names, "path "+filepath.Join(r.command.Dir, word))
			}
		}
	}
	return names
}

// separates says that a character is none of a path, as commands have them: it stands
// between words, or means something to a shell.
func separates(c rune) bool { return strings.ContainsRune(" \t\n'\"`;&|<>()[]{}=,$", c) }
