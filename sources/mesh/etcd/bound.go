package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// renewEvery is how often the lease is renewed, and renewAgain when that has failed.
const (
	renewEvery = mesh.TTL / 3
	renewAgain = 500 * time.Millisecond
)

var errClosed = errors.New("the store is closed, so nothing can be bound to its host")

// bound is what has to be there as long as the host is: keys under one lease.
type bound struct {
	s       *Store
	current atomic.Int64  // the lease, 0 before the first
	busy    chan struct{} // holds an item while a write or a repair runs: see lock
	lost    chan struct{} // holds an item when the lease seems to be lost

	// All below is guarded by busy.
	ctx     context.Context // of tasks; nil before the first
	stop    context.CancelFunc
	tasks   sync.WaitGroup
	guarded bool // guard runs
	closed  bool

	mu   sync.Mutex // also taken without busy, to look
	keys map[string]boundKey
}

// boundKey is what was written last, and under which lease.
type boundKey struct {
	value []byte
	lease clientv3.LeaseID
}

func (b *bound) init(s *Store) {
	b.s, b.busy, b.lost, b.keys = s, make(chan struct{}, 1), make(chan struct{}, 1), make(map[string]boundKey)
}

// lock is held by whoever writes keys that are bound or were so: then keys has them in
// the order in which etcd has.
func (b *bound) lock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	select {
	case b.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("waiting for another write: %w", mesh.ErrUnreachable)
	}
	return context.Cause(ctx)
}

func (b *bound) unlock() { <-b.busy }

// concerns tells whether t changes what is bound.
func (b *bound) concerns(t mesh.Txn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, op := range t.Ops {
		if op.Bound {
			return true
		}
		for range b.covered(op) {
			return true
		}
	}
	return false
}

// covered are the bound keys that op is about.
func (b *bound) covered(op mesh.Op) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if !op.Below {
			if _, ok := b.keys[op.Key]; ok {
				yield(op.Key)
			}
			return
		}
		for key := range b.keys {
			if strings.HasPrefix(key, op.Key) && !yield(key) {
				return
			}
		}
	}
}

// note keeps in mind what t has done. It is called with the lock.
func (b *bound) note(t mesh.Txn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, op := range t.Ops {
		for key := range b.covered(op) {
			delete(b.keys, key)
		}
		if op.Bound {
			b.keys[op.Key] = boundKey{op.Value, clientv3.LeaseID(b.current.Load())}
			if op.Key == mesh.AlivePrefix+b.s.host {
				b.watch(op.Key)
			}
		}
	}
}

// drop forgets what t may have taken away: its writer wants it gone, and if it is still
// there it goes with the lease.
func (b *bound) drop(t mesh.Txn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, op := range t.Ops {
		if op.Bound {
			continue
		}
		for key := range b.covered(op) {
			delete(b.keys, key)
		}
	}
}

// lease returns the one to use, and begins it if there is none. It is called with the lock.
func (b *bound) lease(ctx context.Context) (clientv3.LeaseID, error) {
	if b.closed {
		return 0, errClosed
	}
	if id := b.current.Load(); id != 0 {
		return clientv3.LeaseID(id), nil
	}
	return b.grant(ctx)
}

func (b *bound) grant(ctx context.Context) (clientv3.LeaseID, error) {
	resp, err := b.s.client.Grant(ctx, int64(mesh.TTL/time.Second))
	if err != nil {
		return 0, err
	}
	b.current.Store(int64(resp.ID))
	if b.ctx == nil {
		b.ctx, b.stop = context.WithCancel(context.Background())
		b.tasks.Go(func() { b.keep(b.ctx) })
	}
	return resp.ID, nil
}

// replace begins a new lease instead of one that was lost, and puts back what hung on it.
// It is called with the lock.
func (b *bound) replace(ctx context.Context) error {
	if _, err := b.grant(ctx); err != nil {
		return err
	}
	return b.restore(ctx)
}

// restore puts back what was lost, but for keys that others have taken meanwhile. It is
// called with the lock.
func (b *bound) restore(ctx context.Context) error {
	lease := clientv3.LeaseID(b.current.Load())
	for key, k := range b.stray() {
		resp, err := b.s.fence.txn(ctx,
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", 0)},
			[]clientv3.Op{clientv3.OpPut(key, string(k.value), clientv3.WithLease(lease))},
			[]clientv3.Op{clientv3.OpGet(key, clientv3.WithKeysOnly())})
		if err != nil {
			return err
		}
		ours := resp.Succeeded
		if !ours {
			kvs := resp.Responses[0].GetResponseRange().GetKvs()
			ours = len(kvs) > 0 && kvs[0].Lease == int64(lease) // of an attempt whose answer was lost
		}
		b.mu.Lock()
		if ours {
			b.keys[key] = boundKey{k.value, lease}
		} else {
			delete(b.keys, key)
		}
		b.mu.Unlock()
		b.s.log.Info("bound key was lost", "key", key, "restored", ours)
	}
	return nil
}

// stray are the keys that are not under the present lease.
func (b *bound) stray() map[string]boundKey {
	lease := clientv3.LeaseID(b.current.Load())
	b.mu.Lock()
	defer b.mu.Unlock()
	var stray map[string]boundKey
	for key, k := range b.keys {
		if k.lease != lease {
			if stray == nil {
				stray = make(map[string]boundKey)
			}
			stray[key] = k
		}
	}
	return stray
}

// keep renews the lease until ctx is done.
func (b *bound) keep(ctx context.Context) {
	timer := time.NewTimer(renewEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-b.lost:
		}
		next := renewEvery
		if err := b.renew(ctx); err != nil && ctx.Err() == nil {
			next = renewAgain
			b.s.log.Debug("lease not renewed", "err", plain(err))
		}
		timer.Reset(next)
	}
}

// watch has the lease looked after at once when a key goes that hangs on it: a server that
// leads no more but doesn't know it yet, as after a pause, may take leases away that others
// have renewed. It is called with the lock.
func (b *bound) watch(key string) {
	if b.guarded || b.ctx == nil {
		return
	}
	b.guarded = true
	b.tasks.Go(func() {
		_ = b.s.Changes(mesh.Key(key)).Subscribe(b.ctx, func(c mesh.Change) bool {
			if len(c.Put) == 0 {
				select {
				case b.lost <- struct{}{}:
				default:
				}
			}
			return true
		}) // if it may not watch, the next renewal finds out
	})
}

// renew has the lease live on, or replaces it. Only for the latter it waits for writes.
func (b *bound) renew(ctx context.Context) error {
	id := b.current.Load()
	attempt, cancel := context.WithTimeout(ctx, b.s.pace.limit())
	defer cancel()
	_, err := b.s.client.KeepAliveOnce(attempt, clientv3.LeaseID(id))
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return err
	}
	if err == nil && b.stray() == nil {
		return nil
	}
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	repair, cancel := context.WithTimeout(ctx, attemptMost)
	defer cancel()
	if err != nil && b.current.Load() == id {
		return b.replace(repair)
	}
	return b.restore(repair)
}

// close revokes the lease.
func (b *bound) close(ctx context.Context) error {
	if err := b.lock(ctx); err != nil {
		return err
	}
	b.closed = true
	begun := b.ctx != nil
	b.unlock()
	if !begun {
		return nil
	}
	b.stop()
	b.tasks.Wait()
	id := clientv3.LeaseID(b.current.Swap(0))
	if id == 0 {
		return nil
	}
	return b.s.call(ctx, "leaving the mesh", func(ctx context.Context) error {
		_, err := b.s.client.Revoke(ctx, id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	})
}
