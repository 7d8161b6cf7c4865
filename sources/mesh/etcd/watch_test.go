package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

// follower has what a watch tells.
type follower struct {
	t  testing.TB
	ch chan mesh.Change
}

func follow(t testing.TB, s mesh.Store, w mesh.Watch) *follower {
	t.Helper()
	f := &follower{t, make(chan mesh.Change, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Changes(w).Subscribe(ctx, func(c mesh.Change) bool {
			select {
			case f.ch <- c:
				return true
			case <-ctx.Done():
				return false
			}
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the watch has ended with %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return f
}

func (f *follower) next() mesh.Change {
	f.t.Helper()
	select {
	case c := <-f.ch:
		return c
	case <-time.After(30 * time.Second):
		f.t.Fatal("no change has come")
		panic("unreachable")
	}
}

// reset takes changes until one has Reset set.
func (f *follower) reset() mesh.Change {
	f.t.Helper()
	for {
		if c := f.next(); c.Reset {
			return c
		}
	}
}

// text is a change for comparisons.
func text(c mesh.Change) string {
	s := ""
	if c.Reset {
		s = "reset "
	}
	for _, e := range c.Put {
		s += fmt.Sprintf("%s=%s ", e.Key, e.Value)
	}
	for _, key := range c.Deleted {
		s += "-" + key + " "
	}
	return s
}

func TestAWatchTellsWhatIsThereAndThenEachStep(t *testing.T) {
	s := meshtest.New(t, "a")
	write(t, s, mesh.Put("/d/1", []byte("a")), mesh.Put("/d/2", []byte("b")), mesh.Put("/e", nil))
	all, one := follow(t, s, mesh.Below("/d/")), follow(t, s, mesh.Key("/d/1"))
	rev := write(t, s, mesh.Put("/f", nil))
	first := all.next()
	one.next()
	if text(first) != "reset /d/1=a /d/2=b " || first.Revision == 0 || first.Revision > rev {
		t.Errorf("got %+v", first)
	}
	rev = write(t, s, mesh.Put("/d/1", []byte("c")), mesh.Delete("/d/2"), mesh.Put("/e", nil))
	if c := all.next(); text(c) != "/d/1=c -/d/2 " || c.Revision != rev || c.Put[0].Revision != rev {
		t.Errorf("got %+v", c)
	}
	if c := one.next(); text(c) != "/d/1=c " {
		t.Errorf("got %+v", c)
	}
	write(t, s, bind("/d/3", "x"))
	if c := all.next(); text(c) != "/d/3=x " || !c.Put[0].Bound {
		t.Errorf("got %+v", c)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := all.next(); text(c) != "-/d/3 " {
		t.Errorf("got %+v", c)
	}
}

func TestAWatchEndsWhenItsSubscriberHasEnough(t *testing.T) {
	s := meshtest.New(t, "a")
	for i := range 3 {
		n := 0
		err := s.Changes(mesh.Key("/x")).Subscribe(t.Context(), func(mesh.Change) bool {
			n++
			if n <= i {
				write(t, s, mesh.Put("/x", nil))
			}
			return n <= i
		})
		if err != nil || n != i+1 {
			t.Errorf("got %d changes, %v", n, err)
		}
	}
}

func TestAWatchGoesOnAfterARestart(t *testing.T) {
	n := meshtest.Start(t)
	f := follow(t, n.Store(t, "a"), mesh.Key("/x"))
	f.reset()
	other := n.Store(t, "b")
	for i := range 3 {
		n.Stop()
		if err := n.Restart(); err != nil {
			t.Fatal(err)
		}
		write(t, other, mesh.Put("/x", []byte(fmt.Sprint(i))))
		for want := fmt.Sprintf("/x=%d ", i); ; {
			if c := f.next(); text(c) == want || text(c) == "reset "+want {
				break
			} else if !c.Reset {
				t.Fatalf("got %+v", c)
			}
		}
	}
}

func TestAWatchBeginsAnewAfterACompactionThatItMissed(t *testing.T) {
	n := meshtest.Start(t)
	p := n.Proxy(t)
	f := follow(t, n.StoreThrough(t, "a", p), mesh.Below("/x/"))
	f.reset()
	p.Cut()
	other := n.Store(t, "b")
	write(t, other, mesh.Put("/x/1", nil), mesh.Put("/x/2", nil))
	rev := write(t, other, mesh.Delete("/x/1"))
	if _, err := n.Client(t).Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	p.Heal()
	if c := f.reset(); text(c) != "reset /x/2= " {
		t.Errorf("got %+v", c)
	}
	write(t, other, mesh.Put("/x/3", nil))
	if c := f.next(); text(c) != "/x/3= " {
		t.Errorf("got %+v", c)
	}
}

func TestWatchesGoToAnotherServerWhenTheirOwnHangs(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	other := n.Store(t, "b")
	proxies := []*meshtest.Proxy{n.Proxy(t), n.Proxy(t)}
	s := n.StoreThrough(t, "a", proxies...)
	var watches []*follower
	for range 8 {
		f := follow(t, s, mesh.Key("/x"))
		f.reset()
		watches = append(watches, f)
	}
	for i, p := range proxies { // whichever they use
		p.Hang()
		began := time.Now()
		write(t, other, mesh.Put("/x", []byte(fmt.Sprint(i))))
		want := fmt.Sprintf("/x=%d ", i)
		for _, f := range watches {
			for c := f.next(); text(c) != want && text(c) != "reset "+want; c = f.next() {
				if !c.Reset {
					t.Fatalf("got %+v", c)
				}
			}
		}
		took := time.Since(began)
		t.Logf("it took %v", took)
		if took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
		p.Heal()
	}
}

func TestAWatchBeginsBeforeThereIsAServer(t *testing.T) {
	n := meshtest.Start(t)
	n.Stop()
	f := follow(t, n.Store(t, "a"), mesh.Key("/x"))
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	if c := f.next(); text(c) != "reset " {
		t.Errorf("got %+v", c)
	}
}

// As after the recovery from a backup: the servers know less than the watch has seen.
func TestAWatchBeginsAnewWhenTheStoreHasLostItsMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := meshtest.Start(t)
	s := n.Store(t, "a")
	for range 10 {
		write(t, s, mesh.Put("/x", []byte("lost")))
	}
	f := follow(t, s, mesh.Key("/x"))
	f.reset()
	n.Stop()
	if err := os.Rename(n.Data(), filepath.Join(dir, "old")); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	write(t, n.Store(t, "b"), mesh.Put("/x", []byte("new")))
	if c := f.reset(); text(c) != "reset /x=new " {
		if c = f.next(); text(c) != "/x=new " {
			t.Errorf("got %+v", c)
		}
	}
}

func TestASlowSubscriberMissesNothing(t *testing.T) {
	s := meshtest.New(t, "a")
	other := make(chan struct{})
	const writes = 300
	steps, last := 0, ""
	err := s.Changes(mesh.Key("/x")).Subscribe(t.Context(), func(c mesh.Change) bool {
		if steps++; steps == 1 {
			go func() {
				defer close(other)
				for i := range writes {
					if _, err := s.Write(context.Background(), mesh.Txn{Ops: []mesh.Op{mesh.Put("/x", []byte(fmt.Sprint(i)))}}); err != nil {
						t.Error(err)
					}
				}
			}()
			<-other // as slow as can be
			return true
		}
		last = string(c.Put[0].Value)
		return last != fmt.Sprint(writes-1)
	})
	if err != nil || last != fmt.Sprint(writes-1) {
		t.Errorf("got %q, %v", last, err)
	}
}

// Whatever happens to the connection, a follower has in the end what there is.
func TestAFollowerEndsUpWithWhatThereIs(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	p := n.Proxy(t)
	other := n.Store(t, "b")
	client := n.Client(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	f := follow(t, n.StoreThrough(t, "a", p), mesh.Below("/x/"))
	var revision int64
	for i := range 200 {
		key := fmt.Sprint("/x/", r.IntN(10))
		if r.IntN(3) == 0 {
			revision = write(t, other, mesh.Delete(key), mesh.Put("/x/last", []byte(fmt.Sprint(i))))
		} else {
			revision = write(t, other, mesh.Put(key, []byte(fmt.Sprint(i))), mesh.Put("/x/last", []byte(fmt.Sprint(i))))
		}
		switch r.IntN(15) {
		case 0:
			p.Cut()
		case 1:
			p.Hang()
		case 2, 3, 4:
			p.Heal()
		case 5:
			if _, err := client.Compact(t.Context(), revision); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.Heal()
	revision = write(t, other, mesh.Put("/x/last", []byte("end")))
	have := make(map[string]string)
	for have["/x/last"] != "end" {
		c := f.next()
		if c.Reset {
			clear(have)
		}
		for _, e := range c.Put {
			have[e.Key] = string(e.Value)
		}
		for _, key := range c.Deleted {
			delete(have, key)
		}
	}
	want := make(map[string]string)
	l, err := other.List(t.Context(), "/x/")
	if err != nil || l.Revision != revision {
		t.Fatal(err)
	}
	for _, e := range l.Entries {
		want[e.Key] = string(e.Value)
	}
	if !maps.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}

func TestAnIdleWatchIsLeftAlone(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	s := n.Store(t, "a")
	watches := []*follower{follow(t, s, mesh.Key("/x")), follow(t, s, mesh.Below("/y/")), follow(t, n.Store(t, "b"), mesh.Key("/x"))}
	for _, f := range watches {
		f.reset()
	}
	timer := time.NewTimer(12 * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case c := <-watches[0].ch:
		t.Errorf("got %+v", c)
	case c := <-watches[1].ch:
		t.Errorf("got %+v", c)
	case c := <-watches[2].ch:
		t.Errorf("got %+v", c)
	}
}

func TestAWatchLeavesNothingBehindWhenItIsCancelledAtAnyTime(t *testing.T) {
	n := meshtest.Start(t)
	s := n.Store(t, "a")
	if err := s.Changes(mesh.Key("/x")).Subscribe(t.Context(), func(mesh.Change) bool { return false }); err != nil {
		t.Fatal(err)
	}
	before := goleak.IgnoreCurrent() // the connection among them
	for i := range 60 {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(time.Duration(i)*50*time.Microsecond, cancel)
		err := s.Changes(mesh.Key("/x")).Subscribe(ctx, func(mesh.Change) bool {
			if i%2 == 0 {
				cancel()
			}
			return true
		})
		timer.Stop()
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := goleak.Find(before); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
	}
}
