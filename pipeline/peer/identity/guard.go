package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// agentCalls are what a host that doesn't serve may ask of etcd. Etcd has access control
// for most of the rest, but not for all: anybody could compact.
var agentCalls = map[string]bool{
	"/etcdserverpb.KV/Range":              true,
	"/etcdserverpb.KV/RangeStream":        true,
	"/etcdserverpb.KV/Put":                true,
	"/etcdserverpb.KV/DeleteRange":        true,
	"/etcdserverpb.KV/Txn":                true,
	"/etcdserverpb.Watch/Watch":           true,
	"/etcdserverpb.Lease/LeaseGrant":      true,
	"/etcdserverpb.Lease/LeaseRevoke":     true,
	"/etcdserverpb.Lease/LeaseKeepAlive":  true,
	"/etcdserverpb.Lease/LeaseTimeToLive": true,
	"/etcdserverpb.Cluster/MemberList":    true,
	"/etcdserverpb.Maintenance/Status":    true,
	"/grpc.health.v1.Health/Check":        true,
	"/grpc.health.v1.Health/Watch":        true,
}

const (
	// refusals is how many refusals are logged in a row, and then in how much time one.
	refusals     = 50
	refusalEvery = time.Second

	// repeatAfter is for how long the same refusal is not logged again, and maxRepeated of
	// how many that is remembered.
	repeatAfter = time.Minute
	maxRepeated = 4096
)

// handshakeLimit is how long a client may take to say who it is.
const handshakeLimit = 5 * time.Second

// Guard stands before an etcd server that runs in this process. It lets in who has a good
// certificate, logs what is refused, by it or by etcd, and closes connections when their
// certificates are revoked, at which etcd looks only when a connection begins. Its methods may
// be called from any goroutine.
type Guard struct {
	id  *Identity
	log *slog.Logger

	mu       sync.Mutex
	limit    *rate.Limiter
	dropped  int
	repeated map[string]*repeated
	revoked  map[string]bool
	conns    map[string]map[*visit]struct{} // by serial number
}

// repeated says when something was logged, and how often it wasn't since.
type repeated struct {
	since time.Time
	times int
}

// NewGuard returns a Guard for the server of a host, which logs refusals as warnings. It
// begins with the list of revoked certificates that this host has.
func NewGuard(id *Identity, log *slog.Logger) *Guard {
	g := &Guard{
		id:       id,
		log:      log,
		limit:    rate.NewLimiter(rate.Every(refusalEvery), refusals),
		repeated: make(map[string]*repeated),
		conns:    make(map[string]map[*visit]struct{}),
	}
	serials, err := id.revoked()
	if err != nil {
		log.Error("revoked certificates are let in until the mesh tells which they are", "error", err)
	}
	g.Revoke(serials)
	return g
}

// Options are for the grpc server of etcd. With a certificate they replace what etcd itself
// would do about TLS.
func (g *Guard) Options() []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.ConnectionTimeout(handshakeLimit),
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
	}
	_, ca := g.id.certificate()
	if ca == nil {
		return options
	}
	return append(options, grpc.Creds(door{g, credentials.NewTLS(&tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      pool(ca),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return g.id.pair() },
		VerifyConnection: func(state tls.ConnectionState) error {
			if g.isRevoked(serialOf(state.PeerCertificates[0])) {
				return errRevoked
			}
			return nil
		},
	})}))
}

// door logs who is not let in, and keeps who is.
type door struct {
	guard *Guard
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (d door) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := d.TransportCredentials.ServerHandshake(conn)
	tlsInfo, ok := info.(credentials.TLSInfo)
	switch {
	case errors.Is(err, io.EOF): // somebody has looked whether there is a port
	case err != nil:
		d.guard.shut(conn, err)
	case ok:
		return d.guard.admit(secure, tlsInfo.State.PeerCertificates[0]), info, nil
	}
	return secure, info, err
}

// Clone implements credentials.TransportCredentials.
func (d door) Clone() credentials.TransportCredentials {
	return door{d.guard, d.TransportCredentials.Clone()}
}

// shut logs that a connection is refused. What differs only in a figure, such as the time, is
// the same.
func (g *Guard) shut(conn net.Conn, why error) {
	from := conn.RemoteAddr().String()
	host, _, _ := net.SplitHostPort(from)
	same := host + strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return -1
		}
		return r
	}, why.Error())
	g.warn(same, "refused a connection to the mesh", "from", from, "error", why)
}

// visit is a connection of a host.
type visit struct {
	net.Conn
	guard  *Guard
	serial string
	host   string
}

// admit keeps a connection until it is closed.
func (g *Guard) admit(conn net.Conn, leaf *x509.Certificate) net.Conn {
	v := &visit{conn, g, serialOf(leaf), leaf.Subject.CommonName}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns[v.serial] == nil {
		g.conns[v.serial] = make(map[*visit]struct{})
	}
	g.conns[v.serial][v] = struct{}{}
	if g.revoked[v.serial] { // just now
		v.Conn.Close()
	}
	return v
}

// Close implements net.Conn.
func (v *visit) Close() error {
	v.guard.mu.Lock()
	delete(v.guard.conns[v.serial], v)
	if len(v.guard.conns[v.serial]) == 0 {
		delete(v.guard.conns, v.serial)
	}
	v.guard.mu.Unlock()
	return v.Conn.Close()
}

// Revoke says which certificates are revoked, by their serial numbers, instead of those
// that were before.
func (g *Guard) Revoke(serials []string) {
	g.mu.Lock()
	g.revoked = make(map[string]bool, len(serials))
	var over []*visit
	for _, serial := range serials {
		g.revoked[serial] = true
		over = slices.AppendSeq(over, maps.Keys(g.conns[serial]))
	}
	g.mu.Unlock()
	for _, v := range over {
		g.log.Warn("closed a connection to the mesh", "host", v.host, "from", v.RemoteAddr().String(), "error", errRevoked)
		v.Conn.Close()
	}
}

var errRevoked = errors.New("the certificate was revoked")

func (g *Guard) isRevoked(serial string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.revoked[serial]
}

// caller is who makes a call.
type caller struct {
	host, from string
	serves     bool
}

// callerOf finds it by the certificate. A call without one is from this process, or from a
// mesh that has none.
func callerOf(ctx context.Context) (caller, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return caller{}, false
	}
	leaf := info.State.VerifiedChains[0][0]
	return caller{leaf.Subject.CommonName, p.Addr.String(), serves(leaf)}, true
}

var errRank = errors.New("only hosts that serve may do that")

func (g *Guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c, ok := callerOf(ctx)
	if !ok {
		return handler(ctx, req)
	}
	if !c.serves && !agentCalls[info.FullMethod] {
		g.refused(c, info.FullMethod, keysOf(req), errRank)
		return nil, rpctypes.ErrGRPCPermissionDenied
	}
	resp, err := handler(ctx, req)
	if isRefusal(info.FullMethod, err) {
		g.refused(c, info.FullMethod, keysOf(req), errors.New(status.Convert(err).Message()))
	}
	return resp, err
}

// isRefusal tells whether etcd has said that a host may not do something. Who manages the
// users may ask for one that there isn't.
func isRefusal(method string, err error) bool {
	if errors.Is(err, rpctypes.ErrGRPCUserNotFound) {
		return !strings.HasPrefix(method, "/etcdserverpb.Auth/")
	}
	return status.Code(err) == codes.PermissionDenied || errors.Is(err, rpctypes.ErrGRPCUserEmpty)
}

func (g *Guard) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	c, ok := callerOf(s.Context())
	if !ok {
		return handler(srv, s)
	}
	if !c.serves && !agentCalls[info.FullMethod] {
		g.refused(c, info.FullMethod, "", errRank)
		return rpctypes.ErrGRPCPermissionDenied
	}
	err := handler(srv, &guarded{ServerStream: s, guard: g, caller: c, method: info.FullMethod})
	if isRefusal(info.FullMethod, err) {
		g.refused(c, info.FullMethod, "", errors.New(status.Convert(err).Message()))
	}
	return err
}

// guarded is a stream in which watches are looked for that etcd has refused, which are no
// errors of the stream.
type guarded struct {
	grpc.ServerStream
	guard  *Guard
	caller caller
	method string

	mu   sync.Mutex
	last string // the keys of the watch that was asked for last
}

// RecvMsg implements grpc.ServerStream.
func (w *guarded) RecvMsg(m any) error {
	err := w.ServerStream.RecvMsg(m)
	if r, ok := m.(*pb.WatchRequest); ok && err == nil && r.GetCreateRequest() != nil {
		w.mu.Lock()
		w.last = keys(r.GetCreateRequest().GetKey(), r.GetCreateRequest().GetRangeEnd())
		w.mu.Unlock()
	}
	return err
}

// SendMsg implements grpc.ServerStream.
func (w *guarded) SendMsg(m any) error {
	if r, ok := m.(*pb.WatchResponse); ok && r.GetCanceled() && strings.Contains(r.GetCancelReason(), "permission denied") {
		w.mu.Lock()
		last := w.last
		w.mu.Unlock()
		w.guard.refused(w.caller, w.method, last, errors.New(r.GetCancelReason()))
	}
	return w.ServerStream.SendMsg(m)
}

// refused logs that a host may not do what it has asked for.
func (g *Guard) refused(c caller, method, keys string, why error) {
	attrs := []any{"host", c.host, "from", c.from, "call", method[strings.LastIndexByte(method, '/')+1:]}
	if keys != "" {
		attrs = append(attrs, "keys", keys)
	}
	g.warn(c.host+method+keys+why.Error(), "refused what a host has asked of the mesh", append(attrs, "error", why)...)
}

// warn logs a refusal, unless the same was logged just now, or there are too many.
func (g *Guard) warn(same, message string, attrs ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.repeated[same]
	if r != nil && time.Since(r.since) < repeatAfter {
		r.times++
		return
	}
	if !g.limit.Allow() {
		g.dropped++
		return
	}
	if r != nil && r.times > 0 {
		attrs = append(attrs, "repeated", r.times)
	}
	if g.dropped > 0 {
		attrs = append(attrs, "others", g.dropped)
		g.dropped = 0
	}
	if len(g.repeated) >= maxRepeated {
		clear(g.repeated)
	}
	g.repeated[same] = &repeated{since: time.Now()}
	g.log.Warn(message, attrs...)
}

// keysOf says which keys a request is about.
func keysOf(req any) string {
	switch r := req.(type) {
	case *pb.PutRequest:
		return string(r.GetKey())
	case *pb.RangeRequest:
		return keys(r.GetKey(), r.GetRangeEnd())
	case *pb.DeleteRangeRequest:
		return keys(r.GetKey(), r.GetRangeEnd())
	case *pb.TxnRequest:
		return keysOfAll(slices.Concat(r.GetSuccess(), r.GetFailure()))
	}
	return ""
}

// keysOfAll names each key once, and not those with which the store of a host keeps its
// writes in order.
func keysOfAll(ops []*pb.RequestOp) string {
	var all []string
	for _, op := range ops {
		var k string
		switch {
		case op.GetRequestPut() != nil:
			k = keysOf(op.GetRequestPut())
		case op.GetRequestDeleteRange() != nil:
			k = keysOf(op.GetRequestDeleteRange())
		case op.GetRequestRange() != nil:
			k = keysOf(op.GetRequestRange())
		}
		if k != "" && !strings.HasPrefix(k, mesh.FencePrefix) && !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	if len(all) > 3 {
		all = append(all[:3], fmt.Sprintf("and %d more", len(all)-3))
	}
	return strings.Join(all, ", ")
}

func keys(key, end []byte) string {
	if len(end) == 0 {
		return string(key)
	}
	return string(key) + "..."
}
