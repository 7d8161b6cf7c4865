package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

const (
	// suspectAfter is for how long a call may go without an answer before all servers are
	// asked how they are, and pingLimit how long they have to answer. A server that doesn't
	// is left out until it does; it is asked again every pingAgain.
	suspectAfter = 700 * time.Millisecond
	pingLimit    = time.Second
	pingAgain    = 2 * time.Second
)

// targets are the servers that the client of a host may talk to.
type targets struct {
	mu     sync.Mutex
	all    []string
	silent []string // those of all that don't answer
}

// follow lets the client know where the servers are.
func (p *Peer) follow(ctx context.Context) (bool, error) {
	if p.mesh.Foreign {
		return false, nil
	}
	e, found, err := p.store.Get(ctx, members.ServersKey)
	if err != nil || !found {
		return false, err
	}
	var now members.Servers
	if err := json.Unmarshal(e.Value, &now); err != nil {
		return false, fmt.Errorf("%s: %w", e.Key, err)
	}
	if len(now.Servers) == 0 {
		return false, nil
	}
	p.point(func(t *targets) { t.all = now.URLs() })
	p.elect()
	return true, p.notes.change(func(r *remembered) { r.Servers = now })
}

// point changes the targets, and tells the client.
func (p *Peer) point(how func(*targets)) {
	p.targets.mu.Lock()
	defer p.targets.mu.Unlock()
	how(&p.targets)
	good := slices.DeleteFunc(slices.Clone(p.targets.all), func(u string) bool { return slices.Contains(p.targets.silent, u) })
	if len(good) == 0 {
		good = p.targets.all // none is better than another
	}
	if len(good) > 0 && !slices.Equal(good, p.client.Endpoints()) {
		p.log.Debug("servers of the mesh have changed", "clients", good, "silent", p.targets.silent)
		p.store.SetEndpoints(good...)
	}
}

// suspect has all servers asked how they are when one doesn't answer a call: its process
// may have been stopped, or its machine, which no connection tells.
func (p *Peer) suspect(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	suspicion := time.AfterFunc(suspectAfter, p.bells[healthVertex].ring)
	defer suspicion.Stop()
	return call(ctx, method, req, reply, cc, opts...)
}

// health leaves servers out that don't answer or have no leader, and takes them back.
func (p *Peer) health(ctx context.Context) (bool, error) {
	p.targets.mu.Lock()
	all := p.targets.all
	p.targets.mu.Unlock()
	if len(all) < 2 {
		return false, nil
	}
	good := make([]bool, len(all))
	var asking sync.WaitGroup
	for i, url := range all {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, pingLimit)
			defer cancel()
			its, err := p.status(ctx, url)
			good[i] = err == nil && its.Leader != 0 // others are cut off from the rest
		})
	}
	asking.Wait()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	var silent []string
	for i, ok := range good {
		if !ok {
			silent = append(silent, all[i])
		}
	}
	p.point(func(t *targets) { t.silent = silent })
	if len(silent) > 0 {
		time.AfterFunc(pingAgain, p.bells[healthVertex].ring)
	}
	return true, nil
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
			p.point(func(t *targets) { t.all = p.everywhere() })
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
