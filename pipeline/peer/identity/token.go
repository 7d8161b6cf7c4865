package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"regexp"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

const (
	// InviteLife is how long a token is good if nobody says otherwise.
	InviteLife = time.Hour

	// maxInviteLife is the longest that a token may be good.
	maxInviteLife = 30 * 24 * time.Hour

	tokenMark   = "mgmt1-" // a token of the first form that there is
	secretBytes = 32

	// maxCerts is how many certificates of a host the mesh remembers. A host gets a new one
	// when two thirds of its life are over, so all but two or three have expired.
	maxCerts = 50

	idBytes = 8
)

// The keys of what the servers keep of tokens and certificates.
const (
	tokenPrefix   = mesh.IdentityPrefix + "token/"
	certPrefix    = mesh.IdentityPrefix + "cert/"
	revokedPrefix = mesh.IdentityPrefix + "revoked/"

	// joinPrefix has a key for each Registrar, which all hosts may read, with its URL.
	joinPrefix = mesh.ServerPrefix + "join/"
)

var idForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Token lets one host in, once. Who has its text can join, so it is to be kept secret until
// it was used.
type Token struct {
	// URLs are where to join.
	URLs []string `json:"urls"`

	// ID is its name, which is no secret.
	ID string `json:"id"`

	// Secret shows that whoever comes was invited.
	Secret []byte `json:"secret"`

	// Fingerprint is that of the authority: who joins talks to nobody else.
	Fingerprint []byte `json:"ca"`

	// Expires is until when it is good, in seconds since 1970.
	Expires int64 `json:"expires"`
}

// Text is what is handed to the new host: letters, digits, dashes and underscores.
func (t Token) Text() (string, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	text = binary.BigEndian.AppendUint32(text, crc32.ChecksumIEEE(text))
	return tokenMark + base64.RawURLEncoding.EncodeToString(text), nil
}

// ParseToken reads what Text has made.
func ParseToken(s string) (Token, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), tokenMark)
	if !ok {
		return Token{}, fmt.Errorf("it is no token: expected what \"mgmt mesh invite\" has printed, which begins with %s", tokenMark)
	}
	damaged := errors.New("the token is damaged: was it copied as a whole?")
	text, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil || len(text) < crc32.Size {
		return Token{}, damaged
	}
	text, sum := text[:len(text)-crc32.Size], text[len(text)-crc32.Size:]
	var t Token
	if binary.BigEndian.Uint32(sum) != crc32.ChecksumIEEE(text) || json.Unmarshal(text, &t) != nil {
		return Token{}, damaged
	}
	if err := checkURLs(t.URLs); err != nil {
		return Token{}, err
	}
	if !idForm.MatchString(t.ID) || len(t.Secret) != secretBytes || len(t.Fingerprint) != sha256.Size || len(t.URLs) == 0 {
		return Token{}, errors.New("the token is from another version of mgmt")
	}
	return t, nil
}

// checkURLs says whether secrets can be sent to all URLs.
func checkURLs(urls []string) error {
	for _, text := range urls {
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Port() == "" || u.Path != "" {
			return fmt.Errorf("nobody can join at %q, expected a URL such as https://192.0.2.1:2381", text)
		}
	}
	return nil
}

// invitation is what the mesh keeps of a token. Its secret can't be found from it.
type invitation struct {
	Hash    []byte    `json:"hash"`
	Serve   bool      `json:"serve,omitempty"`
	Host    string    `json:"host,omitempty"`
	By      string    `json:"by"`
	Expires time.Time `json:"expires"`
	Used    *use      `json:"used,omitempty"`
}

// use says who has used a token. With the same key the same host may come again, since an
// answer can get lost.
type use struct {
	Host string    `json:"host"`
	Key  []byte    `json:"key"`
	From string    `json:"from"`
	At   time.Time `json:"at"`

	// Again says that the host was in the mesh before.
	Again bool `json:"again,omitempty"`
}

func hashOf(secret []byte) []byte {
	sum := sha256.Sum256(secret)
	return sum[:]
}

func (inv invitation) knows(secret []byte) bool {
	return subtle.ConstantTimeCompare(inv.Hash, hashOf(secret)) == 1
}

// InviteOptions say whom a token is for.
type InviteOptions struct {
	// Serve lets the host run a server, lead the mesh, and invite others. It sees all that
	// the mesh has, and gets the key of the authority.
	Serve bool

	// Host is the only name under which it may join, even if there is a host of that name:
	// then its certificates are revoked. Without it any name is good that is not taken.
	Host string

	// Life is how long the token is good: InviteLife if it is 0.
	Life time.Duration

	// URLs are where to join instead of those that the mesh knows of.
	URLs []string
}

// Invite makes a token, in the name of a host that serves, and leaves a trace of it in the
// mesh. It takes those away that have expired.
func Invite(ctx context.Context, store mesh.Store, id *Identity, o InviteOptions) (Token, error) {
	if o.Life == 0 {
		o.Life = InviteLife
	}
	if o.Life < time.Second || o.Life > maxInviteLife {
		return Token{}, fmt.Errorf("a token can't be good for %v, expected from 1s to %v", o.Life, maxInviteLife)
	}
	if o.Host != "" {
		if err := CheckHost(o.Host); err != nil {
			return Token{}, err
		}
	}
	if !id.Secured() {
		return Token{}, errors.New("this mesh has no certificates, so nobody needs a token: to have some begin with \"mgmt mesh init\"")
	}
	if _, err := id.authority(); err != nil {
		return Token{}, err
	}
	if err := clean(ctx, store); err != nil {
		return Token{}, err
	}
	if len(o.URLs) == 0 {
		var err error
		if o.URLs, err = joinURLs(ctx, store); err != nil {
			return Token{}, err
		}
	}
	if err := checkURLs(o.URLs); err != nil {
		return Token{}, err
	}
	_, ca := id.certificate()
	t := Token{
		URLs:        o.URLs,
		ID:          hex.EncodeToString(random(idBytes)),
		Secret:      random(secretBytes),
		Fingerprint: fingerprint(ca),
		Expires:     time.Now().Add(o.Life).Unix(),
	}
	inv := invitation{
		Hash: hashOf(t.Secret), Serve: o.Serve, Host: o.Host,
		By: store.Host(), Expires: time.Unix(t.Expires, 0).UTC(),
	}
	return t, put(ctx, store, tokenPrefix+t.ID, inv, 0)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // which never fails
	return b
}

// put writes a key that has to be at a revision, as JSON.
func put(ctx context.Context, store mesh.Store, key string, value any, revision int64) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = store.Write(ctx, mesh.Txn{
		If:  []mesh.Condition{{Key: key, Revision: revision}},
		Ops: []mesh.Op{mesh.Put(key, text)},
	})
	return err
}

// joinURLs are those of all Registrars, in the order of their hosts.
func joinURLs(ctx context.Context, store mesh.Store) ([]string, error) {
	list, err := store.List(ctx, joinPrefix)
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, e := range list.Entries {
		urls = append(urls, string(e.Value))
	}
	if len(urls) == 0 {
		return nil, errors.New("no host is there that could admit another: one that may serve has to run")
	}
	return urls, nil
}

// clean takes away what has expired: tokens, and certificates that were revoked.
func clean(ctx context.Context, store mesh.Store) error {
	for _, prefix := range []string{tokenPrefix, revokedPrefix} {
		list, err := store.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, e := range list.Entries {
			var what struct {
				Expires time.Time `json:"expires"`
			}
			// What expired a day ago is of no use, even if clocks differ.
			if json.Unmarshal(e.Value, &what) != nil || time.Since(what.Expires) < 24*time.Hour {
				continue
			}
			_, err := store.Write(ctx, mesh.Txn{
				If:  []mesh.Condition{{Key: e.Key, Revision: e.Revision}},
				Ops: []mesh.Op{mesh.Delete(e.Key)},
			})
			if err != nil && !errors.Is(err, mesh.ErrConflict) {
				return err
			}
		}
	}
	return nil
}

// issued is a certificate that the mesh knows of.
type issued struct {
	Serial  string    `json:"serial"`
	Expires time.Time `json:"expires"`
}

// record notes down a certificate of a host, so that it can be revoked.
func record(ctx context.Context, store mesh.Store, host, serial string, expires time.Time) error {
	for {
		certs, revision, err := certificates(ctx, store, host)
		if err != nil {
			return err
		}
		certs = append(certs, issued{serial, expires.UTC()})
		certs = certs[max(0, len(certs)-maxCerts):]
		err = put(ctx, store, certPrefix+host, certs, revision)
		if !errors.Is(err, mesh.ErrConflict) {
			return err
		}
	}
}

// certificates are those that a host has, and the revision of the key that says so.
func certificates(ctx context.Context, store mesh.Store, host string) ([]issued, int64, error) {
	e, ok, err := store.Get(ctx, certPrefix+host)
	if err != nil || !ok {
		return nil, 0, err
	}
	var certs []issued
	if err := json.Unmarshal(e.Value, &certs); err != nil {
		return nil, 0, fmt.Errorf("%s holds no list of certificates: %w", e.Key, err)
	}
	return certs, e.Revision, nil
}

// Revoke makes the certificates of a host worthless for all servers, at once. Its rights
// are another matter: see Withdraw.
func Revoke(ctx context.Context, store mesh.Store, host string) error {
	for {
		certs, revision, err := certificates(ctx, store, host)
		if err != nil || revision == 0 {
			return err
		}
		t := mesh.Txn{
			If:  []mesh.Condition{{Key: certPrefix + host, Revision: revision}},
			Ops: []mesh.Op{mesh.Delete(certPrefix + host)},
		}
		for _, c := range certs {
			text, err := json.Marshal(revocation{Host: host, Expires: c.Expires})
			if err != nil {
				return err
			}
			t.Ops = append(t.Ops, mesh.Put(revokedPrefix+c.Serial, text))
		}
		if _, err = store.Write(ctx, t); !errors.Is(err, mesh.ErrConflict) {
			return err
		}
	}
}

// Forget lets a host in no more: it has no rights, its certificates are revoked, nobody seals
// anything for it, and its name is free. It says whether the host was one that serves: such a
// host has the key of the authority, and could make itself a new certificate if it is in
// the wrong hands.
func Forget(ctx context.Context, client *clientv3.Client, store mesh.Store, host string) (served bool, err error) {
	if err := CheckHost(host); err != nil {
		return false, err
	}
	if host == store.Host() {
		return false, errors.New("a host can't take itself out: do it on another one that serves")
	}
	_, served, err = rank(ctx, client, host)
	if err == nil {
		err = Withdraw(ctx, client, host)
	}
	if err == nil {
		err = Revoke(ctx, store, host)
	}
	if err == nil {
		_, err = store.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Delete(mesh.HostPrefix + host)}})
	}
	return served, err
}

// revocation is what the mesh keeps of a certificate that was revoked.
type revocation struct {
	Host    string    `json:"host"`
	Expires time.Time `json:"expires"`
}
