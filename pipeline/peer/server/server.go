// Package server runs one etcd server inside this process: it starts and stops it, keeps
// it in shape while it runs, sends what it logs through our own logger, and saves and
// restores what it holds. It decides nothing about the mesh: who serves, and beside whom,
// is said in the Options.
//
// Some errors of etcd end the process that it runs in, such as a disk that can't be
// written to, and nothing can be done about it from within. So this package belongs in a
// process of its own, beside the one whose work must go on: see ExitCode.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"google.golang.org/grpc"
)

// ErrRemoved says that the other servers don't know this one any more: its directory is of
// no use to them. Set it aside and join anew.
var ErrRemoved = errors.New("this server was removed from the mesh")

// Options say what server to start.
type Options struct {
	// Name is that of the member, usually the name of the host.
	Name string

	// Dir holds what the server keeps; it is made if it isn't there. Only one server at a
	// time can run in it.
	Dir string

	// ClientURLs and PeerURLs say where to listen for clients and for other servers, such
	// as "https://10.0.0.1:2379". A port 0 stands for one that is free, which is kept in
	// Dir for the next time. Without any, it is a free port of 127.0.0.1.
	ClientURLs, PeerURLs []string

	// AdvertiseClientURLs and AdvertisePeerURLs say where others find the server. Without
	// any, they are the same as those to listen on.
	AdvertiseClientURLs, AdvertisePeerURLs []string

	// InitialCluster names all servers of a mesh with their peer URLs, this one too:
	// "a=https://10.0.0.1:2380,b=https://10.0.0.2:2380". Empty, the server is a mesh of
	// itself alone. It doesn't matter once Dir has data.
	InitialCluster string

	// Existing says that the mesh of InitialCluster is there already, and has been told of
	// this server.
	Existing bool

	// Token makes the identity of a new mesh its own: no two have the same.
	Token string

	// Expect is who the server has to be, such as the identity that it was given when it
	// was added. Data of another in Dir is set aside. A zero in it stands for any.
	Expect Identity

	// TLS are the certificates; without them the server speaks plain text.
	TLS TLS

	// Quota is how much the database may hold before it takes no more, in bytes; without
	// one, it is 2 GiB.
	Quota int64

	// Tick is how often a leader gives a sign of life, and Election for how long a server
	// waits for one. All servers of a mesh have the same. Without them they are 100 ms and
	// 1 s, which suits round trips of up to some 400 ms.
	Tick, Election time.Duration

	// Upkeep says when to do what keeps the server in shape.
	Upkeep Upkeep

	// GRPC is what the server adds to how it answers clients, such as interceptors, which
	// come after those of etcd.
	GRPC []grpc.ServerOption

	// Log gets what the server has to say. What etcd logs as information is debug here.
	Log *slog.Logger
}

// TLS are files with certificates and keys in PEM. They are read anew for each connection,
// so they may be replaced at any time.
type TLS struct {
	// CertFile and KeyFile are what clients see, and CAFile is who has signed theirs: they
	// can't connect without one.
	CertFile, KeyFile, CAFile string

	// PeerCertFile, PeerKeyFile and PeerCAFile are the same among servers.
	PeerCertFile, PeerKeyFile, PeerCAFile string

	// ServerName is a name that certificates of servers are for, and no others. With it
	// only they get in where servers speak with each other, and what else is said in
	// certificates about names and addresses doesn't count.
	ServerName string

	// CRLFile is the list of certificates that were revoked, in DER. Without one there are
	// none.
	CRLFile string
}

// Server is an etcd server that runs in this process.
type Server struct {
	options Options
	urls    urls
	etcd    *embed.Etcd
	bridge  *bridge
	lock    *os.File
	client  *clientv3.Client
	alone   bool // other servers are no more, and nobody else is to find this one

	mu      sync.Mutex
	streams []*grpc.Server
	err     error // why it stops by itself

	ctx    context.Context // ends when the server is to stop
	cancel context.CancelFunc
	work   sync.WaitGroup
	done   chan struct{}
}

// Start starts a server and returns when it takes part in its mesh: at once when it is
// alone, and otherwise as soon as there is a leader. If ctx ends before, it stops it again;
// later ctx doesn't matter. One that has to be sent all there is in one piece, since the log
// of the others doesn't go back far enough, takes some seven seconds: etcd loses its first
// word.
//
// If the data in Dir is not of who the server has to be, it is set aside first. The error is
// ErrRemoved if it is only now that the server learns of not being a member any more.
func Start(ctx context.Context, o Options) (*Server, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, o, lock)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Tick == 0 {
		o.Tick = 100 * time.Millisecond
	}
	if o.Election == 0 {
		o.Election = 10 * o.Tick
	}
	if o.Quota == 0 {
		o.Quota = 2 << 30
	}
	o.Upkeep = o.Upkeep.withDefaults()
	return o
}

func (o Options) check() error {
	switch {
	case o.Name == "":
		return errors.New("the server has no name")
	case o.Dir == "":
		return errors.New("the server has no directory")
	case o.Existing && o.InitialCluster == "":
		return errors.New("the server is to join a mesh, but no other server is named")
	case o.Election < 5*o.Tick:
		return fmt.Errorf("a server must wait for at least 5 signs of life: with one every %v it can't be %v", o.Tick, o.Election)
	}
	return nil
}

func start(ctx context.Context, o Options, lock *os.File) (*Server, error) {
	if err := enoughRoom(o); err != nil {
		return nil, err
	}
	if err := setAsideOther(o); err != nil {
		return nil, err
	}
	u, err := findURLs(o)
	if err != nil {
		return nil, err
	}
	s := newServer(o, u, lock)
	if err := s.run(ctx); err != nil {
		return nil, err
	}
	s.work.Go(s.keep)
	return s, nil
}

func newServer(o Options, u urls, lock *os.File) *Server {
	s := &Server{options: o, urls: u, lock: lock, bridge: newBridge(o.Log), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *Server) run(ctx context.Context) error {
	if err := s.launch(ctx); err != nil {
		s.cancel()
		s.bridge.close()
		return err
	}
	s.client = v3client.New(s.etcd.Server)
	go s.watch()
	return nil
}

// launch starts etcd and waits until it is ready.
func (s *Server) launch(ctx context.Context) error {
	config, err := s.config()
	if err != nil {
		return err
	}
	etcd, err := embed.StartEtcd(config)
	for end := time.Now().Add(unsettled); err != nil && s.early(err) && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		etcd, err = embed.StartEtcd(config)
	}
	if err != nil {
		return fmt.Errorf("starting the etcd server: %w", err)
	}
	if err := s.ready(ctx, etcd); err != nil {
		s.bridge.end()
		shut(etcd)
		return err
	}
	s.etcd = etcd
	return nil
}

// unsettled is for how long the servers of a mesh may disagree on who belongs to it.
const unsettled = 5 * time.Second

// early tells whether the server has failed to join since a server that it has asked is
// behind: it doesn't know yet of this one, or not even the version of its mesh.
func (s *Server) early(err error) bool {
	return s.options.Existing && (strings.Contains(err.Error(), "error validating peerURLs") ||
		strings.Contains(err.Error(), "incompatible with current running cluster"))
}

func (s *Server) ready(ctx context.Context, etcd *embed.Etcd) error {
	quick, end := context.WithCancel(ctx)
	var hastening sync.WaitGroup
	hastening.Go(func() { hasten(quick, etcd.Server) })
	defer hastening.Wait()
	defer end()
	select {
	case <-etcd.Server.ReadyNotify():
		return nil
	case <-etcd.Server.StopNotify():
		return ErrRemoved
	case err := <-etcd.Err():
		return ended(etcd, err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watch waits for the end of the server, ordered or not.
func (s *Server) watch() {
	select {
	case <-s.ctx.Done():
	case <-s.etcd.Server.StopNotify():
		s.giveUp(ErrRemoved)
	case err := <-s.etcd.Err():
		s.giveUp(ended(s.etcd, err))
	}
	s.close()
	close(s.done)
}

// giveUp has the server stop for a reason: the first one counts.
func (s *Server) giveUp(why error) {
	s.mu.Lock()
	if s.err == nil && s.ctx.Err() == nil {
		s.err = why
	}
	s.mu.Unlock()
	s.cancel()
}

// close ends everything that belongs to the server, those who wait for news included:
// they find another server.
func (s *Server) close() {
	s.handOver()
	s.bridge.end()
	s.mu.Lock()
	streams := s.streams
	s.mu.Unlock()
	for _, g := range streams {
		g.Stop() // etcd itself would wait for as long as somebody watches
	}
	s.work.Wait()
	shut(s.etcd)
	_ = s.client.Close() // it has no connection
	s.bridge.close()
	if err := s.lock.Close(); err != nil {
		s.options.Log.Warn("the lock of the server can't be closed", "error", err)
	}
}

// handOver gives the lead to another server if this one has it. One that is out of reach
// of the others doesn't wait for them for long.
func (s *Server) handOver() {
	if errors.Is(s.why(), ErrRemoved) {
		return
	}
	handed := make(chan error, 1)
	go func() { handed <- s.etcd.Server.TryTransferLeadershipOnShutdown() }()
	select {
	case err := <-handed:
		if err != nil {
			s.options.Log.Debug("nobody has taken the lead over", "error", err)
		}
	case <-time.After(2 * time.Second): // it ends with the server
	}
}

// shut ends a server. Close alone would wait for ever for one that was never ready.
func shut(etcd *embed.Etcd) {
	etcd.Server.HardStop()
	etcd.Close()
}

// ended says why a server has ended by itself, after err has come from one of those that
// listen for it. Nobody else stops it but the mesh, when it was removed.
func ended(etcd *embed.Etcd, err error) error {
	select {
	case <-etcd.Server.StoppingNotify():
		return ErrRemoved
	default:
		return fmt.Errorf("the etcd server doesn't listen any more: %w", err)
	}
}

// Stop stops the server; if it leads, another takes over first. It returns when nothing of
// it is left, or with the error of ctx when that ends before: the server goes on stopping.
// It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.cancel()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done is closed when the server has stopped, asked or not.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server has stopped by itself, such as ErrRemoved, and nil if it runs or
// was stopped.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.why()
	default:
		return nil
	}
}

func (s *Server) why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// ClientURLs are where clients find the server.
func (s *Server) ClientURLs() []string { return s.urls.advertiseClient }

// PeerURLs are where other servers find the server.
func (s *Server) PeerURLs() []string { return s.urls.advertisePeer }

// ID is the identity of the member within its mesh.
func (s *Server) ID() uint64 { return uint64(s.etcd.Server.MemberID()) }

// Cluster is the identity of the mesh, as etcd sees it.
func (s *Server) Cluster() uint64 { return uint64(s.etcd.Server.Cluster().ID()) }

// Leads tells whether the server is the leader.
func (s *Server) Leads() bool { return s.etcd.Server.Leader() == s.etcd.Server.MemberID() }

// Learns tells whether the server has no vote yet.
func (s *Server) Learns() bool {
	for _, m := range s.etcd.Server.Cluster().Members() {
		if m.ID == s.etcd.Server.MemberID() {
			return m.IsLearner
		}
	}
	return false // it was removed; to ask etcd itself would be fatal now
}

// Client returns a client of this very server, without a socket between. It is closed with
// the server. Once the mesh asks for certificates, only calls with a context from Root are
// let in.
func (s *Server) Client() *clientv3.Client { return s.client }

// Root returns a context with which calls of Client may do everything.
func (s *Server) Root(ctx context.Context) context.Context {
	return s.etcd.Server.AuthStore().WithRoot(ctx)
}

// dataDir is where etcd itself keeps its data within a directory.
func dataDir(dir string) string { return filepath.Join(dir, "member") }
