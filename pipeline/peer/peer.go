// Package peer is a host's part in a mesh: it finds the mesh or begins it, keeps the host's
// presence in it, runs an etcd server when the host is asked to, and leads, when it is its
// turn, by deciding which hosts run one. It is a dataflow of its own: watches of the mesh
// are its sources, and "run a server", "say what is offered", "follow the servers" and
// "have the right members" are its sinks. Package members below it decides; package server
// runs etcd; package identity says who a host is.
package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// DefaultGrace is how long a server may be down before another host takes its place.
const DefaultGrace = 10 * time.Second

const (
	// revokeLimit is how long a host that goes tries to take away what is bound to it, and
	// stopLimit how long its server has to stop.
	revokeLimit = 2 * time.Second
	stopLimit   = 10 * time.Second
)

// Options say how a host takes part.
type Options struct {
	// Host is the name by which the mesh knows this host.
	Host string

	// Dir holds what has to survive the process. One Peer at a time can have it.
	Dir string

	// Seeds are addresses of servers of the mesh: URLs, or hosts with ports. One that
	// answers is enough. Without any, and if Dir knows none from before, the mesh is new.
	Seeds []string

	// ClientURLs and ServerURLs are where a server of this host listens for clients and
	// for other servers; without any it is a free port of 127.0.0.1. The others are what
	// the mesh is told in their place.
	ClientURLs, ServerURLs                   []string
	AdvertiseClientURLs, AdvertiseServerURLs []string

	// IdealSize is how many servers a new mesh has, if it has as many hosts; 0 stands for
	// members.DefaultIdeal.
	IdealSize int

	// NoServer says that this host never runs a server.
	NoServer bool

	// Insecure lets a mesh without certificates be reached from other machines.
	Insecure bool

	// Join is a token that lets this host in, unless it has a certificate already.
	Join string

	// Grace is how long a server may be down before another host takes its place; 0 stands
	// for DefaultGrace.
	Grace time.Duration

	// Quota is how much the database of a server may hold, in bytes; 0 leaves it to the
	// server.
	Quota int64

	// Failed is how many processes in a row that were a Peer of this host have ended by
	// themselves, as a server does that can't go on. After some, the host leaves it for a
	// while to others to serve.
	Failed int

	// Version is that of the program, for others to see.
	Version string

	// Log gets what there is to say.
	Log *slog.Logger
}

// Peer is one host's part in a mesh.
type Peer struct {
	o      Options
	log    *slog.Logger
	id     *identity.Identity
	guard  *identity.Guard
	notes  *notes
	client *clientv3.Client
	store  *etcd.Store
	node   *node
	mesh   members.Mesh

	bells   []bell
	ballot  ballot
	targets targets
	leaving atomic.Bool
	yielded atomic.Bool
	leads   atomic.Bool
	latency atomic.Int64 // of the mesh in ns, below 0 while it can't be reached
	trouble atomic.Pointer[string]

	ctx     context.Context // ends when all has to stop
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	release []func() // in the opposite order, at the end
	closing sync.Once
	done    chan struct{}
	err     error
}

// Open joins a mesh, or begins one, and returns when it can be used. It goes on trying until
// ctx ends as long as nobody answers; what can't be mended by waiting is an error at once.
// Afterwards nobody hears of ctx any more.
func Open(ctx context.Context, o Options) (*Peer, error) {
	p, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if err := p.open(ctx); err != nil {
		p.shut(err)
		return nil, err
	}
	return p, nil
}

// prepare does what needs no other host.
func prepare(o Options) (p *Peer, err error) {
	if err := mesh.CheckHost(o.Host); err != nil {
		return nil, err
	}
	if o.Dir == "" {
		return nil, errors.New("the peer has no directory")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	p = &Peer{o: o, log: o.Log, bells: newBells(), done: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	unlock, err := lock(o.Dir)
	if err != nil {
		return nil, err
	}
	p.release = append(p.release, unlock)
	defer func() {
		if err != nil {
			p.shut(err)
		}
	}()
	if p.notes, err = readNotes(filepath.Join(o.Dir, notesFile), o.Log); err != nil {
		return nil, err
	}
	p.id, err = identity.Open(filepath.Join(o.Dir, "identity"))
	return p, err
}

// open finds the mesh or begins it, and starts the flow.
func (p *Peer) open(ctx context.Context) error {
	if err := p.admit(ctx); err != nil {
		return err
	}
	p.guard = identity.NewGuard(p.id, p.log)
	if err := p.choose(); err != nil {
		return err
	}
	if err := p.enter(ctx); err != nil {
		return err
	}
	if err := p.introduce(ctx); err != nil {
		return err
	}
	p.wg.Go(p.run)
	p.wg.Go(p.lead)
	p.wg.Go(p.probe)
	p.secure()
	go func() {
		p.wg.Wait()
		if err := context.Cause(p.ctx); !errors.Is(err, errClosed) {
			p.err = err
		}
		close(p.done)
	}()
	return nil
}

// Store is what this host sees of the mesh. It is good until Close.
func (p *Peer) Store() mesh.Store { return p.store }

// Client is the connection to the servers. It is good until Close, and not to be closed.
func (p *Peer) Client() *clientv3.Client { return p.client }

// Identity is who this host is.
func (p *Peer) Identity() *identity.Identity { return p.id }

// Done is closed when the peer has ended: it was closed, or something is wrong with it that
// it can't mend, which Err tells.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Err is why the peer has ended by itself, and nil as long as it has not.
func (p *Peer) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Close leaves the mesh in order. If this host runs a server, another host takes its place
// first, if there is one that can, and as long as ctx allows. Then all that is bound to this
// host is taken away, and its server stops, which takes up to some seconds more.
func (p *Peer) Close(ctx context.Context) error {
	var err error
	p.closing.Do(func() {
		err = p.leave(ctx)
		p.shut(nil)
	})
	return err
}

// shut ends all that runs, in the opposite order in which it was begun.
func (p *Peer) shut(why error) {
	p.cancel(errClosed)
	p.wg.Wait()
	if p.store != nil {
		ctx, cancel := context.WithTimeout(context.Background(), revokeLimit)
		if err := p.store.Close(ctx); err != nil && why == nil {
			p.log.Debug("presence not taken back", "err", err)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	if p.node != nil {
		if err := p.node.stop(ctx); err != nil {
			p.log.Warn("server not stopped in order", "err", err)
		}
	}
	if p.client != nil {
		_ = p.client.Close() // there is nobody to tell
	}
	for i := len(p.release) - 1; i >= 0; i-- {
		p.release[i]()
	}
}

var errClosed = errors.New("the peer was closed")

// fail ends the peer by itself.
func (p *Peer) fail(err error) {
	p.cancel(fmt.Errorf("the mesh of this host has ended: %w", err))
}
