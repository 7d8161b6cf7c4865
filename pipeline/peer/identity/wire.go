package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// Where a Registrar answers. Both take a request and give an answer, as JSON.
const (
	joinPath  = "/v1/join"
	renewPath = "/v1/renew"
)

const (
	// maxMessage is how large a request or an answer may be, in bytes.
	maxMessage = 64 << 10

	// callLimit is how long one Registrar may take.
	callLimit = 10 * time.Second
)

// request asks for a certificate. To renew one needs the CSR alone: the connection says who
// asks.
type request struct {
	ID        string `json:"id,omitempty"`
	Secret    []byte `json:"secret,omitempty"`
	Host      string `json:"host,omitempty"`
	Recipient string `json:"recipient,omitempty"`
	CSR       []byte `json:"csr"` // PEM
}

// answer brings it, or says why not.
type answer struct {
	Error string `json:"error,omitempty"`

	Cert   []byte   `json:"cert,omitempty"`   // PEM
	CAKey  []byte   `json:"ca_key,omitempty"` // sealed for the recipient, if the host may serve
	CRL    []byte   `json:"crl,omitempty"`    // likewise only then
	Seeds  []string `json:"seeds,omitempty"`
	Rejoin bool     `json:"rejoin,omitempty"` // it was here before
}

// newCSR asks for a certificate for a host.
func newCSR(key *ecdsa.PrivateKey, host string) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: host}}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: csrType, Bytes: der}), nil
}

// parseCSR returns the key for which a host asks for a certificate: it has shown that it
// has it. All else that the request may say is of no concern.
func parseCSR(text []byte, host string) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != csrType {
		return nil, errors.New("the request holds no CSR")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("the CSR is no good: %w", err)
	}
	if csr.Subject.CommonName != host {
		return nil, fmt.Errorf("the CSR is for %q, not for %q", csr.Subject.CommonName, host)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the CSR has a key of another sort (%v), expected ECDSA with P-256", csr.PublicKeyAlgorithm)
	}
	return key, nil
}

// ErrNotAdmitted says that the mesh doesn't let this host in, or gives it no new
// certificate. Nothing is gained by asking again.
var ErrNotAdmitted = errors.New("the mesh has refused")

// refusal is a Registrar's no.
type refusal struct{ why string }

func (r *refusal) Error() string { return ErrNotAdmitted.Error() + ": " + r.why }

func (r *refusal) Unwrap() error { return ErrNotAdmitted }

// ask sends a request to the first Registrar that can be reached.
func ask(ctx context.Context, config *tls.Config, urls []string, path string, req request) (answer, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return answer{}, err
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, Proxy: nil}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: callLimit}
	var failures []error
	for _, url := range urls {
		a, err := post(ctx, client, url+path, body)
		if _, no := errors.AsType[*refusal](err); err == nil || no {
			return a, err
		}
		failures = append(failures, err)
	}
	return answer{}, fmt.Errorf("%w: %w", mesh.ErrUnreachable, errors.Join(failures...))
}

func post(ctx context.Context, client *http.Client, url string, body []byte) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, clockHint(err)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	err = errors.Join(err, resp.Body.Close())
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil {
		return answer{}, fmt.Errorf("%s has answered with %s, and what it said makes no sense", url, resp.Status)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return a, nil
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return answer{}, fmt.Errorf("%s: %s", url, a.Error)
	default:
		return answer{}, &refusal{a.Error}
	}
}

// clockHint adds what is most often wrong when a certificate is good at another time.
func clockHint(err error) error {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Errorf("%w: is the clock of this host right? It says %s", err, time.Now().Format(time.RFC3339))
	}
	return err
}

// pinned is how to talk to a Registrar whose authority is known by its fingerprint alone:
// it has to show a certificate of a host that serves, from that authority. The authority
// is then in found.
func pinned(want []byte, found **x509.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         ServerName,
		InsecureSkipVerify: true, // VerifyConnection does all that
		VerifyConnection: func(state tls.ConnectionState) error {
			for _, ca := range state.PeerCertificates[1:] {
				if !bytes.Equal(fingerprint(ca), want) {
					continue
				}
				err := checkServer(state.PeerCertificates[0], ca)
				if err == nil {
					*found = ca
				}
				return err
			}
			return errors.New("whoever answers there is not of the mesh that the token is for")
		},
	}
}
