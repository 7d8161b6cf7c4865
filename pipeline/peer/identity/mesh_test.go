package identity_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/pipeline/peer/server"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// journal keeps the lines of a log.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// wait fails unless a line comes that has all of the words.
func (j *journal) wait(t testing.TB, words ...string) {
	t.Helper()
	within(t, 10*time.Second, func() bool {
		for line := range strings.Lines(j.String()) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				t.Log(strings.TrimSpace(line))
				return true
			}
		}
		return false
	}, func() string { return "no line with " + strings.Join(words, ", ") + " in:\n" + j.String() })
}

func within(t testing.TB, limit time.Duration, ok func() bool, otherwise func() string) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(otherwise())
		}
	}
}

// host is one of the mesh, with its directory.
type host struct {
	name   string
	dir    string
	id     *identity.Identity
	client *clientv3.Client
	store  *etcd.Store
}

// network is a mesh with certificates whose first host, a, serves.
type network struct {
	log       *journal
	dir       string // of the server
	a         *host
	server    *server.Server
	guard     *identity.Guard
	registrar *identity.Registrar
}

func begin(t testing.TB, change func(*identity.RegistrarOptions)) *network {
	t.Helper()
	n := &network{log: &journal{}, dir: filepath.Join(t.TempDir(), "server")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(n.log.String())
		}
	})
	log := slog.New(slog.NewTextHandler(n.log, nil))
	dir := filepath.Join(t.TempDir(), "identity")
	id, err := identity.Init(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	n.guard = identity.NewGuard(id, log)
	n.server, err = server.Start(t.Context(), server.Options{
		Name: "a", Dir: n.dir, TLS: serverTLS(t, id), GRPC: n.guard.Options(),
		Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	n.a = n.connect(t, dir, id)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := identity.Enable(ctx, n.a.client, "a"); err != nil {
		t.Fatal(err)
	}
	o := identity.RegistrarOptions{
		Identity: id, Store: n.a.store, Client: n.a.client, Guard: n.guard, Listen: "127.0.0.1:0", Log: log,
	}
	if change != nil {
		change(&o)
	}
	n.registrar, err = identity.Register(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.registrar.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func serverTLS(t testing.TB, id *identity.Identity) server.TLS {
	t.Helper()
	f, ok := id.ServerTLS()
	if !ok {
		t.Fatal("the host may not serve")
	}
	return server.TLS{
		CertFile: f.Cert, KeyFile: f.Cert, CAFile: f.CA,
		PeerCertFile: f.Cert, PeerKeyFile: f.Cert, PeerCAFile: f.CA,
		ServerName: f.Name, CRLFile: f.CRL,
	}
}

// connect makes a host of an identity.
func (n *network) connect(t testing.TB, dir string, id *identity.Identity) *host {
	t.Helper()
	h := &host{name: id.Host(), dir: dir, id: id}
	var err error
	h.client, err = clientv3.New(etcd.Config(n.server.ClientURLs(), id.ClientTLS()))
	if err != nil {
		t.Fatal(err)
	}
	h.store = etcd.New(h.client, h.name, etcd.Options{})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = h.store.Close(ctx) // it fails for those that were forgotten
		_ = h.client.Close()
	})
	return h
}

func (n *network) invite(t testing.TB, o identity.InviteOptions) string {
	t.Helper()
	token, err := identity.Invite(t.Context(), n.a.store, n.a.id, o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := token.Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// join lets a host in, in a directory of its own.
func (n *network) join(t testing.TB, name string, o identity.InviteOptions) *host {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "identity")
	id, err := identity.Join(t.Context(), dir, name, n.invite(t, o))
	if err != nil {
		t.Fatal(err)
	}
	return n.connect(t, dir, id)
}

func put(t testing.TB, h *host, key string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := h.store.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put(key, []byte("from "+h.name))}})
	return err
}

func dial(t testing.TB, urls []string) string {
	t.Helper()
	addr := strings.TrimPrefix(urls[0], "https://")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		t.Fatal(err)
	}
	return addr
}
