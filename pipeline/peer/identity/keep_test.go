package identity_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// keep renews the certificate of a host until the test ends.
func keep(t *testing.T, h *host, o identity.KeepOptions) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	o.Store = h.store
	wg.Go(func() { h.id.Keep(ctx, o) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func TestCertificatesAreRenewedWithoutARestart(t *testing.T) {
	const life = 3 * time.Second
	n := begin(t, func(o *identity.RegistrarOptions) { o.Life = life })
	b := n.join(t, "b", identity.InviteOptions{})
	var log journal
	keep(t, b, identity.KeepOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	first := b.id.ClientTLS()
	first.NextProtos = []string{"h2"}
	pair, err := first.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	// All that time b writes, over a connection that goes on and over new ones.
	for end := time.Now().Add(2 * life); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := put(t, b, mesh.AlivePrefix+"b"); err != nil {
			t.Fatal(err)
		}
	}
	fresh := n.connect(t, b.dir, b.id)
	if err := put(t, fresh, mesh.AlivePrefix+"b"); err != nil {
		t.Error(err)
	}
	if again, err := identity.Open(b.dir); err != nil || again.Host() != "b" {
		t.Errorf("after a restart: %v", err)
	}
	log.wait(t, "renewed the certificate of this host")
	if got := strings.Count(log.String(), "renewed the certificate"); got < 2 || got > 8 {
		t.Errorf("it was renewed %d times in %v, with a life of %v", got, 2*life, life)
	}
	now, err := first.GetClientCertificate(nil)
	if err != nil || string(now.Certificate[0]) == string(pair.Certificate[0]) {
		t.Errorf("connections still begin with the first certificate: %v", err)
	}
}

func TestAServerRenewsItsOwnCertificateAndServesOn(t *testing.T) {
	n := begin(t, nil)
	b := n.join(t, "b", identity.InviteOptions{Serve: true})
	before, err := os.ReadFile(filepath.Join(n.a.dir, "host.pem"))
	if err != nil {
		t.Fatal(err)
	}
	// Its first certificate is good for long: put one in its place that soon is not.
	if err := identity.Shorten(n.a.id, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	var log journal
	keep(t, n.a, identity.KeepOptions{Life: time.Hour, Log: slog.New(slog.NewTextHandler(&log, nil))})
	log.wait(t, "renewed the certificate of this host")
	after, err := os.ReadFile(filepath.Join(n.a.dir, "host.pem"))
	if err != nil || string(after) == string(before) {
		t.Fatalf("it has the same certificate: %v", err)
	}
	if err := put(t, n.connect(t, b.dir, b.id), mesh.AlivePrefix+"b"); err != nil {
		t.Error(err)
	}
	if err := put(t, n.connect(t, n.a.dir, n.a.id), mesh.AlivePrefix+"a"); err != nil {
		t.Error(err)
	}
	// It is known, so it can be revoked, by another.
	if _, err := identity.Forget(t.Context(), n.a.client, n.a.store, "a"); err == nil || !strings.Contains(err.Error(), "can't take itself out") {
		t.Errorf("it takes itself out: %v", err)
	}
	if served, err := identity.Forget(t.Context(), b.client, b.store, "a"); err != nil || !served {
		t.Fatalf("%v, %v", served, err)
	}
	n.log.wait(t, "closed a connection to the mesh", "host=a", "the certificate was revoked")
	config := n.a.id.ClientTLS()
	config.NextProtos = []string{"h2"}
	knock(t, n.server.PeerURLs(), config)
	n.log.wait(t, "rejected connection on peer endpoint", "revoked")
}

func TestAHostThatWasForgottenGetsNoNewCertificate(t *testing.T) {
	n := begin(t, func(o *identity.RegistrarOptions) { o.Life = 2 * time.Second })
	b := n.join(t, "b", identity.InviteOptions{})
	if _, err := identity.Forget(t.Context(), n.a.client, n.a.store, "b"); err != nil {
		t.Fatal(err)
	}
	b.store = n.a.store // which still tells it where to ask
	var log journal
	keep(t, b, identity.KeepOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	log.wait(t, "WARN", "can't renew the certificate of this host", "certificate was revoked")
	n.log.wait(t, "WARN", "refused to give a host a certificate", "host=b", "certificate was revoked")
}

func TestAHostWithoutACertificateHasNothingToRenew(t *testing.T) {
	id, err := identity.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id.Keep(t.Context(), identity.KeepOptions{})
}
