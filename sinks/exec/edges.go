package exec

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/kballard/go-shellquote"

	"github.com/mgmtproject/mgmt/sinks"
)

var (
	_ sinks.Provider = (*execution)(nil)
	_ sinks.Needer   = (*execution)(nil)
)

// Provides implements sinks.Provider: what the command creates may be a directory, too.
func (e *execution) Provides() []sinks.Fact {
	if e.Creates == "" {
		return nil
	}
	path := filepath.Clean(e.Creates)
	return []sinks.Fact{{Space: sinks.SpaceFile, Name: path}, {Space: sinks.SpaceDir, Name: path}}
}

// Needs implements sinks.Needer.
func (e *execution) Needs() []sinks.Need {
	var needs []sinks.Need
	for _, r := range e.roles() {
		for _, path := range r.programs() {
			needs = sinks.AddInput(needs, path, "which it runs")
		}
		needs = addCwd(needs, r.command.Dir)
	}
	needs = sinks.AddAccount(needs, sinks.SpaceUser, e.User, "as which it runs")
	needs = sinks.AddAccount(needs, sinks.SpaceGroup, e.Group, "as which it runs")
	for _, path := range slices.Concat(e.WatchFiles, e.Mtimes) {
		if path != e.Creates {
			needs = sinks.AddInput(needs, filepath.Clean(path), "which it looks at")
		}
	}
	if e.Creates != "" {
		needs = sinks.AddHolders(needs, filepath.Clean(e.Creates))
	}
	return needs
}

// addCwd adds the directory in which a command runs.
func addCwd(needs []sinks.Need, dir string) []sinks.Need {
	if !filepath.IsAbs(dir) {
		return needs
	}
	dir = filepath.Clean(dir)
	for _, space := range []sinks.Space{sinks.SpaceDir, sinks.SpaceMount} {
		fact := sinks.Fact{Space: space, Name: dir}
		needs = append(needs,
			sinks.Need{Fact: fact, Why: "in which it runs"},
			sinks.Need{Fact: fact, Above: true, Why: "in which it runs"})
	}
	return append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: dir}, Why: "which brings where it runs"})
}

// programs are the clean absolute paths of what the command runs, as far as they can be
// read from it: the program, and with a shell also the first word of the script.
func (r role) programs() []string {
	c := r.command
	if c.Shell != "" {
		paths := r.program(nil, c.Shell)
		if words := strings.Fields(c.Cmd); len(words) > 0 && !strings.ContainsAny(words[0], "\"'`\\$*?[]{}()<>|&;#~=") {
			paths = r.program(paths, words[0])
		}
		return paths
	}
	if len(c.Args) > 0 {
		return r.program(nil, c.Cmd)
	}
	if words, err := shellquote.Split(c.Cmd); err == nil && len(words) > 0 {
		return r.program(nil, words[0])
	}
	return nil
}

// program adds the path of a program, unless it is looked for in PATH or below the
// directory of mgmt.
func (r role) program(paths []string, name string) []string {
	switch {
	case filepath.IsAbs(name):
		return append(paths, filepath.Clean(name))
	case strings.Contains(name, "/") && filepath.IsAbs(r.command.Dir):
		return append(paths, filepath.Join(r.command.Dir, name))
	}
	return paths
}
