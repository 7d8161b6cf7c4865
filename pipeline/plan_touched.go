package pipeline

import (
	"path"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

// touched knows which paths the resources that were judged so far would change.
type touched struct {
	content map[string][]int32 // by the path itself
	whole   map[string][]int32 // by the path, if all that is below it may change too
	below   map[string][]int32 // by every directory above the path
	mode    map[string][]int32 // owner, group or mode alone, by the path and all above it
}

// add notes what the step of vertex v would change.
func (t *touched) add(v int32, s *Step) {
	if !s.State.changes() {
		return
	}
	if t.content == nil {
		*t = touched{map[string][]int32{}, map[string][]int32{}, map[string][]int32{}, map[string][]int32{}}
	}
	r := s.resource
	if r == nil {
		r = s.Vertex.Resource
	}
	for _, base := range brings(r) {
		if len(s.Outcome.Changes) == 0 {
			t.put(v, base, sinks.Change{Field: "more"})
		}
		for _, c := range s.Outcome.Changes {
			t.put(v, base, c)
		}
	}
}

// put notes one change of what is at base. The field of a change in a directory ends
// with " of" and where.
func (t *touched) put(v int32, base string, c sinks.Change) {
	field, rel, _ := strings.Cut(c.Field, " of ")
	at := path.Join(base, rel)
	mark := func(m map[string][]int32, name string) {
		if list := m[name]; len(list) == 0 || list[len(list)-1] != v {
			m[name] = append(list, v)
		}
	}
	above := func(m map[string][]int32) {
		for dir := at; dir != "/" && dir != "."; {
			dir = path.Dir(dir)
			mark(m, dir)
		}
	}
	switch field {
	case "owner", "group", "mode":
		mark(t.mode, at)
		above(t.mode)
		return
	case "symlink", "purge", "more":
		mark(t.whole, at)
	case "state":
		if c.From != "absent" {
			mark(t.whole, at)
		}
	}
	mark(t.content, at)
	above(t.below)
}

// by is the vertices that would change some of the names.
func (t *touched) by(names []string) map[int32]bool {
	var found map[int32]bool
	take := func(list []int32) {
		for _, v := range list {
			if found == nil {
				found = map[int32]bool{}
			}
			found[v] = true
		}
	}
	for _, name := range names {
		space, at, _ := strings.Cut(name, " ")
		at = path.Clean(at)
		switch space {
		case "mode":
			take(t.mode[at])
		case "path":
			take(t.content[at])
			take(t.below[at])
			for dir := at; dir != "/" && dir != "."; {
				dir = path.Dir(dir)
				take(t.whole[dir])
			}
		}
	}
	return found
}

// brings lists the paths that a resource makes or changes.
func brings(r sinks.Resource) []string {
	var paths []string
	if owner, ok := r.(sinks.Owner); ok {
		for _, name := range owner.Owns() {
			if at, ok := strings.CutPrefix(name, "path "); ok {
				paths = append(paths, at)
			}
		}
	}
	if editor, ok := r.(sinks.Keeper); ok && edits(r) {
		for _, name := range editor.Keeps() {
			if at, ok := strings.CutPrefix(name, "path "); ok {
				paths = append(paths, at)
			}
		}
	}
	if provider, ok := r.(sinks.Provider); ok {
		for _, f := range provider.Provides() {
			if f.Space == sinks.SpaceFile && !slices.Contains(paths, f.Name) {
				paths = append(paths, f.Name)
			}
		}
	}
	return paths
}

// edits says whether a resource owns something in files, such as a line, and no file: any
// number of those get along with each other.
func edits(r sinks.Resource) bool {
	_, keeper := r.(sinks.Keeper)
	owner, ok := r.(sinks.Owner)
	return keeper && ok && !slices.ContainsFunc(owner.Owns(), func(name string) bool { return strings.HasPrefix(name, "path ") })
}

// reads lists what a resource looks at beside what it owns.
func reads(r sinks.Resource) []string {
	var names []string
	if keeper, ok := r.(sinks.Keeper); ok {
		names = append(names, keeper.Keeps()...)
	}
	if reader, ok := r.(sinks.Reader); ok {
		names = append(names, reader.Reads()...)
	}
	return names
}
