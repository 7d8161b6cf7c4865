package sinks

import (
	"fmt"
	"slices"
	"strings"
)

// Registry holds the kinds that a program supports.
type Registry struct {
	specs map[string]Spec
	kinds []string
}

// NewRegistry returns a registry of specs. It fails for a kind without a name or
// constructor and for one that is listed twice.
func NewRegistry(specs ...Spec) (*Registry, error) {
	r := &Registry{specs: make(map[string]Spec, len(specs))}
	for _, s := range specs {
		switch _, twice := r.specs[s.Kind]; {
		case s.Kind == "" || s.Kind != strings.ToLower(s.Kind):
			return nil, fmt.Errorf("kind %q is not a name in lower case", s.Kind)
		case s.New == nil:
			return nil, fmt.Errorf("kind %s has no constructor", s.Kind)
		case twice:
			return nil, fmt.Errorf("kind %s is listed twice", s.Kind)
		}
		r.specs[s.Kind] = s
		r.kinds = append(r.kinds, s.Kind)
	}
	slices.Sort(r.kinds)
	return r, nil
}

// Spec returns the kind of that name.
func (r *Registry) Spec(kind string) (Spec, bool) {
	s, ok := r.specs[kind]
	return s, ok
}

// Kinds lists the names in alphabetical order. The caller must not change the list.
func (r *Registry) Kinds() []string { return r.kinds }
