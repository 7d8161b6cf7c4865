package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"filippo.io/age"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/time/rate"

	"github.com/mgmtproject/mgmt/pipeline/peer/internal/files"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

const (
	// guesses is how often in a row one address may be refused, and then in how much time
	// once.
	guesses    = 10
	guessEvery = 2 * time.Second

	// maxAddresses is of how many addresses that is remembered.
	maxAddresses = 4096

	// readLimit is how long a request may take to come.
	readLimit = 5 * time.Second
)

// RegistrarOptions say for whom a Registrar works.
type RegistrarOptions struct {
	// Identity is that of this host, which serves.
	Identity *Identity

	// Store and Client are the mesh as this host sees it. Both stay the caller's.
	Store  mesh.Store
	Client *clientv3.Client

	// Guard, if there is one, is told of certificates that were revoked.
	Guard *Guard

	// Listen is the address for those who want to join, such as 192.0.2.1:2381. If the port
	// is taken, another one is used that is free.
	Listen string

	// Advertise is the name or the address of this host that others are told, if it isn't
	// that of Listen.
	Advertise string

	// Life is how long certificates are good: the Life of this package if it is 0.
	Life time.Duration

	// Log is told of each host that is let in, and of each that is not.
	Log *slog.Logger
}

// Registrar lets hosts in that have a token, and gives new certificates to those that have
// one. It keeps the list of revoked certificates for the server on this host, too. A mesh
// has one on each host that serves, and any of them will do.
type Registrar struct {
	o      RegistrarOptions
	a      *authority
	url    string
	server *http.Server
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	failing map[netip.Prefix]*rate.Limiter
	revoked map[string]bool
}

// Register starts a Registrar. The mesh knows of it until Close, or until this host is gone.
func Register(ctx context.Context, o RegistrarOptions) (*Registrar, error) {
	a, err := o.Identity.authority()
	if err != nil {
		return nil, err
	}
	if o.Life == 0 {
		o.Life = Life
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	// A mesh may have been one without certificates.
	if err := Enable(ctx, o.Client, o.Store.Host()); err != nil {
		return nil, err
	}
	listener, url, err := listen(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("listening for hosts that want to join: %w", err)
	}
	r := &Registrar{o: o, a: a, url: url, failing: make(map[netip.Prefix]*rate.Limiter), revoked: make(map[string]bool)}
	if err := r.announce(ctx); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	r.serve(listener)
	return r, nil
}

// listen returns the URL for others, too.
func listen(ctx context.Context, o RegistrarOptions) (net.Listener, string, error) {
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, "", err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		listener, err = new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, "", err
	}
	if o.Advertise != "" {
		host = o.Advertise
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, "", errors.Join(err, listener.Close())
	}
	return listener, "https://" + net.JoinHostPort(host, port), nil
}

// URL is where others find it.
func (r *Registrar) URL() string { return r.url }

// announce tells the mesh of this Registrar, and of the certificate of this host, which was
// made before there was a mesh.
func (r *Registrar) announce(ctx context.Context) error {
	host := r.o.Store.Host()
	_, err := r.o.Store.Write(ctx, mesh.Txn{Ops: []mesh.Op{{Key: joinPrefix + host, Value: []byte(r.url), Bound: true}}})
	if err != nil {
		return fmt.Errorf("telling the mesh where to join: %w", err)
	}
	return noteOwn(ctx, r.o.Store, r.o.Identity)
}

// noteOwn records the certificate of this host, if it isn't.
func noteOwn(ctx context.Context, store mesh.Store, id *Identity) error {
	leaf, _ := id.certificate()
	certs, _, err := certificates(ctx, store, store.Host())
	if err != nil {
		return err
	}
	for _, c := range certs {
		if c.Serial == serialOf(leaf) {
			return nil
		}
	}
	return record(ctx, store, store.Host(), serialOf(leaf), leaf.NotAfter)
}

func (r *Registrar) serve(listener net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+joinPath, r.handle(r.join))
	mux.HandleFunc("POST "+renewPath, r.handle(r.renew))
	r.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: readLimit,
		ReadTimeout:       readLimit,
		WriteTimeout:      callLimit,
		IdleTimeout:       readLimit,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(handshakes{r.o.Log.Handler()}, slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  pool(r.a.cert),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := r.o.Identity.pair()
			if err == nil { // who joins knows the authority by its fingerprint alone
				pair.Certificate = append(pair.Certificate, r.a.cert.Raw)
			}
			return pair, err
		},
	}
	r.work.Go(func() { _ = r.server.Serve(tls.NewListener(listener, config)) }) // it ends with Close
	r.work.Go(func() { r.keepList(ctx) })
}

// handshakes says what the complaints of package http are about.
type handshakes struct{ slog.Handler }

// Handle implements slog.Handler.
func (h handshakes) Handle(ctx context.Context, rec slog.Record) error {
	text, ok := strings.CutPrefix(rec.Message, "http: TLS handshake error from ")
	if !ok {
		return h.Handler.Handle(ctx, rec)
	}
	from, why, _ := strings.Cut(text, ": ")
	if why == "EOF" { // somebody has looked whether there is a port
		return nil
	}
	out := slog.NewRecord(rec.Time, rec.Level, "refused a connection of a host that wants to join", rec.PC)
	out.AddAttrs(slog.String("from", from), slog.String("error", why))
	return h.Handler.Handle(ctx, out)
}

// Close ends it.
func (r *Registrar) Close() error {
	err := r.server.Close()
	r.cancel()
	r.work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// Without an answer the key goes with this host.
	_, _ = r.o.Store.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Delete(joinPrefix + r.o.Store.Host())}})
	return err
}

// denied is why a request is refused, with the status that says so.
type denied struct {
	status int
	why    string
}

func (d *denied) Error() string { return d.why }

func deny(status int, format string, args ...any) error {
	return &denied{status, fmt.Sprintf(format, args...)}
}

// handle makes of do something for package http.
func (r *Registrar) handle(do func(context.Context, *http.Request, request) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		var in request
		a, err := answer{}, error(nil)
		if !r.may(req.RemoteAddr, false) {
			err = deny(http.StatusTooManyRequests, "it has refused too much from this address: try again in %v", guessEvery)
		}
		if err == nil {
			err = json.NewDecoder(http.MaxBytesReader(w, req.Body, maxMessage)).Decode(&in)
			if err != nil {
				err = deny(http.StatusBadRequest, "the request makes no sense: %v", err)
			}
		}
		if err == nil {
			a, err = do(req.Context(), req, in)
		}
		status := http.StatusOK
		if err != nil {
			status, a = r.complain(req, in, err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(a) // whoever has hung up asks again
	}
}

// complain logs why a request came to nothing, and says what to answer.
func (r *Registrar) complain(req *http.Request, in request, err error) (int, answer) {
	host := in.Host
	if leaf := peerOf(req); leaf != nil {
		host = leaf.Subject.CommonName
	}
	attrs := []any{"host", host, "from", req.RemoteAddr, "error", err}
	if in.ID != "" {
		attrs = append(attrs, "token", in.ID)
	}
	d, ok := errors.AsType[*denied](err)
	if !ok {
		r.o.Log.Error("can't give a host a certificate", attrs...)
		return http.StatusServiceUnavailable, answer{Error: "it can't give certificates now: " + err.Error()}
	}
	if r.may(req.RemoteAddr, true) {
		r.o.Log.Warn("refused to give a host a certificate", attrs...)
	}
	return d.status, answer{Error: d.why}
}

// may says whether an address may be refused once more, and counts a refusal: nobody is to
// try secrets, or to fill the log. An IPv6 network counts as one address.
func (r *Registrar) may(remote string, refused bool) bool {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	addr := at.Addr().Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	limit := r.failing[prefix]
	switch {
	case limit == nil && !refused:
		return true
	case limit == nil:
		if len(r.failing) >= maxAddresses {
			clear(r.failing)
		}
		limit = rate.NewLimiter(rate.Every(guessEvery), guesses)
		r.failing[prefix] = limit
	}
	if refused {
		return limit.Allow()
	}
	return limit.Tokens() >= 1
}

// join answers a host that has a token.
func (r *Registrar) join(ctx context.Context, req *http.Request, in request) (answer, error) {
	if err := CheckHost(in.Host); err != nil {
		return answer{}, deny(http.StatusBadRequest, "%v", err)
	}
	key, err := parseCSR(in.CSR, in.Host)
	if err != nil {
		return answer{}, deny(http.StatusBadRequest, "%v", err)
	}
	if _, err := age.ParseX25519Recipient(in.Recipient); err != nil {
		return answer{}, deny(http.StatusBadRequest, "%q is no public key of age", in.Recipient)
	}
	inv, rejoin, err := r.claim(ctx, req, in, key)
	if err != nil {
		return answer{}, err
	}
	if rejoin {
		if err := Revoke(ctx, r.o.Store, in.Host); err != nil {
			return answer{}, err
		}
	}
	if err := Provision(ctx, r.o.Client, in.Host, inv.Serve); err != nil {
		return answer{}, err
	}
	a, leaf, err := r.issue(ctx, key, in.Host, inv.Serve)
	if err != nil {
		return answer{}, err
	}
	a.Rejoin = rejoin
	if inv.Serve {
		text, err := encodeKey(r.a.key)
		if err == nil {
			a.CAKey, err = Seal([]string{in.Recipient}, text)
		}
		if err != nil {
			return answer{}, err
		}
	}
	r.o.Log.Info("let a host in", "host", in.Host, "serve", inv.Serve, "again", rejoin, "from", req.RemoteAddr,
		"token", in.ID, "by", inv.By, "serial", serialOf(leaf))
	return a, nil
}

// claim uses a token up for a host, and says whether the host was in the mesh before. All
// is done in one transaction, so a token and a name are good once, whoever is asked.
func (r *Registrar) claim(ctx context.Context, req *http.Request, in request, key *ecdsa.PublicKey) (invitation, bool, error) {
	sum, err := keySum(key)
	if err != nil {
		return invitation{}, false, err
	}
	for {
		inv, revision, err := r.invitation(ctx, in)
		if err != nil {
			return inv, false, err
		}
		if u := inv.Used; u != nil && u.Host == in.Host && bytes.Equal(u.Key, sum) {
			return inv, u.Again, nil // the answer has got lost
		}
		if err := inv.check(in.Host); err != nil {
			return inv, false, err
		}
		has, known, err := r.o.Store.Get(ctx, certPrefix+in.Host)
		if err != nil {
			return inv, false, err
		}
		if known && inv.Host == "" {
			return inv, false, deny(http.StatusConflict, "there is a host %q in the mesh: take another --hostname, or a token of \"mgmt mesh invite --host %s\" if it is the same", in.Host, in.Host)
		}
		inv.Used = &use{Host: in.Host, Key: sum, From: req.RemoteAddr, At: time.Now().UTC().Truncate(time.Second), Again: known}
		err = r.use(ctx, in, inv, revision, has.Revision)
		if !errors.Is(err, mesh.ErrConflict) { // otherwise somebody has used it meanwhile
			return inv, known, err
		}
	}
}

// check says why a token is not good for a host now.
func (inv invitation) check(host string) error {
	switch {
	case inv.Used != nil:
		return deny(http.StatusGone, "the token was used, at %s by host %q from %s: if that was not you, \"mgmt mesh forget\" it",
			inv.Used.At.Format(time.RFC3339), inv.Used.Host, inv.Used.From)
	case time.Now().After(inv.Expires):
		return deny(http.StatusGone, "the token has expired, at %s", inv.Expires.Format(time.RFC3339))
	case inv.Host != "" && inv.Host != host:
		return deny(http.StatusForbidden, "the token is for host %q, not for %q", inv.Host, host)
	}
	return nil
}

// use notes down who has used a token, and that the name is taken.
func (r *Registrar) use(ctx context.Context, in request, inv invitation, token, certs int64) error {
	text, err := json.Marshal(inv)
	if err != nil {
		return err
	}
	t := mesh.Txn{
		If:  []mesh.Condition{{Key: tokenPrefix + in.ID, Revision: token}, {Key: certPrefix + in.Host, Revision: certs}},
		Ops: []mesh.Op{mesh.Put(tokenPrefix+in.ID, text)},
	}
	if certs == 0 {
		t.Ops = append(t.Ops, mesh.Put(certPrefix+in.Host, []byte("[]")))
	}
	_, err = r.o.Store.Write(ctx, t)
	return err
}

// invitation is what the mesh knows of the token in a request, if that shows its secret.
func (r *Registrar) invitation(ctx context.Context, in request) (invitation, int64, error) {
	unknown := deny(http.StatusForbidden, "nobody has given out that token, or it has expired long ago")
	if !idForm.MatchString(in.ID) {
		return invitation{}, 0, unknown
	}
	e, ok, err := r.o.Store.Get(ctx, tokenPrefix+in.ID)
	if err != nil {
		return invitation{}, 0, err
	}
	var inv invitation
	if !ok || json.Unmarshal(e.Value, &inv) != nil || !inv.knows(in.Secret) {
		return invitation{}, 0, unknown
	}
	return inv, e.Revision, nil
}

func keySum(key *ecdsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return sum[:], nil
}

// issue makes a certificate that can be revoked.
func (r *Registrar) issue(ctx context.Context, key *ecdsa.PublicKey, host string, serve bool) (answer, *x509.Certificate, error) {
	leaf, err := r.a.issue(key, host, serve, r.o.Life)
	if err != nil {
		return answer{}, nil, err
	}
	if err := record(ctx, r.o.Store, host, serialOf(leaf), leaf.NotAfter); err != nil {
		return answer{}, nil, err
	}
	a := answer{Cert: encodeCert(leaf), Seeds: r.seeds(ctx)}
	if serve {
		if a.CRL, err = os.ReadFile(r.o.Identity.path(crlFile)); err != nil {
			return answer{}, nil, err
		}
	}
	return a, leaf, nil
}

// seeds are where the servers are.
func (r *Registrar) seeds(ctx context.Context) []string {
	resp, err := r.o.Client.MemberList(ctx)
	if err != nil {
		return r.o.Client.Endpoints()
	}
	var urls []string
	for _, m := range resp.Members {
		urls = append(urls, m.ClientURLs...)
	}
	return urls
}

// peerOf is the certificate of who asks, if any.
func peerOf(req *http.Request) *x509.Certificate {
	if req.TLS == nil || len(req.TLS.VerifiedChains) == 0 {
		return nil
	}
	return req.TLS.VerifiedChains[0][0]
}

// renew answers a host that has a certificate.
func (r *Registrar) renew(ctx context.Context, req *http.Request, in request) (answer, error) {
	have := peerOf(req)
	if have == nil {
		return answer{}, deny(http.StatusUnauthorized, "only who has a certificate can renew it")
	}
	host := have.Subject.CommonName
	if r.isRevoked(serialOf(have)) {
		return answer{}, deny(http.StatusForbidden, "%v", errRevoked)
	}
	key, err := parseCSR(in.CSR, host)
	if err != nil {
		return answer{}, deny(http.StatusBadRequest, "%v", err)
	}
	known, serve, err := rank(ctx, r.o.Client, host)
	if err != nil {
		return answer{}, err
	}
	if !known {
		return answer{}, deny(http.StatusForbidden, "host %q was forgotten: it needs a new token", host)
	}
	if !serve { // another version of mgmt may give other rights
		if err := setGrants(ctx, r.o.Client, hostRole(host), hostGrants(host)); err != nil {
			return answer{}, err
		}
	}
	// More than it could before a host may do only with a token, which brings the key.
	a, leaf, err := r.issue(ctx, key, host, serve && serves(have))
	if err == nil {
		r.o.Log.Debug("renewed the certificate of a host", "host", host, "serial", serialOf(leaf), "expires", leaf.NotAfter)
	}
	return a, err
}

func (r *Registrar) isRevoked(serial string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revoked[serial]
}

// keepList keeps the list of revoked certificates as the mesh has it.
func (r *Registrar) keepList(ctx context.Context) {
	serials := map[string]bool{}
	err := r.o.Store.Changes(mesh.Below(revokedPrefix)).Subscribe(ctx, func(c mesh.Change) bool {
		if c.Reset {
			clear(serials)
		}
		for _, e := range c.Put {
			if serial := strings.TrimPrefix(e.Key, revokedPrefix); isSerial(serial) {
				serials[serial] = true
			}
		}
		for _, key := range c.Deleted {
			delete(serials, strings.TrimPrefix(key, revokedPrefix))
		}
		if err := r.revoke(serials); err != nil {
			r.o.Log.Error("can't keep the list of revoked certificates", "error", err)
		}
		return true
	})
	if err != nil && ctx.Err() == nil {
		r.o.Log.Error("can't watch which certificates are revoked", "error", err)
	}
}

func isSerial(s string) bool {
	if len(s)%2 == 1 {
		s = "0" + s
	}
	_, err := hex.DecodeString(s)
	return err == nil && s != ""
}

// revoke has new connections refused, and then ends those that there are.
func (r *Registrar) revoke(revoked map[string]bool) error {
	serials := make([]string, 0, len(revoked))
	r.mu.Lock()
	same := len(revoked) == len(r.revoked)
	for serial := range revoked {
		serials = append(serials, serial)
		same = same && r.revoked[serial]
	}
	r.mu.Unlock()
	if !same || len(revoked) == 0 {
		list, err := r.a.list(serials)
		if err == nil {
			err = files.Replace(r.o.Identity.path(crlFile), list, 0o644)
		}
		if err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.revoked = make(map[string]bool, len(serials))
	for _, serial := range serials {
		r.revoked[serial] = true
	}
	r.mu.Unlock()
	if r.o.Guard != nil {
		r.o.Guard.Revoke(serials)
	}
	return nil
}
