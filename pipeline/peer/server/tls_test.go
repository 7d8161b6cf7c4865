package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

// certificates makes a certificate that signs itself, for servers and clients alike.
func certificates(t *testing.T) server.TLS {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, keyFile := write("cert.pem", "CERTIFICATE", der), write("key.pem", "EC PRIVATE KEY", secret)
	return server.TLS{
		CertFile: cert, KeyFile: keyFile, CAFile: cert,
		PeerCertFile: cert, PeerKeyFile: keyFile, PeerCAFile: cert,
	}
}

func TestOnlyClientsWithACertificateAreLetIn(t *testing.T) {
	files := certificates(t)
	s := start(t, server.Options{Name: "a", TLS: files})
	b := start(t, add(t, server.Options{Name: "b", TLS: files}, s))
	promote(t, b, s)
	put(t, s, "x", "y")
	text, err := os.ReadFile(files.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	own, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		config *tls.Config
		in     bool
	}{
		{"one with a certificate", &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}, true},
		{"one without", &tls.Config{RootCAs: roots}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := clientv3.New(clientv3.Config{
				Endpoints: s.ClientURLs(), TLS: c.config, Logger: server.Zap(slog.New(slog.DiscardHandler)),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			limit := 300 * time.Millisecond
			if c.in {
				limit = patience
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if _, err := client.Get(ctx, "x"); (err == nil) != c.in {
				t.Errorf("reading x: %v", err)
			}
		})
	}
}
