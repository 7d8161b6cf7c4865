package peer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

const (
	// maxFailures is how often in a row a server may fail before it has worked for steady:
	// then the host leaves it for a while to others, and takes part as an agent only.
	maxFailures = 5
	steady      = 2 * time.Second
	troubled    = time.Minute
)

// node is the etcd server of this host, if it has one.
type node struct {
	p   *Peer
	a   addresses
	dir string

	mu       sync.Mutex
	now      *attempt // the latest, nil after stop
	failures int      // in a row
}

// attempt is one start of a server, and what has come of it.
type attempt struct {
	member  members.ID // 0 if it is known only afterwards
	cancel  context.CancelFunc
	started chan struct{} // closed when the two below are set
	server  *server.Server
	err     error
	ended   chan struct{} // closed when nothing of it runs any more
}

func newNode(p *Peer, a addresses) *node {
	return &node{p: p, a: a, dir: filepath.Join(p.o.Dir, "server"), failures: p.o.Failed}
}

// data says of which member there is data.
func (n *node) data() (server.Identity, bool, error) { return server.Identify(n.dir) }

// begin starts a server, unless one starts or runs already. It returns at once.
func (n *node) begin(how server.Options) *attempt {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now != nil {
		return n.now
	}
	how.Name, how.Dir, how.Quota = n.p.o.Host, n.dir, n.p.o.Quota
	how.ClientURLs, how.PeerURLs = n.a.client, n.a.peer
	how.AdvertiseClientURLs, how.AdvertisePeerURLs = n.a.advertiseClient, n.a.advertisePeer
	how.Log = n.p.log.With("part", "server")
	how.GRPC = n.p.guard.Options()
	if f, ok := n.p.id.ServerTLS(); ok {
		how.TLS = server.TLS{
			CertFile: f.Cert, KeyFile: f.Cert, CAFile: f.CA,
			PeerCertFile: f.Cert, PeerKeyFile: f.Cert, PeerCAFile: f.CA,
			ServerName: f.Name, CRLFile: f.CRL,
		}
	}
	ctx, cancel := context.WithCancel(n.p.ctx)
	a := &attempt{
		member: members.ID(how.Expect.Member), cancel: cancel,
		started: make(chan struct{}), ended: make(chan struct{}),
	}
	n.now = a
	go n.run(ctx, a, how)
	return a
}

// run is the life of a server.
func (n *node) run(ctx context.Context, a *attempt, how server.Options) {
	defer close(a.ended)
	defer n.p.bells[serveVertex].ring()
	defer a.cancel()
	a.server, a.err = server.Start(ctx, how)
	n.mu.Lock()
	if a.err == nil && a.member == 0 {
		a.member = members.ID(a.server.ID())
	}
	n.mu.Unlock()
	close(a.started)
	if a.err != nil {
		if ctx.Err() == nil && !errors.Is(a.err, server.ErrRemoved) {
			n.count(func(failures int) int { return failures + 1 })
		}
		if ctx.Err() == nil || errors.Is(a.err, server.ErrRemoved) {
			n.p.log.Warn("server not started", "err", a.err)
		}
		return
	}
	n.p.log.Info("server started", "member", a.member, "clients", n.a.advertiseClient, "servers", n.a.advertisePeer)
	n.p.bells[serveVertex].ring()
	works := time.AfterFunc(steady, func() { n.count(func(int) int { return 0 }) })
	<-a.server.Done()
	works.Stop()
	switch err := a.server.Err(); {
	case errors.Is(err, server.ErrRemoved):
		n.p.log.Info("server ended", "member", a.member, "why", err)
	case err != nil && ctx.Err() == nil:
		n.count(func(failures int) int { return failures + 1 })
		n.p.log.Warn("server ended", "member", a.member, "err", err)
	}
}

// count keeps count of failures.
func (n *node) count(how func(int) int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failures = how(n.failures)
}

// failing says that the server has failed too often.
func (n *node) failing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failures >= maxFailures
}

// latest is the attempt that starts or runs, or nil. One that has ended counts no more, and
// how it has ended is told once.
func (n *node) latest() (a *attempt, ended error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now == nil {
		return nil, nil
	}
	select {
	case <-n.now.ended:
	default:
		return n.now, nil
	}
	a, n.now = n.now, nil
	if a.err != nil {
		return nil, a.err
	}
	return nil, errors.Join(a.server.Err(), errEnded)
}

var errEnded = errors.New("the server has ended")

// begun is the member whose server starts or runs, or 0.
func (n *node) begun() members.ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now == nil {
		return 0
	}
	select {
	case <-n.now.ended:
		return 0
	default:
		return n.now.member
	}
}

// running is the server that works now, or nil.
func (n *node) running() *server.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now == nil {
		return nil
	}
	select {
	case <-n.now.ended:
		return nil
	default:
	}
	select {
	case <-n.now.started:
		return n.now.server
	default:
		return nil
	}
}

// stop ends the server, if there is one.
func (n *node) stop(ctx context.Context) error {
	n.mu.Lock()
	a := n.now
	n.now = nil
	n.mu.Unlock()
	if a == nil {
		return nil
	}
	a.cancel()
	<-a.started
	if a.server != nil {
		if err := a.server.Stop(ctx); err != nil {
			return fmt.Errorf("stopping the server: %w", err)
		}
	}
	<-a.ended
	return nil
}

// setAside stops the server and puts its data out of the way.
func (n *node) setAside(ctx context.Context, why string) error {
	if err := n.stop(ctx); err != nil {
		return err
	}
	_, err := server.SetAside(n.dir, why, n.p.log)
	return err
}
