package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

func TestMain(m *testing.M) {
	if child, ok := children[os.Getenv("SERVER_TEST_CHILD")]; ok {
		child(os.Getenv("SERVER_TEST_DIR"))
		return
	}
	wal.SegmentSizeBytes = 2 << 20 // there are many servers
	status := m.Run()
	if err := leaks(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, "what is left when all servers have stopped:", err)
		status = 1
	}
	os.Exit(status)
}

// leaks waits for connections between servers, which etcd leaves to their own limits in
// time: five seconds after a server has stopped they are gone.
func leaks() error {
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if err = goleak.Find(); err == nil {
			return nil
		}
	}
	return err
}

// children are what this program does when a test starts it as a process of its own.
var children = map[string]func(dir string){}

// patience is for how long a test waits for what has to come.
const patience = 30 * time.Second

// tempDir is a directory in memory if there can be one: what is tested here doesn't depend
// on how busy the disk is, but would have to wait for it.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "server") //nolint:usetesting // that would be on the disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// start starts a server that is stopped at the end of the test.
func start(t *testing.T, o server.Options) *server.Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(tempDir(t), o.Name)
	}
	s, err := server.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *server.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error("stopping:", err)
	}
}

// add tells a mesh of a new server, and returns the Options with which it is to start.
func add(t *testing.T, o server.Options, to *server.Server) server.Options {
	t.Helper()
	scheme := "http://"
	if o.TLS.PeerCertFile != "" {
		scheme = "https://"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.PeerURLs = []string{scheme + l.Addr().String()}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addAt(t, o, to, o.PeerURLs[0])
}

// addAt is add for a server that others find at peer.
func addAt(t *testing.T, o server.Options, to *server.Server, peer string) server.Options {
	t.Helper()
	var added *clientv3.MemberAddResponse
	until(t, "a learner is added", func() (err error) {
		added, err = to.Client().MemberAddAsLearner(to.Root(t.Context()), []string{peer})
		return err
	})
	var all []string
	for _, m := range added.Members {
		if m.ID == added.Member.ID {
			m.Name = o.Name
		}
		if m.Name == "" { // it has not said it yet
			m.Name = fmt.Sprint(m.ID)
		}
		all = append(all, fmt.Sprintf("%s=%s", m.Name, m.PeerURLs[0]))
	}
	o.InitialCluster = strings.Join(all, ",")
	o.Existing = true
	o.Expect = server.Identity{Member: added.Member.ID, Cluster: added.Header.ClusterId}
	return o
}

// promote gives a server its vote.
func promote(t *testing.T, s, by *server.Server) {
	t.Helper()
	until(t, "the learner is promoted", func() error {
		_, err := by.Client().MemberPromote(by.Root(t.Context()), s.ID())
		return err
	})
}

// three starts a mesh of three voters: first those that have joined, then the first one.
func three(t *testing.T, o server.Options) (a, b, c *server.Server) {
	t.Helper()
	o.Name = "a"
	a = start(t, o)
	o.Name = "b"
	b = start(t, add(t, o, a))
	o.Name = "c"
	c = start(t, add(t, o, a))
	promote(t, b, a)
	promote(t, c, a)
	return a, b, c
}

// until calls what until it succeeds.
func until(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: still not after %v: %v", what, patience, err)
}

func put(t *testing.T, s *server.Server, key, value string) int64 {
	t.Helper()
	r, err := s.Client().Put(s.Root(t.Context()), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func get(t *testing.T, s *server.Server, key string) string {
	t.Helper()
	r, err := s.Client().Get(s.Root(t.Context()), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

// remote returns a client that reaches a server as others do.
func remote(t *testing.T, s *server.Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: s.ClientURLs(), Logger: server.Zap(slog.New(slog.DiscardHandler)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// records keeps what is logged, for tests that wait for it.
type records struct {
	mu    sync.Mutex
	lines []string
}

func (r *records) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, string(line))
	return len(line), nil
}

// find returns the first line with all parts, or an empty one.
func (r *records) find(parts ...string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lines {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(l, p)
		}
		if all {
			return l
		}
	}
	return ""
}

// count returns how many lines have a part.
func (r *records) count(part string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, l := range r.lines {
		if strings.Contains(l, part) {
			n++
		}
	}
	return n
}

// await waits for a line with all parts.
func (r *records) await(t *testing.T, parts ...string) string {
	t.Helper()
	var line string
	until(t, "a line is logged", func() error {
		if line = r.find(parts...); line == "" {
			r.mu.Lock()
			defer r.mu.Unlock()
			return fmt.Errorf("no line has %q, but there are:\n%s", parts, strings.Join(r.lines, ""))
		}
		return nil
	})
	return line
}

func (r *records) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: level}))
}
