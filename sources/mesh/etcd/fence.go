package etcd

import (
	"context"
	"errors"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// fence keeps a write that was given up from being made later. A server that stood still
// does what it has in its queues when it goes on, also what its client has long since
// done with the help of another, and so would undo what was written after it. So each
// write of a host is under the condition that a key of its own, the fence, has not moved,
// and the first one after a write whose outcome is unknown moves it.
type fence struct {
	s   *Store
	key string

	mu       sync.Mutex
	revision int64 // of the key, as far as is known
	doubts   int   // writes whose outcome was unknown; those of the process before count as one
	settled  int   // of doubts: they happened before the fence was moved, or never will
}

func (f *fence) init(s *Store) {
	f.s, f.key, f.doubts = s, mesh.FencePrefix+s.host, 1
}

// txn makes ops under conditions, or else otherwise, whose responses come first then. It
// returns an error only if it could do neither.
func (f *fence) txn(ctx context.Context, conditions []clientv3.Cmp, ops, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	for {
		f.mu.Lock()
		revision, doubts, sure := f.revision, f.doubts, f.doubts == f.settled
		f.mu.Unlock()
		then := ops[:len(ops):len(ops)]
		if !sure {
			then = append(then, clientv3.OpPut(f.key, ""))
		}
		resp, err := f.s.client.Txn(ctx).
			If(append(conditions[:len(conditions):len(conditions)], clientv3.Compare(clientv3.ModRevision(f.key), "=", revision))...).
			Then(then...).
			Else(append(otherwise[:len(otherwise):len(otherwise)], clientv3.OpGet(f.key, clientv3.WithKeysOnly()))...).
			Commit()
		switch {
		case err != nil && definite(err):
			return nil, err
		case err != nil:
			f.mu.Lock()
			f.doubts++
			f.mu.Unlock()
			return nil, err
		case resp.Succeeded && !sure:
			f.mu.Lock()
			f.revision, f.settled = resp.Header.Revision, max(f.settled, doubts)
			f.mu.Unlock()
			return resp, nil
		case resp.Succeeded, !f.moved(revision, resp.Responses[len(otherwise)]):
			return resp, nil
		}
	}
}

// moved tells whether the fence is not at a revision, and keeps where it is.
func (f *fence) moved(revision int64, resp *etcdserverpb.ResponseOp) bool {
	var now int64
	if kvs := resp.GetResponseRange().GetKvs(); len(kvs) > 0 {
		now = kvs[0].ModRevision
	}
	if now == revision {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.revision == revision { // otherwise somebody else knows more
		f.revision = now
	}
	return true
}

// definite tells whether err says that nothing was written, and nothing will be.
func definite(err error) bool {
	if errors.Is(err, rpctypes.ErrTimeout) || errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail) {
		return false
	}
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown, codes.Internal:
		return false
	}
	return true
}
