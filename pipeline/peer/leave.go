package peer

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// leave says that this host wants to go, and waits until the mesh doesn't need its server
// any more, or nobody can take its place.
func (p *Peer) leave(ctx context.Context) error {
	if p.ctx.Err() != nil || p.mesh.Foreign {
		return nil
	}
	p.leaving.Store(true)
	began := time.Now()
	say, cancel := context.WithTimeout(ctx, revokeLimit)
	_, err := p.announce(say)
	cancel()
	if err != nil {
		return err
	}
	p.bells[announceVertex].ring() // it may have been about to say otherwise
	a, _ := p.node.latest()
	if a == nil {
		return nil
	}
	p.log.Info("leaving the mesh", "member", a.member)
	others := map[string]members.Alive{}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	p.wg.Go(func() {
		defer enough()
		select {
		case <-a.ended:
		case <-ctx.Done():
		}
	})
	_ = p.store.Changes(mesh.Below(mesh.AlivePrefix)).Subscribe(ctx, func(c mesh.Change) bool {
		if c.Reset {
			clear(others)
		}
		for _, e := range c.Put {
			var a members.Alive
			if err := json.Unmarshal(e.Value, &a); err == nil {
				others[strings.TrimPrefix(e.Key, mesh.AlivePrefix)] = a
			}
		}
		for _, key := range c.Deleted {
			delete(others, strings.TrimPrefix(key, mesh.AlivePrefix))
		}
		for host, a := range others {
			if host != p.o.Host && a.Serves && !a.Leaving {
				return true // it may take over
			}
		}
		return false
	})
	enough()
	p.log.Info("left the mesh", "replaced", p.node.running() == nil, "took", time.Since(began))
	return nil
}
