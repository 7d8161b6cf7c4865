package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

const (
	// askEvery is how often a watch that hears nothing asks the server for a sign of life,
	// and answerLimit how long it waits for one before it goes to another.
	askEvery    = 2 * time.Second
	answerLimit = 2 * time.Second

	beginGrace = 100 * time.Millisecond
)

// stream is the stream of gRPC that watches share, as long as they have the same id.
type stream struct {
	id     int64
	asking chan struct{} // holds an item while one of them asks for a sign of life

	// What the last answer said. Guarded by asking.
	dead     bool // there was none
	heard    time.Time
	cluster  uint64
	revision int64
}

func newStream(id int64) *stream { return &stream{id: id, asking: make(chan struct{}, 1)} }

// lostError ends a watch that has to begin anew.
type lostError struct {
	why  string
	hung bool // the server does not answer
}

func (e *lostError) Error() string { return e.why }

var errEnough = errors.New("the subscriber has had enough")

// Changes implements mesh.Store.
func (s *Store) Changes(w mesh.Watch) streams.Observable[mesh.Change] {
	return streams.New(func(ctx context.Context, emit func(mesh.Change) bool) error {
		told := "" // the last reason that is worth a line
		for pause := firstPause; ; pause = min(2*pause, maxPause) {
			began := time.Now()
			err := s.follow(ctx, w, emit)
			_, lost := errors.AsType[*lostError](err)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.Is(err, errEnough):
				return nil
			case errors.Is(err, mesh.ErrRefused):
				return err
			case lost || errors.Is(err, mesh.ErrUnreachable) || err.Error() == told:
				s.log.Debug("watch begins anew", "watch", w.String(), "reason", err)
			default:
				told = err.Error()
				s.log.Warn("watch begins anew", "watch", w.String(), "reason", err)
			}
			if time.Since(began) > answerLimit {
				pause = firstPause
			}
			wait(ctx, pause)
		}
	})
}

// follow emits what w covers and then its changes, until something goes wrong.
func (s *Store) follow(ctx context.Context, w mesh.Watch, emit func(mesh.Change) bool) error {
	l, cluster, err := s.list(ctx, w)
	if err != nil {
		return err
	}
	if !emit(mesh.Change{Reset: true, Put: l.Entries, Revision: l.Revision}) {
		return errEnough
	}
	st := s.stream.Load()
	ctx = metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), "mgmt-stream", strconv.FormatInt(st.id, 10))
	ch, cancel := s.begin(ctx, w, clientv3.WithRev(l.Revision+1))
	if ch != nil {
		r := reader{s: s, w: w, st: st, ch: ch, cluster: cluster, revision: l.Revision}
		err = r.read(ctx, emit)
		cancel()
		drain(ch)
	} else {
		err = &lostError{"no server has begun it in time", true}
	}
	if lost, ok := errors.AsType[*lostError](err); ok && lost.hung {
		// The next one is likely to be with another server.
		s.stream.CompareAndSwap(st, newStream(st.id+1))
	}
	return err
}

// begin begins a watch, which cancel ends. The channel is nil if no server has answered, or
// ctx is done.
//
// The client leaves a stream of gRPC behind if a context ends while it begins, so it may
// finish that in any case, if it takes no longer than beginGrace.
func (s *Store) begin(ctx context.Context, w mesh.Watch, opts ...clientv3.OpOption) (ch clientv3.WatchChan, cancel func()) {
	if ctx.Err() != nil {
		return nil, func() {}
	}
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	slow := time.AfterFunc(answerLimit, cancel)
	hasty := context.AfterFunc(ctx, func() { slow.Reset(beginGrace) })
	ch = s.client.Watch(own, w.Key, append(below(w.Below), opts...)...)
	hasty()
	slow.Stop()
	if own.Err() != nil {
		return nil, cancel
	}
	return ch, cancel
}

// drain waits until what serves ch has ended, which it does soon after a cancel.
func drain(ch clientv3.WatchChan) {
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	for {
		select {
		case _, ok := <-ch:
			if !ok {
				return
			}
		case <-limit.C:
			return
		}
	}
}

// reader reads one watch of etcd. Each failure is a lostError, or a refusal.
type reader struct {
	s        *Store
	w        mesh.Watch
	st       *stream
	ch       clientv3.WatchChan
	cluster  uint64
	revision int64 // of what was read last
	behind   bool  // the server has said that it knows less
}

// read emits what comes. A server that is silent is asked for a sign of life, since a
// connection does not tell when its other end has stopped.
func (r *reader) read(ctx context.Context, emit func(mesh.Change) bool) error {
	timer := time.NewTimer(askEvery)
	defer timer.Stop()
	for {
		select {
		case resp, ok := <-r.ch:
			if err := r.check(resp, ok); err != nil {
				return err
			}
			if len(resp.Events) == 0 {
				break
			}
			c := change(resp.Events)
			if !emit(c) {
				return errEnough
			}
			r.revision, r.behind = c.Revision, false
		case <-timer.C:
			if err := r.ask(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		timer.Reset(askEvery)
	}
}

// check says why a watch can't go on after resp.
func (r *reader) check(resp clientv3.WatchResponse, ok bool) error {
	if !ok {
		return &lostError{"the client has ended it", false}
	}
	err := resp.Err()
	switch {
	case err != nil && refused(err):
		return r.s.explain("watching "+r.w.String(), err)
	case err != nil:
		return &lostError{plain(err), false}
	}
	return r.same(resp.Header.GetClusterId())
}

// same says that a watch can't go on if its server is of a cluster.
func (r *reader) same(cluster uint64) error {
	if cluster == 0 || cluster == r.cluster {
		return nil
	}
	return &lostError{fmt.Sprintf("the servers are of cluster %x now, and were of %x", cluster, r.cluster), false}
}

// ask has the server give a sign of life, unless it has just given one to another watch of
// the stream, and says why the watch can't go on.
func (r *reader) ask(ctx context.Context) error {
	select {
	case r.st.asking <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-r.st.asking }()
	if !r.st.dead && time.Since(r.st.heard) > askEvery/2 {
		if err := r.probe(ctx); err != nil {
			return err
		}
	}
	if r.st.dead {
		return &lostError{"its server has fallen silent", true}
	}
	if err := r.same(r.st.cluster); err != nil {
		return err
	}
	// A server may lag behind others, but not for long.
	lost := r.behind && r.st.revision < r.revision
	r.behind = r.st.revision < r.revision
	if lost {
		return &lostError{fmt.Sprintf("the servers are at revision %d, and have been at %d", r.st.revision, r.revision), false}
	}
	return nil
}

// probe begins another watch on the same stream, which the server confirms, or else is dead.
// It is called by the one who asks. To request its
// progress instead would not do: watches that wait for the next revision don't tell it.
func (r *reader) probe(ctx context.Context) error {
	ch, cancel := r.s.begin(ctx, r.w, clientv3.WithCreatedNotify())
	defer cancel()
	if ch != nil {
		resp, ok := <-ch // which Watch has waited for
		cancel()
		drain(ch)
		switch {
		case ok && resp.Err() == nil:
			r.st.heard, r.st.cluster, r.st.revision = time.Now(), resp.Header.GetClusterId(), resp.Header.GetRevision()
			return nil
		case ok && refused(resp.Err()):
			return r.s.explain("watching "+r.w.String(), resp.Err())
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.st.dead = true
	return nil
}

// change makes one step of events: of each key the last one counts.
func change(events []*clientv3.Event) mesh.Change {
	last := make(map[string]int, len(events))
	for i, e := range events {
		last[string(e.Kv.Key)] = i
	}
	c := mesh.Change{Revision: events[len(events)-1].Kv.ModRevision}
	for i, e := range events {
		switch {
		case last[string(e.Kv.Key)] != i:
		case e.Type == clientv3.EventTypeDelete:
			c.Deleted = append(c.Deleted, string(e.Kv.Key))
		default:
			c.Put = append(c.Put, entry(e.Kv))
		}
	}
	return c
}
