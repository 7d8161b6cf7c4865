package peer

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
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

// status asks one server how it is, through a client of its own: that of the peer may be
// told of other servers at the same time, which is not safe.
func (p *Peer) status(ctx context.Context, url string) (*clientv3.StatusResponse, error) {
	client, err := clientv3.New(etcd.Config([]string{url}, p.id.ClientTLS()))
	if err != nil {
		return nil, err
	}
	resp, err := client.Status(ctx, url)
	return resp, errors.Join(err, client.Close())
}

const (
	// probeEvery is how often the mesh is asked whether it is there, and probeAgain when it
	// wasn't.
	probeEvery = 10 * time.Second
	probeAgain = time.Second
	probeLimit = 3 * time.Second
)

// probe asks from time to time whether the mesh is there. If it isn't, all servers that this
// host has ever heard of are asked for it, until it is again.
func (p *Peer) probe() {
	wait := probeEvery
	for {
		pause(p.ctx, wait)
		if p.ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(p.ctx, probeLimit)
		began := time.Now()
		_, err := p.client.Get(ctx, mesh.IDKey)
		cancel()
		p.elect() // should nobody have said that the server of this host has a vote
		if err == nil {
			p.latency.Store(int64(time.Since(began)))
			if wait == probeAgain {
				p.bells[followVertex].ring()
			}
			wait = probeEvery
			continue
		}
		if p.latency.Swap(-1) < 0 && !p.mesh.Foreign {
			p.store.SetEndpoints(p.everywhere()...)
		}
		wait = probeAgain
	}
}

// everywhere is where a server might be.
func (p *Peer) everywhere() []string {
	known, _ := p.known()
	if p.node.running() != nil {
		known = append(known, p.node.a.advertiseClient...)
	}
	if len(known) == 0 {
		return p.client.Endpoints()
	}
	return known
}
