package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/pipeline/peer/server"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// asHost makes a certificate of a name with the key of a mesh's authority, good from and
// until some time from now.
func asHost(t *testing.T, dir, name string, from, until time.Duration) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(until),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, pair.Leaf, key.Public(), pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
		},
	}
}

// knock dials a server, and fails if it is let in.
func knock(t *testing.T, urls []string, config *tls.Config) {
	t.Helper()
	conn, err := tls.Dial("tcp", dial(t, urls), config)
	if err != nil {
		return
	}
	defer conn.Close()
	// With TLS 1.3 a client learns only when it reads what the server thinks of it.
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("the server has let it in, and said %d byte", n)
	} else if !strings.Contains(err.Error(), "tls: ") && !errors.Is(err, io.EOF) {
		t.Errorf("the server has not refused it, but %v", err)
	}
}

func TestAConnectionIsRefusedWithALineInTheLog(t *testing.T) {
	n := begin(t, nil)
	b := n.join(t, "b", identity.InviteOptions{})
	foreign := filepath.Join(t.TempDir(), "foreign")
	if _, err := identity.Init(foreign, "a"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		config *tls.Config
		want   string
	}{
		{"without a certificate", &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}, "client didn't provide a certificate"},
		{"with a certificate of another authority", asHost(t, foreign, "a", -time.Hour, time.Hour), "unknown authority"},
		{"with one that has expired", asHost(t, n.a.dir, "a", -2*time.Hour, -time.Hour), "certificate has expired"},
		{"with one that is not good yet", asHost(t, n.a.dir, "a", time.Hour, 2*time.Hour), "certificate has expired or is not yet valid"},
		{"without TLS", nil, "first record does not look like a TLS handshake"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.config == nil {
				client, err := clientv3.New(etcd.Config([]string{"http://" + dial(t, n.server.ClientURLs())}, nil))
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				if _, err := client.Get(ctx, mesh.IDKey); err == nil {
					t.Error("it was let in")
				}
			} else {
				knock(t, n.server.ClientURLs(), c.config)
			}
			n.log.wait(t, "WARN", "refused a connection to the mesh", c.want)
		})
	}
	t.Run("of a host that doesn't serve to the port for servers", func(t *testing.T) {
		config := b.id.ClientTLS()
		config.NextProtos = []string{"h2"}
		knock(t, n.server.PeerURLs(), config)
		n.log.wait(t, "WARN", "rejected connection on peer endpoint")
	})
}

func TestWhatAHostMayNotDoIsRefusedWithALineInTheLog(t *testing.T) {
	n := begin(t, nil)
	b := n.join(t, "b", identity.InviteOptions{})
	n.join(t, "bb", identity.InviteOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := put(t, n.a, mesh.ExportKey("a", "file", "x")); err != nil {
		t.Fatal(err)
	}
	members, err := b.client.MemberList(ctx)
	if err != nil {
		t.Fatal(err)
	}
	write := func(key string) func() error { return func() error { return put(t, b, key) } }
	for _, c := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"to export in another's name", write(mesh.ExportKey("a", "file", "y")), []string{"keys=/mgmt/export/a/file/y", "call=Txn"}},
		{"to export in the name of one whose name begins alike", write(mesh.ExportKey("bb", "file", "y")), []string{"keys=/mgmt/export/bb/file/y"}},
		{"to be there for another", write(mesh.AlivePrefix + "a"), []string{"keys=/mgmt/alive/a"}},
		{"to be there for one whose name begins alike", write(mesh.AlivePrefix + "bb"), []string{"keys=/mgmt/alive/bb"}},
		{"to change for whom another's secrets are sealed", write(mesh.HostPrefix + "a"), []string{"keys=/mgmt/host/a"}},
		{"to be quiet for another", write(mesh.QuietPrefix + "a"), []string{"keys=/mgmt/quiet/a"}},
		{"to hold a semaphore for another", write(mesh.HoldPrefix + "a/s"), []string{"keys=/mgmt/hold/a/s"}},
		{"to offer another for a role", write(mesh.RolePrefix + "a/r"), []string{"keys=/mgmt/role/a/r"}},
		{"to set what is for the mesh as a whole", write(mesh.SettingPrefix + "ideal-size"), []string{"keys=/mgmt/setting/ideal-size"}},
		{"to write what is for servers", write(mesh.ServerPrefix + "x"), []string{"keys=/mgmt/server/x"}},
		{"to write beside the keys of the mesh", write("/other"), []string{"keys=/other"}},
		{"to take another's exports away", func() error {
			_, err := b.client.Delete(ctx, mesh.ExportPrefix, clientv3.WithPrefix())
			return err
		}, []string{"call=DeleteRange", "keys=/mgmt/export/..."}},
		{"to read the tokens", func() error {
			_, err := b.client.Get(ctx, mesh.IdentityPrefix, clientv3.WithPrefix())
			return err
		}, []string{"call=Range", "keys=/mgmt/identity/..."}},
		{"to watch all there is", func() error {
			for r := range b.client.Watch(ctx, mesh.Root, clientv3.WithPrefix()) {
				if err := r.Err(); err != nil {
					return err
				}
			}
			return ctx.Err()
		}, []string{"call=Watch", "keys=/mgmt/..."}},
		{"to add a member", func() error {
			_, err := b.client.MemberAddAsLearner(ctx, []string{"https://192.0.2.1:2380"})
			return err
		}, []string{"call=MemberAdd"}},
		{"to remove a member", func() error {
			_, err := b.client.MemberRemove(ctx, members.Members[0].ID)
			return err
		}, []string{"call=MemberRemove"}},
		{"to promote a member", func() error {
			_, err := b.client.MemberPromote(ctx, members.Members[0].ID)
			return err
		}, []string{"call=MemberPromote"}},
		{"to get more rights", func() error {
			_, err := b.client.UserGrantRole(ctx, "b", "root")
			return err
		}, []string{"call=UserGrantRole"}},
		{"to end access control", func() error {
			_, err := b.client.AuthDisable(ctx)
			return err
		}, []string{"call=AuthDisable"}},
		{"to compact", func() error {
			_, err := b.client.Compact(ctx, 1)
			return err
		}, []string{"call=Compact"}},
		{"to take a snapshot of the database", func() error {
			r, err := b.client.Snapshot(ctx)
			if err == nil {
				_, err = io.ReadAll(r)
			}
			return err
		}, []string{"call=Snapshot"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.do()
			if err == nil || !strings.Contains(err.Error(), "permission denied") && !errors.Is(err, mesh.ErrRefused) {
				t.Errorf("it was not refused, but: %v", err)
			}
			n.log.wait(t, append(c.want, "WARN", "refused what a host has asked of the mesh", "host=b ")...)
		})
	}
	after, err := n.a.store.List(ctx, mesh.Root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range after.Entries {
		if strings.Contains(string(e.Value), "from b") {
			t.Errorf("%s is from b", e.Key)
		}
	}
}

func TestAHostThatWasForgottenIsOutAtOnce(t *testing.T) {
	n := begin(t, nil)
	b := n.join(t, "b", identity.InviteOptions{})
	if err := put(t, b, mesh.ExportKey("b", "file", "x")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watching := b.client.Watch(ctx, mesh.ExportPrefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watching
	if served, err := identity.Forget(ctx, n.a.client, n.a.store, "b"); err != nil || served {
		t.Fatalf("%v, %v", served, err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := b.store.Write(short, mesh.Txn{Ops: []mesh.Op{mesh.Put(mesh.ExportKey("b", "file", "y"), nil)}}); err == nil {
		t.Error("it can still write")
	}
	n.log.wait(t, "WARN", "closed a connection to the mesh", "host=b", "the certificate was revoked")
	if err := put(t, n.a, mesh.ExportKey("a", "file", "secret")); err != nil {
		t.Fatal(err)
	}
	ended := time.After(time.Second) // the client goes on trying
	for open := true; open; {
		select {
		case r, ok := <-watching:
			open = ok
			if len(r.Events) > 0 {
				t.Error("it still sees what changes")
			}
		case <-ended:
			open = false
		}
	}
	config := b.id.ClientTLS()
	config.NextProtos = []string{"h2"}
	knock(t, n.server.ClientURLs(), config)
	n.log.wait(t, "WARN", "refused a connection to the mesh", "the certificate was revoked")
	c := n.join(t, "b", identity.InviteOptions{}) // the name is free, and another host may take it
	if err := put(t, c, mesh.ExportKey("b", "file", "z")); err != nil {
		t.Error(err)
	}
}

func TestWhatWasRevokedStaysSoAfterARestartOfTheServer(t *testing.T) {
	n := begin(t, nil)
	b := n.join(t, "b", identity.InviteOptions{})
	if _, err := identity.Forget(t.Context(), n.a.client, n.a.store, "b"); err != nil {
		t.Fatal(err)
	}
	config := b.id.ClientTLS()
	config.NextProtos = []string{"h2"}
	within(t, 10*time.Second, func() bool { return n.registrar.Revoked() == 1 }, func() string { return "the registrar doesn't know" })
	if err := n.registrar.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Nobody tells this one.
	var log journal
	again, err := server.Start(t.Context(), server.Options{
		Name: "a", Dir: n.dir, TLS: serverTLS(t, n.a.id),
		GRPC: identity.NewGuard(n.a.id, slog.New(slog.NewTextHandler(&log, nil))).Options(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Stop(context.Background())
	knock(t, again.ClientURLs(), config)
	log.wait(t, "refused a connection to the mesh", "the certificate was revoked")
}
