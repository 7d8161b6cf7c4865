package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// Write implements mesh.Store. What was tried and may have happened is tried again; if a
// condition does not hold then, the error is ErrUnreachable, since it may be so because of
// the first time.
func (s *Store) Write(ctx context.Context, t mesh.Txn) (revision int64, err error) {
	if err := t.Check(); err != nil {
		return 0, err
	}
	if !s.bound.concerns(t) {
		revision, _, err = s.commit(ctx, t)
		return revision, err
	}
	if err := s.bound.lock(ctx); err != nil {
		return 0, err
	}
	defer s.bound.unlock()
	revision, perhaps, err := s.commit(ctx, t)
	switch {
	case err == nil:
		s.bound.note(t)
	case perhaps:
		s.bound.drop(t)
	}
	return revision, err
}

// commit makes t, and says when it has failed whether it may have been made all the same.
// It is called with the lock of bound if t concerns it.
func (s *Store) commit(ctx context.Context, t mesh.Txn) (revision int64, perhaps bool, err error) {
	conditions := make([]clientv3.Cmp, len(t.If))
	for i, c := range t.If {
		conditions[i] = condition(c)
	}
	err = s.call(ctx, t.String(), func(ctx context.Context) error {
		ops, err := s.operations(ctx, t)
		if err != nil {
			return err
		}
		resp, err := s.fence.txn(ctx, conditions, ops, nil)
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return errors.Join(err, s.bound.replace(ctx))
		case err != nil:
			perhaps = perhaps || !definite(err)
			return err
		case !resp.Succeeded && perhaps:
			return fmt.Errorf("%w at first, and now the conditions don't hold: it may have been written", mesh.ErrUnreachable)
		case !resp.Succeeded:
			return mesh.ErrConflict
		}
		revision = resp.Header.Revision
		return nil
	})
	return revision, perhaps, err
}

// condition is c as etcd knows it: a range that is empty counts as revision 0.
func condition(c mesh.Condition) clientv3.Cmp {
	if c.Below {
		return clientv3.Compare(clientv3.ModRevision(c.Key).WithPrefix(), "<", c.Revision+1)
	}
	return clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Revision)
}

// operations are those of t, with the lease that they need now.
func (s *Store) operations(ctx context.Context, t mesh.Txn) ([]clientv3.Op, error) {
	ops := make([]clientv3.Op, len(t.Ops))
	for i, op := range t.Ops {
		switch {
		case op.Delete:
			ops[i] = clientv3.OpDelete(op.Key, below(op.Below)...)
		case op.Bound:
			lease, err := s.bound.lease(ctx)
			if err != nil {
				return nil, err
			}
			ops[i] = clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(lease))
		default:
			ops[i] = clientv3.OpPut(op.Key, string(op.Value))
		}
	}
	return ops, nil
}

func entry(kv *mvccpb.KeyValue) mesh.Entry {
	return mesh.Entry{
		Key:      string(kv.Key),
		Value:    kv.Value,
		Revision: kv.ModRevision,
		Created:  kv.CreateRevision,
		Bound:    kv.Lease != 0,
	}
}
