package peer_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/pipeline/peer"
	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// secured opens the peer of a host until the test ends.
func secured(t *testing.T, dir, host, token string) *peer.Peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := peer.Open(ctx, peer.Options{
		Host: host, Dir: dir, Join: token,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)).With("at", host),
	})
	if err != nil {
		t.Fatalf("%s: %v", host, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	})
	return p
}

func invite(t *testing.T, by *peer.Peer, o identity.InviteOptions) string {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		token, err := identity.Invite(t.Context(), by.Store(), by.Identity(), o)
		if err == nil {
			text, err := token.Text()
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestHostsWithCertificatesFormAMeshInWhichOnlySomeServe(t *testing.T) {
	settled := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		// Some connections of etcd between servers notice only after seconds that they are over.
		for end := time.Now().Add(15 * time.Second); goleak.Find(settled) != nil && time.Now().Before(end); {
			time.Sleep(100 * time.Millisecond)
		}
	})
	dir := t.TempDir()
	if _, err := identity.Init(filepath.Join(dir, "a", "identity"), "a"); err != nil {
		t.Fatal(err)
	}
	a := secured(t, filepath.Join(dir, "a"), "a", "")
	b := secured(t, filepath.Join(dir, "b"), "b", invite(t, a, identity.InviteOptions{Serve: true}))
	c := secured(t, filepath.Join(dir, "c"), "c", invite(t, a, identity.InviteOptions{Serve: true}))
	d := secured(t, filepath.Join(dir, "d"), "d", invite(t, c, identity.InviteOptions{}))

	write := func(p *peer.Peer, key string) error {
		_, err := p.Store().Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put(key, []byte("x"))}})
		return err
	}
	for _, p := range []*peer.Peer{a, b, c, d} {
		if err := write(p, mesh.ExportKey(p.Store().Host(), "file", "x")); err != nil {
			t.Errorf("%s can't export: %v", p.Store().Host(), err)
		}
	}
	if err := write(d, mesh.ExportKey("a", "file", "x")); !errors.Is(err, mesh.ErrRefused) {
		t.Errorf("d exports in the name of a: %v", err)
	}
	// Three servers, of which none is on d.
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := d.Client().MemberList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		voters := 0
		for _, m := range resp.Members {
			if m.Name == "d" {
				t.Fatal("d serves")
			}
			if !m.IsLearner && strings.HasPrefix(strings.Join(m.PeerURLs, ""), "https://") {
				voters++
			}
		}
		if voters == 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("there are %d voters: %v", voters, resp.Members)
		}
	}
	sealed, err := a.Vault().Seal(t.Context(), []string{"d"}, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := d.Vault().Open(t.Context(), sealed); err != nil || string(plain) != "secret" {
		t.Errorf("d opens %q, %v", plain, err)
	}
	if _, err := b.Vault().Open(t.Context(), sealed); !errors.Is(err, identity.ErrNotForUs) {
		t.Errorf("b can open it: %v", err)
	}
}
