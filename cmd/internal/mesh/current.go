package mesh

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

// patience is how long a call without a deadline waits for a store to be there.
const patience = 5 * time.Second

// Current is the store of a host while what it is reached by comes and goes: calls wait
// until there is one, and watches go on with the next.
type Current struct {
	host string
	want func() // called before each wait

	mu      sync.Mutex
	store   mesh.Store // nil while there is none
	why     error      // for which there is none, if it is known
	changed chan struct{}
	ended   bool
}

var (
	_ mesh.Store = (*Current)(nil)
	_ mesh.Vault = (*Current)(nil)
)

// NewCurrent returns a store of which there is none yet. Before each use want is called,
// if it isn't nil.
func NewCurrent(host string, want func()) *Current {
	return &Current{host: host, want: want, changed: make(chan struct{})}
}

// Set makes store the one that is used from now on. With nil there is none, for the reason
// given, if any: it is told to those who have waited in vain.
func (c *Current) Set(store mesh.Store, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store, c.why = store, why
	close(c.changed)
	c.changed = make(chan struct{})
}

// End says that there will be no store any more, and why.
func (c *Current) End(why error) {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.Set(nil, why)
}

// other waits until there is a store that is not the old one.
func (c *Current) other(ctx context.Context, old mesh.Store) (mesh.Store, error) {
	for wanted := c.want == nil; ; {
		c.mu.Lock()
		store, why, changed, ended := c.store, c.why, c.changed, c.ended
		c.mu.Unlock()
		if store != nil && store != old {
			return store, nil
		}
		if ended {
			return nil, fmt.Errorf("%w: %w", mesh.ErrUnreachable, why)
		}
		if !wanted {
			wanted = true
			c.want()
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, unreachable(ctx, why)
		}
	}
}

// unreachable is the error of a wait that has ended with ctx.
func unreachable(ctx context.Context, why error) error {
	err := context.Cause(ctx)
	switch {
	case !errors.Is(err, context.DeadlineExceeded):
		return err
	case why != nil:
		return fmt.Errorf("%w: %w", mesh.ErrUnreachable, why)
	}
	return mesh.ErrUnreachable
}

// call calls f with the store, once there is one.
func call[T any](ctx context.Context, c *Current, f func(context.Context, mesh.Store) (T, error)) (T, error) {
	waiting := ctx
	if _, ok := ctx.Deadline(); !ok {
		var done context.CancelFunc
		waiting, done = context.WithTimeout(ctx, patience)
		defer done()
	}
	store, err := c.other(waiting, nil)
	if err != nil {
		var none T
		return none, err
	}
	return f(ctx, store)
}

// Host implements mesh.Store.
func (c *Current) Host() string { return c.host }

// Get implements mesh.Store.
func (c *Current) Get(ctx context.Context, key string) (mesh.Entry, bool, error) {
	found := false
	entry, err := call(ctx, c, func(ctx context.Context, s mesh.Store) (e mesh.Entry, err error) {
		e, found, err = s.Get(ctx, key)
		return e, err
	})
	return entry, found, err
}

// List implements mesh.Store.
func (c *Current) List(ctx context.Context, prefix string) (mesh.List, error) {
	return call(ctx, c, func(ctx context.Context, s mesh.Store) (mesh.List, error) { return s.List(ctx, prefix) })
}

// Write implements mesh.Store.
func (c *Current) Write(ctx context.Context, t mesh.Txn) (int64, error) {
	return call(ctx, c, func(ctx context.Context, s mesh.Store) (int64, error) { return s.Write(ctx, t) })
}

// Seal implements mesh.Vault.
func (c *Current) Seal(ctx context.Context, hosts []string, plain []byte) ([]byte, error) {
	return call(ctx, c, func(ctx context.Context, s mesh.Store) ([]byte, error) {
		v, err := vault(s)
		if err != nil {
			return nil, err
		}
		return v.Seal(ctx, hosts, plain)
	})
}

// Open implements mesh.Vault.
func (c *Current) Open(ctx context.Context, sealed []byte) ([]byte, error) {
	return call(ctx, c, func(ctx context.Context, s mesh.Store) ([]byte, error) {
		v, err := vault(s)
		if err != nil {
			return nil, err
		}
		return v.Open(ctx, sealed)
	})
}

func vault(s mesh.Store) (mesh.Vault, error) {
	if v, ok := s.(mesh.Vault); ok {
		return v, nil
	}
	return nil, errors.New("this mesh can't hide secrets")
}

// Changes implements mesh.Store.
func (c *Current) Changes(w mesh.Watch) streams.Observable[mesh.Change] {
	return streams.New(func(ctx context.Context, emit func(mesh.Change) bool) error {
		var store mesh.Store
		for {
			next, err := c.other(ctx, store)
			if err != nil {
				return err
			}
			store = next
			stopped := false
			err = store.Changes(w).Subscribe(ctx, func(ch mesh.Change) bool {
				stopped = !emit(ch)
				return !stopped
			})
			switch {
			case stopped || ctx.Err() != nil:
				return err
			case err != nil && !errors.Is(err, mesh.ErrUnreachable) && c.is(store):
				return err
			}
		}
	})
}

// is reports whether store is the one that is used.
func (c *Current) is(store mesh.Store) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store == store
}
