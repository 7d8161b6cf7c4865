// Package etcd keeps the store of a mesh in etcd. A Store is what one host sees through a
// client: its watches survive compactions, restarts and servers that answer no more, its
// writes are made in the order in which it makes them or never, and its bound keys hang on
// one lease, which is replaced when it was lost.
package etcd

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// Config returns how a client is best made that is for a Store: it finds out within
// seconds that a server is gone, and goes back to one as soon as it is there again. A nil
// tls stands for plain connections. It writes no log; the Store does.
func Config(endpoints []string, tls *tls.Config) clientv3.Config {
	return clientv3.Config{
		Endpoints:            endpoints,
		TLS:                  tls,
		DialTimeout:          dialLimit,
		DialKeepAliveTime:    10 * time.Second, // less is not allowed
		DialKeepAliveTimeout: answerLimit * 2,
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: dialLimit,
		})},
	}
}

// Options may be left empty.
type Options struct {
	// Log is told once when the mesh can't be reached, and when it is back.
	Log *slog.Logger
}

// Store is a mesh.Store in etcd.
type Store struct {
	client *clientv3.Client
	host   string
	log    *slog.Logger

	away   atomic.Bool            // the last call found nobody
	stream atomic.Pointer[stream] // for the next watch
	pace   pace
	fence  fence
	bound  bound
}

var _ mesh.Store = (*Store)(nil)

// New returns the store that the named host sees through client, which stays the caller's
// to close, after the Store. Config says how to make one.
func New(client *clientv3.Client, host string, opts Options) *Store {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{client: client, host: host, log: log}
	s.stream.Store(newStream(0))
	s.fence.init(s)
	s.bound.init(s)
	return s
}

// Host implements mesh.Store.
func (s *Store) Host() string { return s.host }

// SetEndpoints says where the servers are now. Calls and watches go on.
func (s *Store) SetEndpoints(endpoints ...string) { s.client.SetEndpoints(endpoints...) }

// Close takes away what is bound to the host and ends what keeps it alive. With an error
// that takes mesh.TTL longer. Nothing can be bound through the Store any more; all else
// works as long as the client does.
func (s *Store) Close(ctx context.Context) error { return s.bound.close(ctx) }

// Get implements mesh.Store.
func (s *Store) Get(ctx context.Context, key string) (e mesh.Entry, found bool, err error) {
	err = s.call(ctx, "reading "+key, func(ctx context.Context) error {
		resp, err := s.client.Get(ctx, key)
		if err == nil && len(resp.Kvs) > 0 {
			e, found = entry(resp.Kvs[0]), true
		}
		return err
	})
	return e, found, err
}

// List implements mesh.Store.
func (s *Store) List(ctx context.Context, prefix string) (mesh.List, error) {
	l, _, err := s.list(ctx, mesh.Below(prefix))
	return l, err
}

// list reads what w covers, and says of which cluster it is.
func (s *Store) list(ctx context.Context, w mesh.Watch) (l mesh.List, cluster uint64, err error) {
	err = s.call(ctx, "reading "+w.String(), func(ctx context.Context) error {
		resp, err := s.client.Get(ctx, w.Key, below(w.Below)...)
		if err != nil {
			return err
		}
		l = mesh.List{Revision: resp.Header.Revision, Entries: make([]mesh.Entry, len(resp.Kvs))}
		for i, kv := range resp.Kvs {
			l.Entries[i] = entry(kv)
		}
		cluster = resp.Header.ClusterId
		return nil
	})
	return l, cluster, err
}

// below makes an option of etcd of a field of that name.
func below(is bool) []clientv3.OpOption {
	if is {
		return []clientv3.OpOption{clientv3.WithPrefix()}
	}
	return nil
}
