package sysctl

import (
	"bytes"
	"context"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

var _ sinks.Grouper = (*sysctl)(nil)

// Group implements sinks.Grouper: parameters that are set in one file are applied
// together, since each change is a new file.
func (r *sysctl) Group() string { return r.file }

// CheckApplyGroup implements sinks.Grouper. It reads the file once and, if some line of
// it is not right, writes it once.
func (r *sysctl) CheckApplyGroup(ctx context.Context, apply bool, members []sinks.Resource) []sinks.GroupResult {
	results := make([]sinks.GroupResult, len(members))
	if ctx.Err() != nil {
		for i := range results {
			results[i].Err = context.Cause(ctx)
		}
		return results
	}
	for i, m := range members {
		if m := m.(*sysctl); m.live {
			results[i].Outcome, results[i].Err = m.enforce(apply)
		}
	}
	if r.file != "" {
		r.persist(ctx, apply, members, results)
	}
	return results
}

// persist sees to the file that all members are set in, and adds to their results.
func (r *sysctl) persist(ctx context.Context, apply bool, members []sinks.Resource, results []sinks.GroupResult) {
	_, text, err := atomicfile.At(r.file).ReadText()
	changes := make([]*sinks.Change, len(members))
	some := false
	edit := func(text []byte) ([]byte, bool) {
		now := parse(text)
		some = false
		for i, m := range members {
			changes[i] = now.edit(m.(*sysctl))
			some = some || changes[i] != nil
		}
		return now.text(), some
	}
	if err == nil {
		if edit(text); some && apply {
			o := atomicfile.Options{Meta: atomicfile.Keep, Perm: 0o644, Parents: true}
			_, err = atomicfile.Edit(ctx, atomicfile.At(r.file), o, edit)
		}
	}
	for i := range results {
		switch result := &results[i]; {
		case err != nil && (!some || changes[i] != nil): // a file that can't be read is everybody's fault
			if result.Err == nil {
				result.Err = err
			}
		case changes[i] != nil:
			result.Changed = true
			result.Changes = append(result.Changes, *changes[i])
		}
	}
}

// settings is a file of sysctl.d.
type settings struct {
	lines []string         // with their ends
	of    map[string][]int // where a parameter is set, by its path below root
}

// parse looks up what a text sets. See sysctl.d(5): the last line of a parameter counts,
// and a dash at its beginning is not part of the name.
func parse(text []byte) *settings {
	s := &settings{of: map[string][]int{}}
	for line := range bytes.Lines(text) {
		if name, _, ok := assignment(string(line)); ok {
			s.of[below(name)] = append(s.of[below(name)], len(s.lines))
		}
		s.lines = append(s.lines, string(line))
	}
	return s
}

// assignment is what a line sets.
func assignment(line string) (name, value string, ok bool) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
		return "", "", false
	}
	name, value, ok = strings.Cut(line, "=")
	return strings.TrimSpace(strings.TrimPrefix(name, "-")), plain(value), ok
}

// edit makes the lines of r what they shall be, and returns the difference, nil if there
// is none.
func (s *settings) edit(r *sysctl) *sinks.Change {
	places := s.of[r.key]
	change := &sinks.Change{Field: "persist"}
	if n := len(places); n > 0 {
		last := s.lines[places[n-1]]
		if _, value, _ := assignment(last); !r.absent && value == r.value {
			return nil
		}
		change.From = strings.TrimSpace(last)
	}
	switch {
	case r.absent && len(places) == 0:
		return nil
	case r.absent:
		for _, i := range places {
			s.lines[i] = ""
		}
		delete(s.of, r.key)
		return change
	case len(places) == 0:
		s.end()
		places = []int{len(s.lines)}
		s.of[r.key] = places
		s.lines = append(s.lines, "")
	}
	change.To = strings.TrimSpace(r.name + " = " + r.value)
	s.lines[places[len(places)-1]] = change.To + "\n"
	return change
}

// end ends the last line, so that another can follow.
func (s *settings) end() {
	if n := len(s.lines); n > 0 && s.lines[n-1] != "" && !strings.HasSuffix(s.lines[n-1], "\n") {
		s.lines[n-1] += "\n"
	}
}

func (s *settings) text() []byte { return []byte(strings.Join(s.lines, "")) }
