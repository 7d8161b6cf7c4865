package pipeline

import (
	"slices"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// exported lists what a graph publishes for other hosts.
func exported(g *Graph) []*Vertex {
	list := slices.Clone(g.Exports)
	for _, v := range g.Vertices {
		if len(v.Meta.Export) > 0 && !v.collected {
			list = append(list, v)
		}
	}
	return list
}

// outgoing checks the links to exported resources, and notes with both ends what is sent.
func (c *compiler) outgoing(outputs map[int32][]sinks.Output) {
	g := c.g
	for i := range g.outgoing {
		l := &g.outgoing[i]
		from := g.Vertices[l.From]
		all, known := outputs[l.From]
		if sender, ok := from.Config.(sinks.Sender); ok && !known {
			all = sender.Outputs()
			outputs[l.From] = all
		}
		out, ok := c.output(&l.Link, from, all)
		if !ok || l.to.Config == nil {
			continue
		}
		l.Param = params.NameOf(l.to.Config, l.Param)
		if l.Secret = out.Secret; !l.linked {
			c.accepts(&l.Link, from, l.to, out)
		}
		from.sends = append(from.sends, l.Output)
		if r := (received{from.String(), l.Output, l.Param, l.Key}); l.to.receives[l.at] != r {
			l.to.receives[l.at] = r
		}
	}
}

// exports finds out which exported resources are secret, and reports those that all hosts
// would see, and those that are exported twice.
func (c *compiler) exports() {
	g := c.g
	for _, l := range g.outgoing {
		from := g.Vertices[l.From]
		if (l.Secret || from.tainted && c.carriesText(from, l.Output)) && !l.to.tainted {
			l.to.tainted = true
		}
	}
	seen := map[identity]bool{}
	for _, v := range exported(g) {
		id := identity{v.Kind, v.Name}
		if seen[id] {
			c.report(v.Pos, "give one of them another name, or remove meta.export", "%s is exported, and so is %s", v, ref(v.Kind, exportMark+v.Name))
		}
		seen[id] = true
		if v.isSecret() && len(hostsOf(v)) == 0 {
			c.report(v.Pos, "name the hosts in meta.export", "%s holds something secret, and would be published for all hosts", brief(v.String()))
		}
	}
}

// isSecret says that not everybody may see what v is made of.
func (v *Vertex) isSecret() bool {
	return v.tainted || v.Meta.Secret || v.Config != nil && params.HoldsSecret(v.Config)
}
