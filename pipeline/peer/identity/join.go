package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/internal/files"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// Join gets a certificate for a host with the text of a token, and keeps it in a directory.
// It fails with ErrNotAdmitted if the token is no good, and with mesh.ErrUnreachable if none
// of the hosts answers that could give one; then it can be called again, and the token is
// still good even if the answer alone was lost. A host that has a certificate of that mesh
// keeps it, whatever has become of the token.
func Join(ctx context.Context, dir, host, token string) (*Identity, error) {
	if err := CheckHost(host); err != nil {
		return nil, err
	}
	t, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	id, err := Open(dir)
	if err != nil {
		return nil, err
	}
	if id.Secured() {
		if err := id.Check(host); err != nil {
			return nil, err
		}
		if want := hex.EncodeToString(t.Fingerprint); id.Fingerprint() != want {
			return nil, fmt.Errorf("the token is for another mesh than the certificate in %s: move the directory away to leave that mesh", dir)
		}
		return id, nil
	}
	if err := id.join(ctx, host, t); err != nil {
		return nil, fmt.Errorf("joining the mesh: %w", err)
	}
	return id, nil
}

func (i *Identity) join(ctx context.Context, host string, t Token) error {
	key, err := i.pendingKey()
	if err != nil {
		return err
	}
	csr, err := newCSR(key, host)
	if err != nil {
		return err
	}
	var ca *x509.Certificate
	a, err := ask(ctx, pinned(t.Fingerprint, &ca), t.URLs, joinPath,
		request{ID: t.ID, Secret: t.Secret, Host: host, Recipient: i.Recipient(), CSR: csr})
	if err != nil {
		return err
	}
	leaf, err := checkAnswer(a, key, ca, host)
	if err != nil {
		return err
	}
	if err := i.keepAnswer(a, ca, leaf); err != nil {
		return err
	}
	if err := i.keep(key, leaf, nil); err != nil {
		return err
	}
	return os.Remove(i.path(pendingFile))
}

// pendingKey is the key for which a certificate is asked for, until there is one: the same
// if an answer gets lost, since the token is good for no other.
func (i *Identity) pendingKey() (*ecdsa.PrivateKey, error) {
	path := i.path(pendingFile)
	text, err := readKey(path)
	if err == nil {
		key, err := decodeKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s holds no key: %w", path, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	if text, err = encodeKey(key); err != nil {
		return nil, err
	}
	return key, files.Replace(path, text, 0o600)
}

// checkAnswer says whether an answer brings what was asked for.
func checkAnswer(a answer, key *ecdsa.PrivateKey, ca *x509.Certificate, host string) (*x509.Certificate, error) {
	leaf, err := parseCert(a.Cert)
	if err != nil {
		return nil, fmt.Errorf("the answer holds no certificate: %w", err)
	}
	if err := checkLeaf(leaf, ca); err != nil {
		return nil, err
	}
	if leaf.Subject.CommonName != host || !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("the answer holds a certificate of somebody else, %q", leaf.Subject.CommonName)
	}
	return leaf, nil
}

// keepAnswer writes what came with a certificate.
func (i *Identity) keepAnswer(a answer, ca, leaf *x509.Certificate) error {
	err := files.Replace(i.path(caFile), encodeCert(ca), 0o644)
	if err == nil && len(a.Seeds) > 0 {
		var text []byte
		if text, err = json.Marshal(a.Seeds); err == nil {
			err = files.Replace(i.path(seedsFile), append(text, '\n'), 0o644)
		}
	}
	if err != nil || !serves(leaf) {
		return err
	}
	text, err := i.Open(a.CAKey)
	if err != nil {
		return fmt.Errorf("the key of the authority: %w", err)
	}
	if err := files.Replace(i.path(caKeyFile), text, 0o600); err != nil {
		return err
	}
	if _, err := x509.ParseRevocationList(a.CRL); err != nil {
		return fmt.Errorf("the list of revoked certificates: %w", err)
	}
	return files.Replace(i.path(crlFile), a.CRL, 0o644)
}

// KeepOptions say how a certificate is kept good.
type KeepOptions struct {
	// Store is the mesh, which knows where certificates are renewed.
	Store mesh.Store

	// Life is how long a certificate is good that this host makes for itself: the Life of
	// this package if it is 0.
	Life time.Duration

	// Log is told of each renewal, and of what fails.
	Log *slog.Logger
}

const (
	// look is how often a host looks whether its certificate is due. It is not waited for
	// until then at once, since clocks are set and machines sleep.
	look = time.Hour

	// again is after how long what has failed is tried again, at first, and doubled then.
	again = 10 * time.Second
)

// Keep renews the certificate of this host each time that a third of its life is left, until
// ctx ends. Connections that there are go on with the old one, new ones begin with the new
// one. Without a certificate it returns at once.
func (i *Identity) Keep(ctx context.Context, o KeepOptions) {
	if o.Life == 0 {
		o.Life = Life
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	failed := again
	for {
		leaf, _ := i.certificate()
		if leaf == nil {
			return
		}
		wait := min(look, time.Until(due(leaf)))
		if wait <= 0 {
			if err := i.renew(ctx, o); err == nil {
				failed = again
				continue
			} else if ctx.Err() == nil {
				o.Log.Warn("can't renew the certificate of this host", "expires", leaf.NotAfter, "again", failed, "error", err)
			}
			wait, failed = failed, min(2*failed, look)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// due is when a certificate is to be renewed: not at the same time on all hosts that were
// set up at the same time.
func due(leaf *x509.Certificate) time.Time {
	third := leaf.NotAfter.Sub(leaf.NotBefore) / 3
	spread := time.Duration(leaf.SerialNumber.Bytes()[0]) * third / 10 / 256
	return leaf.NotAfter.Add(-third - spread)
}

func (i *Identity) renew(ctx context.Context, o KeepOptions) error {
	old, ca := i.certificate()
	host := old.Subject.CommonName
	if a, err := i.authority(); err == nil && i.Serves() {
		leaf, err := i.sign(a, host, true, o.Life)
		if err != nil {
			return err
		}
		o.Log.Info("renewed the certificate of this host", "expires", leaf.NotAfter)
		if err := noteOwn(ctx, o.Store, i); err != nil { // it is done at the next start, then
			o.Log.Warn("can't tell the mesh of the new certificate of this host", "error", err)
		}
		return nil
	}
	urls, err := joinURLs(ctx, o.Store)
	if err != nil {
		return err
	}
	rand.Shuffle(len(urls), func(a, b int) { urls[a], urls[b] = urls[b], urls[a] })
	key, err := newKey()
	if err != nil {
		return err
	}
	csr, err := newCSR(key, host)
	if err != nil {
		return err
	}
	a, err := ask(ctx, i.ClientTLS(), urls, renewPath, request{CSR: csr})
	if err != nil {
		return err
	}
	leaf, err := checkAnswer(a, key, ca, host)
	if err != nil {
		return err
	}
	if err := i.keep(key, leaf, nil); err != nil {
		return err
	}
	o.Log.Info("renewed the certificate of this host", "expires", leaf.NotAfter)
	return nil
}
