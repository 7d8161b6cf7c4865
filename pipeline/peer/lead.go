package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

const (
	// termTTL is how long nobody leads after the leader has died without a word, in seconds.
	termTTL = 5

	// againAfter is when a host stands for election again after something went wrong.
	againAfter = time.Second
)

// ballot says whether this host stands for election: those do that run a voter.
type ballot struct {
	mu      sync.Mutex
	stands  bool
	changed chan struct{} // closed at the next change
}

func (b *ballot) set(stands bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stands != stands || b.changed == nil {
		if b.changed != nil {
			close(b.changed)
		}
		b.stands, b.changed = stands, make(chan struct{})
	}
}

func (b *ballot) get() (stands bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	return b.stands, b.changed
}

// elect has this host stand for election if it is among the voters.
func (p *Peer) elect(now members.Servers) {
	among := false
	for _, s := range now.Servers {
		among = among || s.Host == p.o.Host
	}
	p.ballot.set(among && !p.yielded.Load())
}

// lead stands for election whenever this host runs a voter, and leads when it has won, until
// the peer ends.
func (p *Peer) lead() {
	for p.ctx.Err() == nil {
		stands, changed := p.ballot.get()
		if !stands {
			select {
			case <-changed:
			case <-p.ctx.Done():
			}
			continue
		}
		ctx, cancel := context.WithCancel(p.ctx)
		go func() {
			defer cancel()
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}()
		err := p.term(ctx)
		if err != nil && ctx.Err() == nil {
			p.log.Debug("term of leader ended", "err", err)
			pause(ctx, againAfter)
		}
		cancel()
	}
}

// term stands for election once, and leads until it is over.
func (p *Peer) term(ctx context.Context) error {
	// The session must outlive ctx to be given back, so that another host can lead at once.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	session, err := concurrency.NewSession(p.client, concurrency.WithTTL(termTTL), concurrency.WithContext(own))
	if err != nil {
		return err
	}
	defer func() {
		giveUp := time.AfterFunc(time.Second, cancel)
		defer giveUp.Stop()
		if err := session.Close(); err != nil {
			p.log.Debug("term of leader not given back", "err", err)
		}
	}()
	ctx, over := context.WithCancelCause(ctx)
	defer over(nil)
	go func() {
		select {
		case <-session.Done():
			over(errLost)
		case <-ctx.Done():
		}
	}()
	election := concurrency.NewElection(session, members.LeaderPrefix)
	if err := election.Campaign(ctx, p.o.Host); err != nil {
		return err
	}
	p.log.Info("leading the mesh")
	p.leads.Store(true)
	defer p.leads.Store(false)
	l := &leader{p: p, election: election, alive: map[string]members.Alive{}, down: map[members.ID]time.Time{}, over: over, again: make(bell, 1)}
	err = l.run(ctx)
	p.log.Info("not leading the mesh any more", "why", reason(ctx, err))
	return err
}

var (
	errLost  = errors.New("the other servers haven't heard of it for too long")
	errYield = errors.New("it leaves")
)

func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// leader is one term of the leader.
type leader struct {
	p        *Peer
	election *concurrency.Election
	over     context.CancelCauseFunc
	again    bell // a moment has come to look again

	mu    sync.Mutex
	heard bool // alive is complete
	alive map[string]members.Alive

	down  map[members.ID]time.Time // since when members are; of reconcile alone
	timer *time.Timer              // likewise
}

// The vertices of the leader's flow: where the servers are is published after they change.
const (
	membersVertex int32 = iota
	publishVertex
)

// run is the flow of the leader.
func (l *leader) run(ctx context.Context) error {
	sinks := []operators.Sink{
		membersVertex: l.p.sink("members", l.reconcile),
		publishVertex: l.p.sink("published servers", l.publish),
	}
	edges := []operators.Edge{{From: membersVertex, To: publishVertex}}
	alive := streams.Map(streams.Do(l.p.changes(mesh.Below(mesh.AlivePrefix)), l.note), func(mesh.Change) operators.Input {
		return wake(membersVertex)
	})
	return flow(ctx, sinks, edges,
		alive,
		heard(l.again, membersVertex),
		l.p.watched(mesh.Below(members.NamedPrefix), membersVertex),
		l.p.watched(mesh.Key(members.IdealKey), membersVertex))
}

// stillLeads asks the mesh, right before something is changed: this host may have been
// stopped for a while without noticing.
func (l *leader) stillLeads(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := l.p.client.Get(ctx, l.election.Key())
	if err != nil {
		return fmt.Errorf("asking who leads: %w", err)
	}
	if len(resp.Kvs) == 0 || resp.Kvs[0].CreateRevision != l.election.Rev() {
		l.over(errLost)
		return errLost
	}
	return nil
}
