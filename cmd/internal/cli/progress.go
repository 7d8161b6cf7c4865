package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/pipeline"
)

// progress knows which resources run and, if asked to, which have not run yet, to say
// what a run was still waiting for. It needs traced results.
type progress struct {
	graph   *pipeline.Graph
	running map[*pipeline.Vertex]bool
	settled map[*pipeline.Vertex]bool // those that have run, and those that are blocked; nil if nobody asks
}

func newProgress(all bool) *progress {
	p := &progress{running: map[*pipeline.Vertex]bool{}}
	if all {
		p.settled = map[*pipeline.Vertex]bool{}
	}
	return p
}

func (p *progress) observe(r pipeline.Result) {
	switch r.Kind {
	case pipeline.GraphSwapped:
		p.graph = r.Graph
	case pipeline.Started:
		p.running[r.Vertex] = true
	case pipeline.Finished:
		delete(p.running, r.Vertex)
		p.settle(r.Vertex)
	case pipeline.Blocked:
		p.settle(r.Vertex)
	}
}

func (p *progress) settle(v *pipeline.Vertex) {
	if p.settled != nil {
		p.settled[v] = true
	}
}

func (p *progress) idle() bool { return len(p.running) == 0 }

// pending says what a run that has not converged was doing, to be put behind that.
func (p *progress) pending() string {
	if p.graph == nil {
		return ": the graph was not loaded yet"
	}
	var running, waiting []string
	for _, v := range p.graph.Vertices {
		switch {
		case p.running[v]:
			running = append(running, v.String())
		case !p.settled[v]:
			waiting = append(waiting, v.String())
		}
	}
	return list("; still running: ", running) + list("; not begun: ", waiting)
}

// list names the first few of many.
func list(prefix string, names []string) string {
	const most = 5
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	text := prefix + strings.Join(names[:min(most, len(names))], ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
