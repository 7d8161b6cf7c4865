package peer_test

import (
	"context"
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
