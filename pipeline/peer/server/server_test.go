package server_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

func TestAServerKeepsWhatItHasAndWhereItIsOverRestarts(t *testing.T) {
	dir := tempDir(t)
	var client, peer []string
	for i := range 3 {
		s, err := server.Start(t.Context(), server.Options{Name: "a", Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if got := get(t, s, "x"); i > 0 && got != "y" {
			t.Errorf("after the restart x is %q, expected what was put before", got)
		}
		put(t, s, "x", "y")
		if i > 0 && (!slices.Equal(client, s.ClientURLs()) || !slices.Equal(peer, s.PeerURLs())) {
			t.Errorf("the ports have changed from %v %v to %v %v", client, peer, s.ClientURLs(), s.PeerURLs())
		}
		client, peer = s.ClientURLs(), s.PeerURLs()
		if !s.Leads() || s.Learns() {
			t.Error("the only server does not lead")
		}
		stop(t, s)
		stop(t, s) // once more does no harm
		if s.Err() != nil {
			t.Errorf("stopped in order, Err is %v", s.Err())
		}
	}
}

func TestAPortThatIsTakenIsReplacedByAFreeOne(t *testing.T) {
	dir := tempDir(t)
	s := start(t, server.Options{Name: "a", Dir: dir})
	was := s.ClientURLs()[0]
	put(t, s, "x", "y")
	stop(t, s)
	l, err := net.Listen("tcp", strings.TrimPrefix(was, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s = start(t, server.Options{Name: "a", Dir: dir})
	if s.ClientURLs()[0] == was {
		t.Error("the server says to be where somebody else is")
	}
	r, err := remote(t, s).Get(t.Context(), "x")
	if err != nil || len(r.Kvs) != 1 {
		t.Errorf("reading x at the new port: %v %v", r, err)
	}
}

func TestASecondServerInADirectoryIsRefusedWhileTheFirstRuns(t *testing.T) {
	dir := tempDir(t)
	first := start(t, server.Options{Name: "a", Dir: dir})
	_, err := server.Start(t.Context(), server.Options{Name: "a", Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "another process runs a server in "+dir) {
		t.Errorf("the second server: %v", err)
	}
	if _, err := server.Inspect(dir); err == nil {
		t.Error("what a running server changes was read from its files")
	}
	put(t, first, "x", "y")
}

func TestStartGivesUpWhenItsContextEnds(t *testing.T) {
	dir := tempDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := server.Start(ctx, server.Options{
		Name: "a", Dir: dir, PeerURLs: []string{"http://127.0.0.1:0"},
		AdvertisePeerURLs: []string{"http://127.0.0.1:1"},
		InitialCluster:    "a=http://127.0.0.1:1,b=http://127.0.0.1:2",
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that waits for one that never comes: %v", err)
	}
	if _, err := server.SetAside(dir, "it is free again", slog.New(slog.DiscardHandler)); err != nil {
		t.Error("the directory is still in use:", err)
	}
}

func TestWhatCannotBeAServerIsRefused(t *testing.T) {
	good := server.Options{Name: "a", Dir: "x"}
	for _, c := range []struct {
		name   string
		change func(*server.Options)
		want   string
	}{
		{"a name is needed", func(o *server.Options) { o.Name = "" }, "has no name"},
		{"a directory is needed", func(o *server.Options) { o.Dir = "" }, "has no directory"},
		{"a mesh to join has other servers", func(o *server.Options) { o.Existing = true }, "no other server is named"},
		{"patience is longer than the signs of life are apart", func(o *server.Options) {
			o.Tick, o.Election = time.Second, 2*time.Second
		}, "at least 5 signs of life"},
		{"a URL has a scheme and a port", func(o *server.Options) { o.ClientURLs = []string{"10.0.0.1"} }, "expected one like https://"},
		{"an address is one of this host", func(o *server.Options) {
			o.PeerURLs = []string{"http://192.0.2.1:0"}
		}, "listening for other servers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			o.Dir = filepath.Join(tempDir(t), o.Dir)
			c.change(&o)
			s, err := server.Start(t.Context(), o)
			if err == nil {
				stop(t, s)
				t.Fatal("it has started")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, expected it to have %q", err, c.want)
			}
		})
	}
}

func TestAServerStopsAtOnceThoughSomebodyWatches(t *testing.T) {
	s := start(t, server.Options{Name: "a"})
	client := remote(t, s)
	watch := client.Watch(clientv3.WithRequireLeader(t.Context()), "x", clientv3.WithCreatedNotify())
	<-watch
	begin := time.Now()
	stop(t, s)
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

func TestTheDirectoryIsForItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(tempDir(t), "a")
	start(t, server.Options{Name: "a", Dir: dir})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v, expected 0700", info.Mode(), err)
	}
}
