package pipeline

import "github.com/mgmtproject/mgmt/sinks"

// receive returns the resource of a vertex as it would be with the values that it is
// sent, and whether one of them is secret. If some are not known yet, or never would be,
// it says so in s.
func (p *planner) receive(at int32, s *Step) (r sinks.Resource, secret bool) {
	for _, l := range p.links[at] {
		secret = secret || l.Secret
		from := &p.steps[l.From]
		switch {
		case from.State.changes():
			s.State = StepAfter
			s.After = append(s.After, from.Vertex)
		case s.State != StepAfter:
			s.State, s.By = StepWaiting, from.Vertex
		}
	}
	return p.g.Vertices[at].Resource, secret
}

// hide makes everything secret that s says of the resource.
func (s *Step) hide() {
	for i := range s.Outcome.Changes {
		s.Outcome.Changes[i].Secret = true
	}
}
