package peer

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
)

// registerAgain is after how long a host tries again to let others in, when it couldn't.
const registerAgain = 5 * time.Second

// secure keeps the certificate of this host good, and has it let others in if it may. In a
// mesh without certificates there is nothing to do.
func (p *Peer) secure() {
	if !p.id.Secured() {
		return
	}
	p.wg.Go(func() { p.id.Keep(p.ctx, identity.KeepOptions{Store: p.store, Log: p.log}) })
	if p.willing() && !p.mesh.Foreign {
		p.wg.Go(p.admitOthers)
	}
}

// admitOthers lets hosts with a token in until the peer ends.
func (p *Peer) admitOthers() {
	for complained := false; p.ctx.Err() == nil; pause(p.ctx, registerAgain) {
		r, err := p.register(p.ctx)
		if err == nil {
			p.log.Debug("lets hosts in that have a token", "url", r.URL())
			<-p.ctx.Done()
			if err := r.Close(); err != nil {
				p.log.Debug("door for new hosts not closed in order", "err", err)
			}
			return
		}
		if !complained && p.ctx.Err() == nil {
			p.log.Warn("can't let other hosts in", "err", err)
			complained = true
		}
	}
}

// register listens at the port after that for other servers.
func (p *Peer) register(ctx context.Context) (*identity.Registrar, error) {
	a, err := url.Parse(p.node.a.peer[0])
	if err != nil {
		return nil, err
	}
	advertised, err := url.Parse(p.node.a.advertisePeer[0])
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(a.Port())
	if err != nil {
		return nil, fmt.Errorf("%s has no port: %w", a, err)
	}
	return identity.Register(ctx, identity.RegistrarOptions{
		Identity: p.id, Store: p.store, Client: p.client, Guard: p.guard, Log: p.log,
		Listen:    net.JoinHostPort(a.Hostname(), strconv.Itoa(port+1)),
		Advertise: advertised.Hostname(),
	})
}
