package server

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
)

// MaxRequest is how large a request of a client may be, in bytes. Clients have limits of
// their own, which are lower unless they are told.
const MaxRequest = 8 << 20

func init() {
	// Each server has two files of this size for its log, whatever it holds.
	wal.SegmentSizeBytes = 16 << 20
}

// config says how etcd is to run.
func (s *Server) config() (*embed.Config, error) {
	o := s.options
	c := embed.NewConfig()
	c.Name, c.Dir = o.Name, o.Dir
	for _, u := range []struct {
		to   *[]url.URL
		from []string
	}{
		{&c.ListenClientUrls, s.urls.client},
		{&c.ListenPeerUrls, s.urls.peer},
		{&c.AdvertiseClientUrls, s.urls.advertiseClient},
		{&c.AdvertisePeerUrls, s.urls.advertisePeer},
	} {
		var err error
		if *u.to, err = parseURLs(u.from); err != nil {
			return nil, err
		}
	}
	c.InitialCluster = o.InitialCluster
	if c.ForceNewCluster = s.alone; c.InitialCluster == "" {
		c.InitialCluster = c.InitialClusterFromName(o.Name)
	}
	if o.Existing {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	if o.Token != "" {
		c.InitialClusterToken = o.Token
	}
	c.ClientTLSInfo = tlsInfo(o.TLS.CertFile, o.TLS.KeyFile, o.TLS.CAFile)
	c.ClientTLSInfo.CRLFile = o.TLS.CRLFile
	c.PeerTLSInfo = tlsInfo(o.TLS.PeerCertFile, o.TLS.PeerKeyFile, o.TLS.PeerCAFile)
	c.PeerTLSInfo.CRLFile = o.TLS.CRLFile
	if name := o.TLS.ServerName; name != "" {
		c.PeerTLSInfo.ServerName, c.PeerTLSInfo.AllowedHostnames = name, []string{name}
		c.PeerTLSInfo.SkipClientSANVerify = true
	}
	c.GRPCAdditionalServerOptions = append([]grpc.ServerOption{grpc.ChainUnaryInterceptor(outlive, retry)}, o.GRPC...)

	c.TickMs, c.ElectionMs = uint(o.Tick/time.Millisecond), uint(o.Election/time.Millisecond)
	c.QuotaBackendBytes = o.Quota
	c.MaxRequestBytes = MaxRequest
	// What was written last is kept in memory for servers that are behind: a little of it.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 2000, 1000
	c.WarningApplyDuration, c.WarningUnaryRequestDuration = time.Second, time.Second
	c.EnableGRPCGateway = false
	// etcd would refuse changes for its first 5 seconds with each new server, also those on
	// which a host waits that leaves. Whoever changes members sees to it that most of them
	// are there: package members does.
	c.StrictReconfigCheck = false
	c.MaxLearners = 4 // so that a mesh can grow by more than one server without waiting
	if !s.alone {
		// Clients have no use for what etcd offers by HTTP, and are served better where they
		// don't share their port with it. The path is short, as that of a socket has to be.
		path := fmt.Sprintf("/proc/self/fd/%d/http.sock", s.lock.Fd())
		c.ListenClientHttpUrls = []url.URL{{Scheme: "unix", Path: path}}
	}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(s.bridge.logger())
	c.ServiceRegister = func(g *grpc.Server) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.streams = append(s.streams, g)
	}
	return c, nil
}

func tlsInfo(cert, key, ca string) transport.TLSInfo {
	if cert == "" {
		return transport.TLSInfo{}
	}
	return transport.TLSInfo{CertFile: cert, KeyFile: key, TrustedCAFile: ca, ClientCertAuth: true}
}

// hasten has a server that is alone elect itself at once, which it would otherwise do after
// having waited for others for up to its election timeout. To be asked to is part of the
// protocol: a leader that stops does it with its successor.
func hasten(ctx context.Context, s *etcdserver.EtcdServer) {
	me := uint64(s.MemberID())
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for s.Leader() == 0 {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
		members := s.Cluster().Members()
		if len(members) != 1 || members[0].ID != s.MemberID() || members[0].IsLearner {
			continue
		}
		if committed := s.CommittedIndex(); committed > 0 && s.AppliedIndex() >= committed {
			_ = s.Process(ctx, &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), To: &me, From: &me})
		}
	}
}

func parseURLs(from []string) ([]url.URL, error) {
	all := make([]url.URL, 0, len(from))
	for _, f := range from {
		u, err := url.Parse(strings.TrimSuffix(f, "/"))
		if err != nil {
			return nil, err
		}
		all = append(all, *u)
	}
	return all, nil
}
