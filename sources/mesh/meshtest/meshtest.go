// Package meshtest has a real etcd for the tests of what uses a mesh: one node in this
// process, in a directory of its own and without ports, which can be stopped, started
// again and compacted.
package meshtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// startLimit is how long a node may take to start. It takes a tenth of a second.
const startLimit = 30 * time.Second

// Node is a running etcd of one node.
type Node struct {
	// Endpoint is where clients reach it, and Direct the same for benchmarks: a way that
	// is shorter, but on which Stop waits some seconds for watches.
	Endpoint, Direct string

	dir     string
	front   *Proxy // at Endpoint
	mu      sync.Mutex
	running *embed.Etcd
	keys    map[string]*age.X25519Identity // by host
}

// Store is what one host sees of a node. It is a mesh.Vault too, whose keys live as long
// as the Node.
type Store struct {
	*etcd.Store
	node *Node
}

var (
	_ mesh.Store = (*Store)(nil)
	_ mesh.Vault = (*Store)(nil)
)

// Start runs a node until the test ends.
func Start(t testing.TB) *Node {
	t.Helper()
	dir, err := os.MkdirTemp("", "mesh") //nolint:usetesting // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	n, err := Serve(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

// New runs a node until the test ends and returns what the named host sees of it.
func New(t testing.TB, host string) *Store {
	t.Helper()
	return Start(t).Store(t, host)
}

// Serve runs a node in dir, whose path is at most 90 bytes long, until Stop is called. It
// is for examples and for processes that a test starts; a test itself calls Start.
func Serve(dir string) (*Node, error) {
	n := &Node{
		Endpoint: "unix://" + filepath.Join(dir, "front"),
		Direct:   "unix://" + filepath.Join(dir, "socket"),
		dir:      dir,
		keys:     make(map[string]*age.X25519Identity),
	}
	return n, n.Restart()
}

// Restart runs the node again after Stop, with the data that it had.
func (n *Node) Restart() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running != nil {
		return errors.New("the node runs already")
	}
	socket, err := url.Parse(n.Direct)
	if err != nil {
		return err
	}
	cfg := embed.NewConfig()
	cfg.Name = "test"
	cfg.Dir = n.Data()
	cfg.ListenClientUrls = []url.URL{*socket}
	cfg.ListenPeerUrls = nil // nobody else is there
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.UnsafeNoFsync = true
	cfg.BcryptCost = 4 // the least; passwords of tests need not be safe
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	running, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("starting etcd: %w", err)
	}
	select {
	case <-running.Server.ReadyNotify():
		if n.front, err = newProxy(filepath.Join(n.dir, "front"), socket.Path); err == nil {
			n.running = running
			return nil
		}
	case err = <-running.Err():
	case <-time.After(startLimit):
		err = errors.New("it is not ready in time")
	}
	running.Close()
	return fmt.Errorf("starting etcd: %w", err)
}

// Stop ends the node, as when its host goes down: clients are cut off. It does nothing if
// the node is stopped.
func (n *Node) Stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running != nil {
		n.front.close()
		n.running.Close()
		n.running = nil
	}
}

// Data is the directory with the data of the node. A test that takes it away, while the
// node is stopped, gets a new store with the same address.
func (n *Node) Data() string { return filepath.Join(n.dir, "data") }

// Client returns a client of the node, which is closed when the test ends.
func (n *Node) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	return client(t, []string{n.Endpoint})
}

// Store returns what the named host sees. It is closed when the test ends; a test that
// closes it earlier lets the host leave in order. To let one die, see Orphan.
func (n *Node) Store(t testing.TB, host string) *Store {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.keys[host] == nil {
		key, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		n.keys[host] = key
	}
	return &Store{n.store(t, host, []string{n.Endpoint}), n}
}

func (*Node) store(t testing.TB, host string, endpoints []string) *etcd.Store {
	t.Helper()
	s := etcd.New(client(t, endpoints), host, etcd.Options{})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // the node may be stopped
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

// Orphan writes a bound key as a host would that dies without a word: the key goes after
// mesh.TTL, or at once when the test calls the result.
func (n *Node) Orphan(t testing.TB, key string, value []byte) (die func()) {
	t.Helper()
	client := n.Client(t)
	lease, err := client.Grant(t.Context(), int64(mesh.TTL/time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), key, string(value), clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := client.Revoke(context.Background(), lease.ID); err != nil {
			t.Error(err)
		}
	}
}

// Seal implements mesh.Vault.
func (s *Store) Seal(_ context.Context, hosts []string, plain []byte) ([]byte, error) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	var recipients []age.Recipient
	var unknown []string
	for _, host := range hosts {
		if key := s.node.keys[host]; key != nil {
			recipients = append(recipients, key.Recipient())
		} else {
			unknown = append(unknown, host)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, fmt.Errorf("the mesh does not know the keys of %s", strings.Join(unknown, ", "))
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return sealed.Bytes(), nil
}

// Open implements mesh.Vault.
func (s *Store) Open(_ context.Context, sealed []byte) ([]byte, error) {
	s.node.mu.Lock()
	key := s.node.keys[s.Host()]
	s.node.mu.Unlock()
	r, err := age.Decrypt(bytes.NewReader(sealed), key)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
