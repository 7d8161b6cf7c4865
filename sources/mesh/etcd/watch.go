package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

const (
	// askEvery is how often a watch that hears nothing asks the server for a sign of life,
	// and stallLimit how long it waits before it goes to another.
	askEvery   = 1500 * time.Millisecond
	stallLimit = 4 * time.Second
)

// stream is the stream of gRPC that watches share, as long as they have the same id.
type stream struct {
	id    int64
	mu    sync.Mutex
	asked time.Time // for a sign of life, the last time
}

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
		for pause := firstPause; ; pause = min(2*pause, maxPause) {
			began := time.Now()
			err := s.follow(ctx, w, emit)
			_, lost := errors.AsType[*lostError](err)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.Is(err, errEnough):
				return nil
			case lost:
				s.log.Debug("watch begins anew", "watch", w.String(), "reason", err)
			case !errors.Is(err, mesh.ErrUnreachable):
				return err
			}
			if time.Since(began) > stallLimit {
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
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(
		clientv3.WithRequireLeader(ctx), "mgmt-stream", strconv.FormatInt(st.id, 10)))
	defer cancel()
	slow := time.AfterFunc(stallLimit, cancel) // Watch waits for a server
	ch := s.client.Watch(ctx, w.Key, append(below(w.Below), clientv3.WithRev(l.Revision+1))...)
	if slow.Stop() {
		err = s.read(ctx, st, ch, cluster, emit)
	} else {
		err = &lostError{"no server has begun it in time", true}
	}
	cancel()
	drain(ch)
	if lost, ok := errors.AsType[*lostError](err); ok && lost.hung {
		// The next one is likely to be with another server.
		s.stream.CompareAndSwap(st, &stream{id: st.id + 1})
	}
	return err
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

// read emits what comes through ch. A server that is silent is asked for a sign of life,
// since a connection does not tell when its other end has stopped.
func (s *Store) read(ctx context.Context, st *stream, ch clientv3.WatchChan, cluster uint64, emit func(mesh.Change) bool) error {
	timer := time.NewTimer(askEvery)
	defer timer.Stop()
	heard := time.Now()
	for {
		var resp clientv3.WatchResponse
		var ok bool
		select {
		case resp, ok = <-ch:
		case <-timer.C:
			select {
			case resp, ok = <-ch:
			default:
				if time.Since(heard) > stallLimit {
					return &lostError{"its server has fallen silent", true}
				}
				s.ask(ctx, st)
				timer.Reset(askEvery)
				continue
			}
		}
		if err := s.check(resp, ok, cluster); err != nil {
			return err
		}
		if len(resp.Events) > 0 && !emit(change(resp.Events)) {
			return errEnough
		}
		heard = time.Now() // the subscriber may have taken its time
		timer.Reset(askEvery)
	}
}

// ask requests a sign of life, which all watches of the stream get, from the server.
func (s *Store) ask(ctx context.Context, st *stream) {
	st.mu.Lock()
	just := time.Since(st.asked) < askEvery/2 // for another watch
	if !just {
		st.asked = time.Now()
	}
	st.mu.Unlock()
	if just {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	if err := s.client.RequestProgress(ctx); err != nil {
		s.log.Debug("server not asked for a sign of life", "err", plain(err))
	}
}

// check says why a watch can't go on after resp.
func (s *Store) check(resp clientv3.WatchResponse, ok bool, cluster uint64) error {
	if !ok {
		return &lostError{"the client has ended it", false}
	}
	err := resp.Err()
	switch {
	case err != nil && refused(err):
		return s.explain("watching", err)
	case err != nil:
		return &lostError{plain(err), false}
	case resp.Header.GetClusterId() != 0 && resp.Header.GetClusterId() != cluster:
		return &lostError{fmt.Sprintf("the servers are of cluster %x now, and were of %x", resp.Header.GetClusterId(), cluster), false}
	}
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
