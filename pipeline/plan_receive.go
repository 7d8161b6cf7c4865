package pipeline

import (
	"fmt"
	"slices"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// receive returns the resource of a vertex as it would be with the values that it is
// sent. If some are not known yet, or would not come at all, s says so.
func (p *planner) receive(at int32, s *Step) sinks.Resource {
	v, links := p.g.Vertices[at], p.links[at]
	if len(links) == 0 {
		return v.Resource
	}
	cfg := params.Clone(v.Config)
	for _, l := range links {
		from := &p.steps[l.From]
		value, known := from.Outcome.Values[l.Output]
		switch {
		case known:
			if err := l.put(cfg, from.Vertex, value); err != nil {
				s.State, s.Err = StepFailed, err
				return nil
			}
		case from.State.changes():
			s.State = StepAfter
			if !slices.Contains(s.After, from.Vertex) {
				s.After = append(s.After, from.Vertex)
			}
		case s.State != StepAfter:
			s.State, s.By = StepWaiting, from.Vertex
		}
	}
	if s.State != StepRight {
		return nil
	}
	r, err := v.builtOf(cfg, p.g.options, p.managed)
	if err != nil {
		s.State, s.Err = StepFailed, err
		return nil
	}
	return r
}

// hide takes what is secret and was received out of what s tells.
func (p *planner) hide(at int32, s *Step) {
	if !s.Vertex.tainted {
		return
	}
	s.Outcome.Changes = s.Vertex.conceal(s.Outcome.Changes)
	if s.Err == nil {
		return
	}
	var secrets []string
	for _, l := range p.links[at] {
		if value, known := p.steps[l.From].Outcome.Values[l.Output]; known && l.Secret {
			secrets = append(secrets, fmt.Sprint(value))
		}
	}
	s.Err = concealed(s.Err, secrets)
}
