package peer_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

func TestALeaderThatLeavesIsReplacedFirst(t *testing.T) {
	w := newTown(t)
	w.start("a")
	seed := w.seed("a")
	for _, host := range []string{"b", "c", "d"} {
		w.start(host, seed)
	}
	w.settles("a b c")
	w.put("d", mesh.KVPrefix+"x", "1")
	began := time.Now()
	w.leave("a")
	t.Logf("left after %v", time.Since(began))
	if got := w.voters(); got != "b c d" {
		t.Errorf("the voters are %q when it has left", got)
	}
	w.settles("b c d")
	if got := w.get("d", mesh.KVPrefix+"x"); got != "1" {
		t.Errorf("what was written is %q", got)
	}
	if got := w.get("d", mesh.AlivePrefix+"a"); got != "" {
		t.Errorf("the host that has left says %q", got)
	}
	began = time.Now()
	w.start("a") // it knows the others
	t.Logf("back after %v", time.Since(began))
	if got := w.get("a", mesh.KVPrefix+"x"); got != "1" {
		t.Errorf("when it is back, what was written is %q", got)
	}
}

func TestTheOnlyServerLeaves(t *testing.T) {
	w := newTown(t)
	w.start("a")
	w.start("b", w.seed("a"))
	w.put("b", mesh.KVPrefix+"x", "1")
	began := time.Now()
	w.leave("a")
	t.Logf("left after %v", time.Since(began))
	w.settles("b")
	if got := w.get("b", mesh.KVPrefix+"x"); got != "1" {
		t.Errorf("what was written is %q", got)
	}
}

func TestAllLeaveTogetherAndComeBack(t *testing.T) {
	w := newTown(t)
	w.start("a")
	seed := w.seed("a")
	w.start("b", seed)
	w.start("c", seed)
	w.settles("a b c")
	w.put("a", mesh.KVPrefix+"x", "1")
	began := time.Now()
	var leaving sync.WaitGroup
	hosts := w.hosts
	w.hosts = map[string]*peer.Peer{}
	for host, p := range hosts {
		leaving.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := p.Close(ctx); err != nil {
				t.Errorf("%s has left with %v", host, err)
			}
		})
	}
	leaving.Wait()
	t.Logf("all have left after %v", time.Since(began))

	began = time.Now()
	var coming sync.WaitGroup
	var mu sync.Mutex
	for _, host := range []string{"c", "b", "a"} {
		coming.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			p, err := peer.Open(ctx, w.options(peer.Options{Host: host}))
			if err != nil {
				t.Errorf("opening %s: %v", host, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			w.hosts[host] = p
			t.Cleanup(func() { w.kill(host) })
		})
	}
	coming.Wait()
	if t.Failed() {
		return
	}
	t.Logf("all are back after %v", time.Since(began))
	w.settles("a b c")
	if got := w.get("b", mesh.KVPrefix+"x"); got != "1" {
		t.Errorf("what was written is %q", got)
	}
}

func TestAHostOfAnotherMeshSetsItsDataAside(t *testing.T) {
	w := newTown(t)
	w.start("a")
	w.start("b") // a mesh of its own
	w.put("b", mesh.KVPrefix+"x", "of b")
	w.kill("b")
	w.put("a", mesh.KVPrefix+"x", "of a")
	w.start("b", w.seed("a"))
	if got := w.get("b", mesh.KVPrefix+"x"); got != "of a" {
		t.Errorf("b sees what is %q", got)
	}
	w.start("c", w.seed("a"))
	w.settles("a b c")
	w.setAside("b", 1)
}

func TestAHostOfAnotherMeshWaitsForTheOneThatItIsToldOf(t *testing.T) {
	w := newTown(t)
	w.start("b") // a mesh of its own
	w.put("b", mesh.KVPrefix+"x", "of b")
	w.kill("b")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if p, err := peer.Open(ctx, w.options(peer.Options{Host: "b", Seeds: []string{address}})); err == nil {
		t.Error("it is in a mesh that isn't there")
		_ = p.Close(t.Context())
	}
	w.open(peer.Options{Host: "a", ClientURLs: []string{address}})
	w.put("a", mesh.KVPrefix+"x", "of a")
	w.start("b", address)
	if got := w.get("b", mesh.KVPrefix+"x"); got != "of a" {
		t.Errorf("b sees what is %q", got)
	}
	w.setAside("b", 1)
}

func TestAnEtcdOfOthersIsUsedWithoutServing(t *testing.T) {
	w := newTown(t)
	node := meshtest.Start(t)
	began := time.Now()
	w.start("a", node.Endpoint)
	t.Logf("the first host after %v", time.Since(began))
	began = time.Now()
	w.start("b", node.Endpoint)
	t.Logf("the second host after %v", time.Since(began))
	w.start("c", node.Endpoint)
	w.put("a", mesh.KVPrefix+"x", "1")
	if got := w.get("b", mesh.KVPrefix+"x"); got != "1" {
		t.Errorf("b sees %q", got)
	}
	w.settled("test")
	for host, p := range w.hosts {
		if s := p.Status(); !s.Mesh.Foreign || s.Member != 0 || s.Leader {
			t.Errorf("%s is %+v", host, s)
		}
	}
	w.leave("a")
	if got := w.get("b", mesh.AlivePrefix+"a"); got != "" {
		t.Errorf("a has left, but says %q", got)
	}
}

func TestAHostThatWillNotServe(t *testing.T) {
	w := newTown(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if p, err := peer.Open(ctx, w.options(peer.Options{Host: "a", NoServer: true})); err == nil {
		t.Error("it has begun a mesh without a server")
		_ = p.Close(ctx)
	} else if ctx.Err() != nil {
		t.Errorf("it took long to say %v", err)
	}
	w.start("a")
	w.open(peer.Options{Host: "b", Seeds: []string{w.seed("a")}, NoServer: true})
	w.start("c", w.seed("a"))
	w.settled("a")
	w.start("d", w.seed("a"))
	w.settles("a c d")
}

func TestTwoProcessesWithOneDirectory(t *testing.T) {
	w := newTown(t)
	w.start("a")
	p, err := peer.Open(t.Context(), w.options(peer.Options{Host: "a"}))
	if err == nil {
		t.Error("both are in the mesh")
		_ = p.Close(t.Context())
	}
}

func TestIdealSizeOfANewMesh(t *testing.T) {
	w := newTown(t)
	w.open(peer.Options{Host: "a", IdealSize: 1})
	seed := w.seed("a")
	w.start("b", seed)
	w.start("c", seed)
	w.settled("a")
	w.put("c", members.IdealKey, "nonsense") // as if it weren't there
	w.settles("a b c")
}

func TestAHostThatHasLostItsDataIsReplacedByItself(t *testing.T) {
	w := newTown(t)
	w.start("a")
	seed := w.seed("a")
	w.start("b", seed)
	w.start("c", seed)
	w.settles("a b c")
	before := w.ids()
	w.kill("b")
	if err := os.RemoveAll(filepath.Join(w.dir, "b", "server", "member")); err != nil {
		t.Fatal(err)
	}
	w.start("b")
	w.eventually("b is another member", func() bool { return w.voters() == "a b c" && w.ids()["b"] != before["b"] })
}

func TestAServerWhosePortIsTakenMoves(t *testing.T) {
	w := newTown(t)
	w.start("a")
	seed := w.seed("a")
	w.start("b", seed)
	w.start("c", seed)
	w.settles("a b c")
	before := w.ids()
	var kept struct {
		Client []string `json:"client_urls"`
		Peer   []string `json:"peer_urls"`
	}
	w.kill("b")
	w.read(filepath.Join(w.dir, "b", "peer.json"), &kept)
	for _, text := range []string{kept.Client[0], kept.Peer[0]} {
		l, err := net.Listen("tcp", strings.TrimPrefix(text, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	w.start("b")
	w.eventually("b is where it says", func() bool {
		return w.voters() == "a b c" && strings.Contains(w.get("a", members.ServersKey), w.seed("b"))
	})
	if now := w.ids()["b"]; now != before["b"] || w.seed("b") == kept.Client[0] {
		t.Errorf("b is %v at %s, and was %v at %s", now, w.seed("b"), before["b"], kept.Client[0])
	}
	w.kill("c") // so that a needs b
	w.put("a", mesh.KVPrefix+"x", "1")
}

func TestTwoHostsOfOneName(t *testing.T) {
	w := newTown(t)
	w.start("a")
	w.start("b", w.seed("a"))
	o := w.options(peer.Options{Host: "b", Seeds: []string{w.seed("a")}})
	o.Dir += "-other"
	began := time.Now()
	p, err := peer.Open(t.Context(), o)
	if err == nil {
		_ = p.Close(t.Context())
		t.Fatal("both are in the mesh")
	}
	t.Logf("refused after %v: %v", time.Since(began), err)
	if !strings.Contains(err.Error(), "another host calls itself b") {
		t.Error("it doesn't say why")
	}
}

func TestAnAddressThatNobodyCanReach(t *testing.T) {
	w := newTown(t)
	p, err := peer.Open(t.Context(), w.options(peer.Options{Host: "a", ClientURLs: []string{"http://0.0.0.0:0"}, Insecure: true}))
	if err == nil {
		_ = p.Close(t.Context())
	}
	if err == nil || !strings.Contains(err.Error(), "--advertise-client-urls") {
		t.Errorf("got %v, want what to do", err)
	}
}
