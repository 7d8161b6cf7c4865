package survival_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// checker writes keys as a client on each machine would, remembers what was acknowledged,
// and looks on as exports come and go.
type checker struct {
	t       *testing.T
	stores  []*etcd.Store
	writers sync.WaitGroup
	wg      sync.WaitGroup

	stopWriting, cancel context.CancelFunc

	mu       sync.Mutex
	acked    map[string]string
	failed   int
	withdrew []string
}

// client is one that runs on the machine.
func (m *machine) mesh() *clientv3.Client {
	m.field.t.Helper()
	var endpoints []string
	for _, other := range m.field.machines {
		endpoints = append(endpoints, other.client())
	}
	cfg := etcd.Config(endpoints, nil)
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return m.Dial(ctx, "tcp", address)
	}))
	client, err := clientv3.New(cfg)
	if err != nil {
		m.field.t.Fatal(err)
	}
	return client
}

// settled waits until so many servers vote, and none only learns.
func (f *field) settled(voters int) {
	f.t.Helper()
	client := f.machines[0].mesh()
	defer client.Close()
	f.eventually(fmt.Sprintf("%d servers vote", voters), func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
		defer cancel()
		list, err := client.MemberList(ctx)
		return err == nil && len(list.Members) == voters && !slices.ContainsFunc(list.Members, func(m *etcdserverpb.Member) bool { return m.IsLearner })
	})
}

// check begins to write.
func (f *field) check() *checker {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	writing, stop := context.WithCancel(ctx)
	c := &checker{t: f.t, cancel: cancel, stopWriting: stop, acked: map[string]string{}}
	f.t.Cleanup(func() {
		cancel()
		c.writers.Wait()
		c.wg.Wait()
	})
	for _, m := range f.machines {
		client := m.mesh()
		store := etcd.New(client, "checker-"+m.Name, etcd.Options{})
		c.stores = append(c.stores, store)
		c.wg.Go(func() {
			<-ctx.Done()
			_ = client.Close()
		})
		c.writers.Go(func() { c.write(writing, store) })
	}
	c.wg.Go(func() { c.watch(ctx, c.stores[0]) })
	return c
}

// write writes one key after the other.
func (c *checker) write(ctx context.Context, s *etcd.Store) {
	for i := 0; ctx.Err() == nil; i++ {
		key, value := fmt.Sprintf("%scheck/%s/%d", mesh.KVPrefix, s.Host(), i), fmt.Sprint(time.Now().UnixNano())
		_, err := s.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put(key, []byte(value))}})
		c.mu.Lock()
		if err == nil {
			c.acked[key] = value
		} else if ctx.Err() == nil {
			c.failed++
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// watch notes exports that are withdrawn, which nobody has asked for.
func (c *checker) watch(ctx context.Context, s *etcd.Store) {
	known := map[string]bool{}
	_ = s.Changes(mesh.Below(mesh.ExportPrefix)).Subscribe(ctx, func(change mesh.Change) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		now := map[string]bool{}
		for _, e := range change.Put {
			known[e.Key], now[e.Key] = true, true
		}
		c.withdrew = append(c.withdrew, change.Deleted...)
		for key := range known {
			if change.Reset && !now[key] {
				c.withdrew = append(c.withdrew, key)
			}
		}
		return true
	})
}

// count is how many writes were acknowledged so far.
func (c *checker) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// end stops writing, and compares what is there with what was acknowledged.
func (c *checker) end() {
	c.t.Helper()
	c.stopWriting()
	c.writers.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var list mesh.List
	for {
		var err error
		if list, err = c.stores[0].List(ctx, mesh.KVPrefix+"check/"); err == nil {
			break
		}
		if ctx.Err() != nil {
			c.t.Fatal("the mesh can't be read:", err)
		}
	}
	c.cancel()
	c.wg.Wait()
	there := map[string]string{}
	for _, e := range list.Entries {
		there[e.Key] = string(e.Value)
	}
	var lost []string
	for key, value := range c.acked {
		if there[key] != value {
			lost = append(lost, key)
		}
	}
	if len(lost) > 0 {
		slices.Sort(lost)
		c.t.Errorf("%d of %d acknowledged writes are lost, such as %s", len(lost), len(c.acked), lost[0])
	}
	if len(c.withdrew) > 0 {
		c.t.Errorf("withdrawn though nobody has asked for it: %s", strings.Join(c.withdrew, ", "))
	}
	c.t.Logf("%d writes were acknowledged and are there; %d were not acknowledged", len(c.acked), c.failed)
}
