package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

// againAfter is when a host stands for election again after something went wrong.
const againAfter = time.Second

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

// elect has this host stand for election if its server has a vote.
func (p *Peer) elect() {
	s := p.node.running()
	p.ballot.set(s != nil && !s.Learns() && !p.yielded.Load())
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
		p.wg.Go(func() {
			defer cancel()
			select {
			case <-changed:
			case <-ctx.Done():
			}
		})
		err := p.term(ctx)
		if err != nil && ctx.Err() == nil {
			p.log.Debug("term of leader ended", "err", err)
			pause(ctx, againAfter)
		}
		cancel()
	}
}

// term stands for election once, and leads until it is over. Each host that stands has a
// bound key, and the one whose key is the oldest leads. A host that was away for too long
// loses its key, and gets a younger one.
func (p *Peer) term(ctx context.Context) error {
	ctx, over := context.WithCancelCause(ctx)
	own := members.LeaderPrefix + p.o.Host
	op := mesh.Put(own, []byte(p.o.Host))
	op.Bound = true
	defer func() {
		over(nil)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if _, err := p.store.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Delete(own)}}); err != nil {
			p.log.Debug("lead not given back", "err", err)
		}
	}()
	if _, err := p.store.Write(ctx, mesh.Txn{Ops: []mesh.Op{op}}); err != nil {
		return err
	}
	var flow sync.WaitGroup
	defer flow.Wait()
	defer over(nil)
	standing := map[string]int64{} // since when
	var l *leader
	return p.store.Changes(mesh.Below(members.LeaderPrefix)).Subscribe(ctx, func(c mesh.Change) bool {
		update(standing, c)
		since, there := standing[own]
		first := there && since == slices.Min(slices.Collect(maps.Values(standing)))
		if l != nil && (!first || since != l.since) {
			over(errLost)
			return false
		}
		if first && l == nil {
			l = &leader{
				p: p, own: own, since: since, over: over, again: make(bell, 1),
				alive: map[string]members.Alive{}, down: map[members.ID]time.Time{},
			}
			flow.Go(func() { l.run(ctx) })
		}
		return true
	})
}

// update keeps track of when keys came into being.
func update(created map[string]int64, c mesh.Change) {
	if c.Reset {
		clear(created)
	}
	for _, e := range c.Put {
		created[e.Key] = e.Created
	}
	for _, key := range c.Deleted {
		delete(created, key)
	}
}

var (
	errLost  = errors.New("the other servers haven't heard of it for too long")
	errYield = errors.New("it leaves")
)

// leader is one term of the leader.
type leader struct {
	p     *Peer
	own   string // the key by which this host leads, since that revision
	since int64
	over  context.CancelCauseFunc
	again bell // a moment has come to look again

	mu    sync.Mutex
	heard bool // alive is complete
	alive map[string]members.Alive

	down  map[members.ID]time.Time // since when members are; of reconcile alone
	timer *time.Timer              // likewise

	ignored int64 // the revision of a setting that makes no sense; likewise
}

// The vertices of the leader's flow: where the servers are is published after they change.
const (
	membersVertex int32 = iota
	publishVertex
)

// run is the flow of the leader.
func (l *leader) run(ctx context.Context) {
	l.p.log.Info("leading the mesh")
	l.p.leads.Store(true)
	defer l.p.leads.Store(false)
	sinks := []operators.Sink{
		membersVertex: l.p.sink("members", l.reconcile),
		publishVertex: l.p.sink("published servers", l.publish),
	}
	edges := []operators.Edge{{From: membersVertex, To: publishVertex}}
	alive := streams.Map(streams.Do(l.p.changes(mesh.Below(mesh.AlivePrefix)), l.note), func(mesh.Change) operators.Input {
		return wake(membersVertex)
	})
	err := flow(ctx, sinks, edges,
		alive,
		heard(l.again, membersVertex),
		l.p.watched(mesh.Below(members.NamedPrefix), membersVertex),
		l.p.watched(mesh.Key(members.IdealKey), membersVertex))
	l.over(err)
	l.p.log.Info("not leading the mesh any more", "why", context.Cause(ctx))
}

// stillLeads asks the mesh, right before something is changed: this host may have been
// stopped for a while without noticing.
func (l *leader) stillLeads(ctx context.Context) error {
	e, found, err := l.p.store.Get(ctx, l.own)
	if err != nil {
		return fmt.Errorf("asking who leads: %w", err)
	}
	if !found || e.Created != l.since {
		l.over(errLost)
		return errLost
	}
	return nil
}
