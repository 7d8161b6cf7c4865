package peer

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

// The vertices of a host's flow. The host says what it offers after its server has changed.
const (
	serveVertex int32 = iota
	announceVertex
	followVertex
	healthVertex
	hostVertices
)

// bell wakes a vertex from within. One that rings already needs not ring again.
type bell chan struct{}

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

func newBells() []bell {
	bells := make([]bell, hostVertices)
	for v := range bells {
		bells[v] = make(bell, 1)
	}
	return bells
}

// heard are the inputs of one bell.
func heard(b bell, v int32) streams.Observable[operators.Input] {
	return streams.Map(streams.FromChan(b), func(struct{}) operators.Input { return wake(v) })
}

func wake(v int32) operators.Input { return operators.Input{Wake: []int32{v}} }

// watched are the inputs of one watch of the mesh.
func (p *Peer) watched(w mesh.Watch, v int32) streams.Observable[operators.Input] {
	return streams.Map(p.changes(w), func(mesh.Change) operators.Input { return wake(v) })
}

// changes is a watch of the mesh that doesn't end, whatever happens.
func (p *Peer) changes(w mesh.Watch) streams.Observable[mesh.Change] {
	loud := streams.New(func(ctx context.Context, emit func(mesh.Change) bool) error {
		err := p.store.Changes(w).Subscribe(ctx, emit)
		if err != nil && ctx.Err() == nil {
			p.log.Warn("watch of the mesh has ended, and begins anew", "watch", w, "err", err)
		}
		return err
	})
	return operators.Retry(loud, func() backoff.BackOff {
		b := backoff.NewExponentialBackOff()
		b.InitialInterval, b.MaxInterval = time.Second, time.Minute
		return b
	})
}

// flow runs sinks, none of which follows another but for edges, on the inputs of sources.
func flow(ctx context.Context, sinks []operators.Sink, edges []operators.Edge, sources ...streams.Observable[operators.Input]) error {
	g, err := operators.NewGraph(sinks, edges)
	if err != nil {
		return err
	}
	inputs := streams.New(func(ctx context.Context, emit func(operators.Input) bool) error {
		if !emit(operators.Input{Graph: g}) {
			return nil
		}
		return streams.Merge(16, sources...).Subscribe(ctx, emit)
	})
	return operators.Sequence(inputs, operators.SequenceOptions{Workers: len(sinks)}).
		Subscribe(ctx, func(operators.Result) bool { return true })
}

// run is the flow of the host, until the peer ends.
func (p *Peer) run() {
	sinks := []operators.Sink{
		serveVertex:    p.sink("server", p.serve),
		announceVertex: p.sink("presence", p.announce),
		followVertex:   p.sink("servers", p.follow),
		healthVertex:   p.sink("health of the servers", p.health),
	}
	sources := []streams.Observable[operators.Input]{
		heard(p.bells[serveVertex], serveVertex),
		heard(p.bells[announceVertex], announceVertex),
		heard(p.bells[followVertex], followVertex),
		heard(p.bells[healthVertex], healthVertex),
	}
	if !p.mesh.Foreign {
		sources = append(sources, p.watched(mesh.Key(members.ServersKey), followVertex))
		if p.willing() {
			sources = append(sources, p.watched(mesh.Key(members.NamedPrefix+p.o.Host), serveVertex))
		}
	}
	edges := []operators.Edge{{From: serveVertex, To: announceVertex}}
	if err := flow(p.ctx, sinks, edges, sources...); err != nil && p.ctx.Err() == nil {
		p.fail(err)
	}
}

// sink is a step of a flow that is tried again when it fails.
type sink struct {
	p    *Peer
	name string
	do   func(context.Context) (changed bool, err error)
}

func (p *Peer) sink(name string, do func(context.Context) (bool, error)) operators.Sink {
	return &sink{p: p, name: name, do: do}
}

// retryAfter is when a step that has failed is tried again.
const retryAfter = 500 * time.Millisecond

// CheckApply implements operators.Sink.
func (s *sink) CheckApply(ctx context.Context, _ operators.Run) operators.Outcome {
	changed, err := s.do(ctx)
	if err != nil && ctx.Err() == nil {
		s.p.log.Debug("step of the mesh has failed, and is tried again", "step", s.name, "err", err)
	}
	return operators.Outcome{Changed: changed, Err: err, Retry: err != nil, RetryAfter: retryAfter}
}

// Schedule implements operators.Scheduled: all steps wait for other hosts.
func (s *sink) Schedule() operators.Schedule { return operators.Schedule{Waits: true} }
