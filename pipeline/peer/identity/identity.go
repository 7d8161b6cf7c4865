// Package identity says who a host of a mesh is, and proves it. A mesh whose hosts speak
// over a network has a certificate authority of its own. Init makes it, with the first
// host; Invite makes a token, with which Join gets a certificate for one more host from a
// Registrar, which runs on the hosts that may serve. Etcd knows a host by its certificate,
// and Enable and Provision tell etcd what each may read and write. Seal hides a value from
// all hosts but some.
package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"filippo.io/age"

	"github.com/mgmtproject/mgmt/pipeline/peer/internal/files"
)

// ServerName is in the certificates of the hosts that may serve, and in no others. Who
// dials a server expects this name, whatever the address: so addresses may change.
const ServerName = "server.mgmt.internal"

// The files of an identity. The certificate and its key are in one, so that both are
// replaced at once.
const (
	ageFile     = "age.key"
	caFile      = "ca.crt"
	caKeyFile   = "ca.key"
	hostFile    = "host.pem"
	crlFile     = "revoked.crl"
	seedsFile   = "seeds.json"
	pendingFile = "join.key"
)

// Identity is that of one host, kept in a directory. Its methods may be called from any
// goroutine.
type Identity struct {
	dir string
	age *age.X25519Identity

	mu   sync.Mutex
	leaf *x509.Certificate // nil as long as there is none
	ca   *x509.Certificate
}

// Open reads the identity in a directory. If there is none it makes the directory, with
// mode 0700, and in it the key for which secrets are sealed; it makes no certificate.
func Open(dir string) (*Identity, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ageKey(filepath.Join(dir, ageFile))
	if err != nil {
		return nil, err
	}
	id := &Identity{dir: dir, age: key}
	return id, id.reload()
}

// ageKey reads the key in a file, or makes one.
func ageKey(path string) (*age.X25519Identity, error) {
	text, err := readKey(path)
	if err == nil {
		key, err := age.ParseX25519Identity(string(bytes.TrimSpace(text)))
		if err != nil {
			return nil, fmt.Errorf("%s holds no key of age: %w", path, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	return key, files.Replace(path, []byte(key.String()+"\n"), 0o600)
}

// reload reads the certificates.
func (i *Identity) reload() error {
	pair, err := i.pair()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	ca, err := readCert(i.path(caFile))
	if err != nil {
		return err
	}
	if err := checkLeaf(pair.Leaf, ca); err != nil {
		return fmt.Errorf("%s: %w", i.path(hostFile), err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.leaf, i.ca = pair.Leaf, ca
	return nil
}

func (i *Identity) path(name string) string { return filepath.Join(i.dir, name) }

// pair reads the certificate of this host, with its key.
func (i *Identity) pair() (*tls.Certificate, error) {
	path := i.path(hostFile)
	text, err := readKey(path)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("%s holds no certificate with its key: %w", path, err)
	}
	return &pair, nil
}

// checkLeaf says whether a certificate was made by an authority, at whatever time.
func checkLeaf(leaf, ca *x509.Certificate) error {
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("the certificate is not from the authority of this mesh: %w", err)
	}
	return nil
}

// certificate returns that of this host and that of the authority, or nil.
func (i *Identity) certificate() (leaf, ca *x509.Certificate) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.leaf, i.ca
}

// Secured says whether this host has a certificate. Without one it speaks plainly, and
// with hosts on its own loopback only: see Allow.
func (i *Identity) Secured() bool {
	leaf, _ := i.certificate()
	return leaf != nil
}

// Host is the name in the certificate, or "" without one.
func (i *Identity) Host() string {
	leaf, _ := i.certificate()
	if leaf == nil {
		return ""
	}
	return leaf.Subject.CommonName
}

// Check fails if the certificate is for another host.
func (i *Identity) Check(host string) error {
	if have := i.Host(); have != "" && have != host {
		return fmt.Errorf("the certificate in %s is for host %q, not for %q: start with --hostname %s, or join the mesh as %s with another --prefix",
			i.dir, have, host, have, host)
	}
	return nil
}

// Serves says whether this host has the rank to run a server, to lead, and to admit others.
// In a mesh without certificates every host has.
func (i *Identity) Serves() bool {
	leaf, _ := i.certificate()
	return leaf == nil || serves(leaf)
}

func serves(leaf *x509.Certificate) bool { return leaf.VerifyHostname(ServerName) == nil }

// Fingerprint is the SHA-256 sum of the authority's certificate in hexadecimal digits, or
// "" without one.
func (i *Identity) Fingerprint() string {
	_, ca := i.certificate()
	if ca == nil {
		return ""
	}
	return hex.EncodeToString(fingerprint(ca))
}

func fingerprint(ca *x509.Certificate) []byte {
	sum := sha256.Sum256(ca.Raw)
	return sum[:]
}

// Recipient is the public key for which others seal what only this host may read: see Seal.
func (i *Identity) Recipient() string { return i.age.Recipient().String() }

// Seeds are the URLs of the servers that this host was told when it joined.
func (i *Identity) Seeds() []string {
	var seeds []string
	if text, err := os.ReadFile(i.path(seedsFile)); err == nil {
		_ = json.Unmarshal(text, &seeds) // they are a hint, and others may be given
	}
	return seeds
}

// ClientTLS is how this host dials a server, or nil without a certificate. It stays good
// when the certificate is renewed.
func (i *Identity) ClientTLS() *tls.Config {
	_, ca := i.certificate()
	if ca == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         ServerName,
		InsecureSkipVerify: true, // VerifyConnection does all that, and grpc would expect an address
		VerifyConnection: func(state tls.ConnectionState) error {
			return checkServer(state.PeerCertificates[0], ca)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return i.pair()
		},
	}
}

// checkServer says whether a certificate is one of a host that serves, now.
func checkServer(leaf, ca *x509.Certificate) error {
	_, err := leaf.Verify(x509.VerifyOptions{
		DNSName:   ServerName,
		Roots:     pool(ca),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func pool(ca *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca)
	return p
}

// ServerFiles are what an embedded etcd needs to serve with TLS, both its clients and the
// other servers. Etcd reads all but CA at each handshake.
type ServerFiles struct {
	// Cert holds the certificate and its key: etcd is given it for both.
	Cert string

	// CA is the certificate of the authority: clients and servers without a certificate
	// from it are refused.
	CA string

	// CRL is the list of the certificates that were revoked.
	CRL string

	// Name is ServerName: what a server expects of another that it dials, and of each
	// that dials it on the port for servers. The addresses in certificates don't count.
	Name string
}

// ServerTLS returns the files of this host, and false if it has no certificate with which
// it may serve.
func (i *Identity) ServerTLS() (ServerFiles, bool) {
	if !i.Secured() || !i.Serves() {
		return ServerFiles{}, false
	}
	return ServerFiles{
		Cert: i.path(hostFile),
		CA:   i.path(caFile),
		CRL:  i.path(crlFile),
		Name: ServerName,
	}, true
}

// readCert reads the only certificate of a file.
func readCert(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cert, err := parseCert(text)
	if err != nil {
		return nil, fmt.Errorf("%s holds no certificate: %w", path, err)
	}
	return cert, nil
}

func parseCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != certType {
		return nil, errors.New("there is no block CERTIFICATE in it")
	}
	return x509.ParseCertificate(block.Bytes)
}
