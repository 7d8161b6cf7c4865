package peer

import (
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
)

// Status is how a peer sees its mesh.
type Status struct {
	// Host is the name of this host, and Mesh the identity of its mesh.
	Host string       `json:"host"`
	Mesh members.Mesh `json:"mesh"`

	// Reached says whether the mesh has answered when it was last asked, and Latency how
	// long that took.
	Reached bool          `json:"reached"`
	Latency time.Duration `json:"latency"`

	// Servers are where this host looks for the mesh.
	Servers []string `json:"servers"`

	// Member is the server that this host runs, 0 if it runs none; Learner says that it
	// has no vote yet.
	Member  members.ID `json:"member,omitzero"`
	Learner bool       `json:"learner,omitempty"`

	// Leader says that this host leads the mesh, and Trouble why it can't serve it.
	Leader  bool   `json:"leader,omitempty"`
	Trouble string `json:"trouble,omitempty"`
}

// Status returns what is known now, without asking anybody.
func (p *Peer) Status() Status {
	s := Status{
		Host: p.o.Host, Mesh: p.mesh, Servers: p.client.Endpoints(), Leader: p.leads.Load(),
		Reached: p.latency.Load() >= 0, Latency: max(0, time.Duration(p.latency.Load())),
	}
	if n := p.node.running(); n != nil {
		s.Member, s.Learner = members.ID(n.ID()), n.Learns()
	}
	if why := p.trouble.Load(); why != nil {
		s.Trouble = *why
	}
	return s
}
