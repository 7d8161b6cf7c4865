package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/internal/files"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

const (
	// Life is how long a certificate is good. It is renewed when a third of that is left:
	// a host that is away for longer needs a new token.
	Life = 90 * 24 * time.Hour

	caLife = 20 * 365 * 24 * time.Hour

	// early is by how much what is made now is good already before, for hosts whose
	// clocks are behind.
	early   = time.Hour
	caEarly = 24 * time.Hour

	certType = "CERTIFICATE"
	keyType  = "PRIVATE KEY"
	csrType  = "CERTIFICATE REQUEST"
)

// superuser is the name of etcd's own administrator. Nobody gets a certificate for it.
const superuser = "root"

// CheckHost says what is wrong with the name of a host in a mesh with certificates.
func CheckHost(host string) error {
	if err := mesh.CheckHost(host); err != nil {
		return err
	}
	if host == superuser {
		return fmt.Errorf("a host can't be called %q, since that is the name of etcd's administrator", host)
	}
	return nil
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// newAuthority makes the authority of a new mesh.
func newAuthority() (*authority, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		// The serial number tells one mesh from another.
		Subject:               pkix.Name{CommonName: "mgmt mesh", SerialNumber: serial.Text(16)},
		NotBefore:             now.Add(-caEarly),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert: cert, key: key}, err
}

// issue makes the certificate of a host. The name ServerName gives it the rank to serve.
func (a *authority) issue(key *ecdsa.PublicKey, host string, serve bool, life time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: host},
		NotBefore:             now.Add(-min(early, life/4)),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	if serve {
		template.DNSNames = []string{ServerName}
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// list makes the list of the certificates that were revoked.
func (a *authority) list(serials []string) ([]byte, error) {
	now := time.Now()
	template := &x509.RevocationList{
		Number:     big.NewInt(now.UnixNano()),
		ThisUpdate: now.Add(-caEarly),
		NextUpdate: now.Add(caLife),
	}
	for _, text := range serials {
		serial, ok := new(big.Int).SetString(text, 16)
		if !ok {
			return nil, fmt.Errorf("%q is no serial number of a certificate", text)
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now})
	}
	return x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
}

// revoked are the serial numbers in the list that this host has, if it has one.
func (i *Identity) revoked() ([]string, error) {
	if _, ok := i.ServerTLS(); !ok {
		return nil, nil
	}
	path := i.path(crlFile)
	der, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("%s holds no list of revoked certificates: %w", path, err)
	}
	_, ca := i.certificate()
	if err := list.CheckSignatureFrom(ca); err != nil {
		return nil, fmt.Errorf("%s is not from the authority of this mesh: %w", path, err)
	}
	serials := make([]string, len(list.RevokedCertificateEntries))
	for n, e := range list.RevokedCertificateEntries {
		serials[n] = e.SerialNumber.Text(16)
	}
	return serials, nil
}

func serialOf(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

func encodeCert(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certType, Bytes: cert.Raw})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}), nil
}

func decodeKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyType {
		return nil, errors.New("there is no block PRIVATE KEY in it")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if key, ok := key.(*ecdsa.PrivateKey); ok {
		return key, nil
	}
	return nil, fmt.Errorf("it is a %T, expected a key for ECDSA", key)
}

// authority reads the key with which this host admits others.
func (i *Identity) authority() (*authority, error) {
	_, ca := i.certificate()
	if ca == nil {
		return nil, errors.New("this host has no certificate")
	}
	path := i.path(caKeyFile)
	text, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("this host can't admit others, since it was not invited with --serve: %w", err)
	} else if err != nil {
		return nil, err
	}
	key, err := decodeKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s holds no key: %w", path, err)
	}
	if !key.PublicKey.Equal(ca.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of the authority in %s", path, i.path(caFile))
	}
	return &authority{cert: ca, key: key}, nil
}

// Init makes the authority of a new mesh in a directory, and a certificate for its first
// host, which may serve. It fails if there is one already.
func Init(dir, host string) (*Identity, error) {
	if err := CheckHost(host); err != nil {
		return nil, err
	}
	id, err := Open(dir)
	if err != nil {
		return nil, err
	}
	if id.Secured() {
		return nil, fmt.Errorf("%s has a certificate of host %q already: to begin anew, move the directory away", dir, id.Host())
	}
	a, err := newAuthority()
	if err != nil {
		return nil, err
	}
	text, err := encodeKey(a.key)
	if err == nil {
		err = files.Replace(id.path(caKeyFile), text, 0o600)
	}
	if err == nil {
		err = files.Replace(id.path(caFile), encodeCert(a.cert), 0o644)
	}
	if err == nil {
		_, err = id.sign(a, host, true, Life)
	}
	return id, err
}

// sign gives this host a new key and a certificate that is made here.
func (i *Identity) sign(a *authority, host string, serve bool, life time.Duration) (*x509.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	leaf, err := a.issue(&key.PublicKey, host, serve, life)
	if err != nil {
		return nil, err
	}
	return leaf, i.keep(key, leaf, a)
}

// keep writes what makes a host Secured, the certificate last.
func (i *Identity) keep(key *ecdsa.PrivateKey, leaf *x509.Certificate, a *authority) error {
	if _, err := os.Stat(i.path(crlFile)); serves(leaf) && errors.Is(err, fs.ErrNotExist) {
		list, err := a.list(nil)
		if err == nil {
			err = files.Replace(i.path(crlFile), list, 0o644)
		}
		if err != nil {
			return err
		}
	}
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	if err := files.Replace(i.path(hostFile), append(text, encodeCert(leaf)...), 0o600); err != nil {
		return err
	}
	return i.reload()
}
