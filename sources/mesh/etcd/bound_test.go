package etcd_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

// loseLeases does to all leases what a pause does that is longer than mesh.TTL.
func loseLeases(t *testing.T, c *clientv3.Client) {
	t.Helper()
	leases, err := c.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		if _, err := c.Revoke(t.Context(), l.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatIsBoundGoesAtOnceWhenItsHostLeaves(t *testing.T) {
	n := meshtest.Start(t)
	s, other := n.Store(t, "a"), n.Store(t, "b")
	write(t, s, bind("/b", "1"), mesh.Put("/p", nil))
	if e, ok := get(t, other, "/b"); !ok || !e.Bound {
		t.Errorf("got %+v, %v", e, ok)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e, ok := get(t, other, "/b"); ok {
		t.Errorf("it is still there: %+v", e)
	}
	if _, ok := get(t, s, "/p"); !ok {
		t.Error("what is not bound has gone, too")
	}
	if _, err := s.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{bind("/b", "2")}}); err == nil || err.Error() != "writing /b: the store is closed, so nothing can be bound to its host" {
		t.Errorf("got %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestWhatWasLostIsPutBackUnlessItIsSomebodyElsesNow(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	s, other := n.Store(t, "a"), n.Store(t, "b")
	write(t, s, bind("/k/kept", "old"), bind("/k/taken", "a"), bind("/k/deleted", ""), bind("/k/unbound", ""), bind("/k/dir/1", ""), bind("/k/dir/2", ""))
	write(t, s, bind("/k/kept", "new"))
	write(t, s, mesh.Delete("/k/deleted"), mesh.Put("/k/unbound", nil), mesh.Op{Key: "/k/dir/", Delete: true, Below: true})
	if e, _ := get(t, s, "/k/unbound"); e.Bound {
		t.Error("what was written without Bound is bound")
	}
	loseLeases(t, n.Client(t))
	write(t, other, mesh.Put("/k/taken", []byte("b")))
	await(t, "the key is back", mesh.TTL, func() bool { _, ok := get(t, other, "/k/kept"); return ok })
	l, err := other.List(t.Context(), "/k/")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, e := range l.Entries {
		got[e.Key] = fmt.Sprintf("%s %v", e.Value, e.Bound)
	}
	want := map[string]string{"/k/kept": "new true", "/k/taken": "b false", "/k/unbound": " false"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAHostNoticesAtOnceThatItIsThoughtDead(t *testing.T) {
	n := meshtest.Start(t)
	s := n.Store(t, "a")
	write(t, s, bind(mesh.AlivePrefix+"a", ""), bind("/b", ""))
	f := follow(t, n.Store(t, "b"), mesh.Key("/b"))
	f.reset()
	for range 3 {
		began := time.Now()
		loseLeases(t, n.Client(t))
		c := f.next()
		if len(c.Deleted) == 1 { // unless both came as one
			c = f.next()
		}
		if len(c.Put) != 1 || !c.Put[0].Bound {
			t.Fatalf("got %+v", c)
		}
		if took := time.Since(began); took > mesh.TTL/5 {
			t.Errorf("it was dead for %v", took)
		}
	}
	write(t, s, mesh.Delete(mesh.AlivePrefix+"a")) // which is no loss
	if _, ok := get(t, s, mesh.AlivePrefix+"a"); ok {
		t.Error("what it takes away itself comes back")
	}
}

func TestAWriteFindsOutAtOnceThatAllWasLost(t *testing.T) {
	n := meshtest.Start(t)
	s := n.Store(t, "a")
	write(t, s, bind("/b1", ""))
	loseLeases(t, n.Client(t))
	write(t, s, bind("/b2", ""))
	if _, ok := get(t, s, "/b1"); !ok {
		t.Error("what was bound before has not come back")
	}
}

func TestAHostThatWasStoppedForLongHasItsKeysAgain(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	s := n.Store(t, "watcher")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), holderVariable+"="+n.Endpoint)
	cmd.Stdout = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	there := func() bool { _, ok := get(t, s, "/held"); return ok }
	await(t, "the key is there", mesh.TTL, there)
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Signal(syscall.SIGCONT) }()
	await(t, "the key is gone", 2*mesh.TTL, func() bool { return !there() })
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, "the key is back", mesh.TTL/2, there)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "the key is gone for good", 2*mesh.TTL, func() bool { return !there() })
}

func TestWhatIsBoundOutlivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	s := n.Store(t, "a")
	write(t, s, bind("/b", "1"))
	n.Stop()
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	before, _ := get(t, s, "/b")
	c := n.Client(t)
	leases, err := c.Leases(t.Context())
	if err != nil || len(leases.Leases) != 1 {
		t.Fatal(leases, err)
	}
	last, renewed := int64(0), 0
	await(t, "the lease is renewed twice", mesh.TTL, func() bool {
		l, err := c.TimeToLive(t.Context(), leases.Leases[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if l.TTL > last && last != 0 {
			renewed++
		}
		last = l.TTL
		return renewed == 2
	})
	if after, ok := get(t, s, "/b"); !ok || after.Created != before.Created {
		t.Errorf("got %+v, %v; want %+v as before", after, ok, before)
	}
}

// Many write, the lease is lost again and again, and in the end the keys are there that
// were written last.
func TestNothingIsConfusedWhileAllIsLostAgainAndAgain(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	s, c := n.Store(t, "a"), n.Client(t)
	var writers sync.WaitGroup
	stop := make(chan struct{})
	const count = 4
	want := make([]map[string]bool, count) // of the keys of each writer, whether bound
	for i := range want {
		want[i] = make(map[string]bool)
		r := rand.New(rand.NewPCG(1, uint64(i)))
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("/k/%d/%d", i, r.IntN(5))
				op := mesh.Put(key, nil)
				switch r.IntN(3) {
				case 0:
					op = mesh.Delete(key)
				case 1:
					op.Bound = true
				}
				if _, err := s.Write(context.Background(), mesh.Txn{Ops: []mesh.Op{op}}); err != nil {
					t.Error(err)
					return
				}
				if op.Delete {
					delete(want[i], key)
				} else {
					want[i][key] = op.Bound
				}
			}
		})
	}
	for range 10 {
		loseLeases(t, c)
		write(t, s, bind("/k/mark", ""))
	}
	close(stop)
	writers.Wait()
	all := map[string]bool{"/k/mark": true}
	for _, keys := range want {
		maps.Copy(all, keys)
	}
	got := make(map[string]bool)
	await(t, "what is there is what was written", mesh.TTL, func() bool {
		l, err := s.List(t.Context(), "/k/")
		if err != nil {
			t.Fatal(err)
		}
		clear(got)
		for _, e := range l.Entries {
			got[e.Key] = e.Bound
		}
		return maps.Equal(got, all)
	})
}
