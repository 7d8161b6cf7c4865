package peer_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// town is a mesh of hosts in this process.
type town struct {
	t     *testing.T
	dir   string
	hosts map[string]*peer.Peer
	grace time.Duration
}

// newTown is without hosts. Its test waits more than it works, so others run beside it.
func newTown(t *testing.T) *town {
	t.Parallel()
	return &town{t: t, dir: t.TempDir(), hosts: map[string]*peer.Peer{}, grace: 2 * time.Second}
}

// eventually waits until something holds.
func (w *town) eventually(what string, holds func() bool) {
	w.t.Helper()
	for began := time.Now(); !holds(); {
		if time.Since(began) > 60*time.Second {
			w.t.Fatalf("it never came to be that %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// read reads a file of JSON.
func (w *town) read(path string, into any) {
	w.t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// start opens a host with seeds.
func (w *town) start(host string, seeds ...string) *peer.Peer {
	w.t.Helper()
	return w.open(peer.Options{Host: host, Seeds: seeds})
}

func (w *town) open(o peer.Options) *peer.Peer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	p, err := peer.Open(ctx, w.options(o))
	if err != nil {
		w.t.Fatalf("opening %s: %v", o.Host, err)
	}
	w.hosts[o.Host] = p
	w.t.Cleanup(func() { w.kill(o.Host) })
	return p
}

func (w *town) options(o peer.Options) peer.Options {
	o.Dir, o.Grace = filepath.Join(w.dir, o.Host), w.grace
	o.Log = slog.New(slog.NewTextHandler(lines{w.t, o.Host}, &slog.HandlerOptions{Level: level()}))
	return o
}

// kill closes a host without leaving in order.
func (w *town) kill(host string) {
	if p := w.hosts[host]; p != nil {
		delete(w.hosts, host)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.Close(ctx)
	}
}

func (w *town) leave(host string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	p := w.hosts[host]
	delete(w.hosts, host)
	if err := p.Close(ctx); err != nil {
		w.t.Errorf("%s has left with %v", host, err)
	}
}

// seed is where a host can be reached.
func (w *town) seed(host string) string {
	w.t.Helper()
	text := w.get(host, mesh.AlivePrefix+host)
	var a members.Alive
	if err := json.Unmarshal([]byte(text), &a); err != nil || len(a.ClientURLs) == 0 {
		w.t.Fatalf("%s says %q", host, text)
	}
	return a.ClientURLs[0]
}

func (w *town) get(host, key string) string {
	w.t.Helper()
	e, _, err := w.hosts[host].Store().Get(w.t.Context(), key)
	if err != nil {
		w.t.Fatalf("%s: %v", host, err)
	}
	return string(e.Value)
}

func (w *town) put(host, key, value string) {
	w.t.Helper()
	_, err := w.hosts[host].Store().Write(w.t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put(key, []byte(value))}})
	if err != nil {
		w.t.Fatalf("%s: %v", host, err)
	}
}

// voters are what etcd itself says, such as "a b c" or "a b +c" with a learner.
func (w *town) voters() string {
	for _, p := range w.hosts {
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		resp, err := p.Client().MemberList(ctx)
		cancel()
		if err != nil {
			continue
		}
		var names []string
		for _, m := range resp.Members {
			name := m.Name
			if m.IsLearner {
				name = "+" + name
			}
			names = append(names, name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	return "nobody answers"
}

// ids are the members by host.
func (w *town) ids() map[string]uint64 {
	w.t.Helper()
	ids := map[string]uint64{}
	for _, p := range w.hosts {
		resp, err := p.Client().MemberList(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, m := range resp.Members {
			ids[m.Name] = m.ID
		}
		break
	}
	return ids
}

// settles waits until the voters are as they should be, and published.
func (w *town) settles(want string) time.Duration {
	w.t.Helper()
	began := time.Now()
	got, told := "", ""
	for time.Since(began) < 60*time.Second {
		if got = w.voters(); got == want {
			if told = w.told(); told == want {
				return time.Since(began)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.t.Fatalf("the voters are %q, hosts are told of %q, want %q", got, told, want)
	return 0
}

// settled checks that the voters stay as they are for a while.
func (w *town) settled(want string) {
	w.t.Helper()
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(50 * time.Millisecond) {
		if got := w.voters(); got != want {
			w.t.Fatalf("the voters are %q, want %q", got, want)
		}
	}
}

// setAside checks how often a host has set data aside.
func (w *town) setAside(host string, want int) {
	w.t.Helper()
	aside, err := filepath.Glob(filepath.Join(w.dir, host, "server", "aside-*"))
	if err != nil || len(aside) != want {
		w.t.Errorf("%s has set aside %q, %v, want %d", host, aside, err, want)
	}
}

// told is what the leader tells all hosts.
func (w *town) told() string {
	for _, p := range w.hosts {
		e, _, err := p.Store().Get(w.t.Context(), members.ServersKey)
		if err != nil {
			continue
		}
		var s members.Servers
		if err := json.Unmarshal(e.Value, &s); err != nil {
			w.t.Fatal(err)
		}
		var names []string
		for _, server := range s.Servers {
			names = append(names, server.Host)
		}
		return strings.Join(names, " ")
	}
	return "nobody answers"
}

// lines writes a log through a test.
type lines struct {
	t    *testing.T
	host string
}

func (l lines) Write(text []byte) (int, error) {
	l.t.Logf("%s %s %s", time.Now().Format("05.000"), l.host, text)
	return len(text), nil
}

func TestAHostAloneIsAMesh(t *testing.T) {
	w := newTown(t)
	began := time.Now()
	w.start("a")
	t.Logf("ready after %v", time.Since(began))
	w.put("a", mesh.KVPrefix+"x", "1")
	w.settles("a")
	w.leave("a")
	began = time.Now()
	w.start("a")
	t.Logf("ready again after %v", time.Since(began))
	if got := w.get("a", mesh.KVPrefix+"x"); got != "1" {
		t.Errorf("got %q after a restart, want what was there", got)
	}
	w.settles("a")
}

func TestASecondHostJoinsBySeeds(t *testing.T) {
	w := newTown(t)
	w.start("a")
	began := time.Now()
	w.start("b", "127.0.0.1:1", w.seed("a")) // nobody is at the first
	t.Logf("joined after %v", time.Since(began))
	w.put("b", mesh.KVPrefix+"x", "1")
	if got := w.get("a", mesh.KVPrefix+"x"); got != "1" {
		t.Errorf("a sees %q", got)
	}
	w.settles("a")
}

func TestAMeshGrowsAndShrinks(t *testing.T) {
	w := newTown(t)
	w.start("a")
	seed := w.seed("a")
	w.start("b", seed)
	w.start("c", seed)
	t.Logf("three voters after %v", w.settles("a b c"))
	w.start("d", seed)
	w.start("e", seed)
	t.Logf("five voters after %v", w.settles("a b c d e"))
	w.put("d", members.IdealKey, "3")
	t.Logf("three voters again after %v", w.settles("a b c"))
}

// level is that of the logs of tests.
func level() slog.Level {
	if os.Getenv("PEER_TEST_DEBUG") != "" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
