package server_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

func TestServersJoinAsLearnersAndAreGivenTheirVote(t *testing.T) {
	a := start(t, server.Options{Name: "a"})
	put(t, a, "x", "y")
	b := start(t, add(t, server.Options{Name: "b"}, a))
	if !b.Learns() {
		t.Error("the second server has a vote from the start")
	}
	if a.Cluster() != b.Cluster() || a.ID() == b.ID() {
		t.Errorf("a is %x of %x, and b %x of %x", a.ID(), a.Cluster(), b.ID(), b.Cluster())
	}
	promote(t, b, a)
	until(t, "b knows of its vote", func() error {
		if b.Learns() {
			return errors.New("it learns")
		}
		return nil
	})
	if got := get(t, b, "x"); got != "y" {
		t.Errorf("x is %q at b, expected y", got)
	}
}

func TestALeaderThatStopsHandsTheLeadOver(t *testing.T) {
	a, b, c := three(t, server.Options{})
	put(t, c, "x", "1")
	begin := time.Now()
	stop(t, a)
	t.Log("the leader has stopped after", time.Since(begin))
	put(t, b, "x", "2")
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %v until the others took what is written", took)
	}
	if !b.Leads() && !c.Leads() {
		t.Error("nobody leads")
	}
}

func TestALeaderThatHandsTheLeadOverDropsNoWrite(t *testing.T) {
	a, b, c := three(t, server.Options{})
	clients := []*clientv3.Client{remote(t, a), remote(t, b), remote(t, c)}
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var written atomic.Int64
	for i, client := range clients {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, err := client.Put(t.Context(), fmt.Sprint("k/", i), fmt.Sprint(n))
				// What another server has passed on to a leader that hands over gets no answer.
				if err != nil && !errors.Is(err, rpctypes.ErrTimeout) && !errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail) {
					t.Errorf("write %d by way of server %d: %v", n, i, err)
				}
				written.Add(1)
			}
		})
	}
	servers := []*server.Server{a, b, c}
	for i := range 10 {
		to := servers[i%3]
		until(t, "the lead is handed over", func() error {
			for j, s := range servers {
				if s.Leads() && s != to {
					_, err := clients[j].MoveLeader(t.Context(), to.ID())
					return err
				}
			}
			if to.Leads() {
				return nil
			}
			return errors.New("nobody leads")
		})
		before := written.Load()
		until(t, "some more is written", func() error {
			if written.Load() < before+3 {
				return errors.New("nothing is")
			}
			return nil
		})
	}
	cancel()
	writers.Wait()
	t.Log(written.Load(), "writes")
}

func TestAServerThatIsRemovedWhileItRunsStopsAndSaysSo(t *testing.T) {
	a, b, _ := three(t, server.Options{})
	until(t, "b is removed", func() error {
		_, err := a.Client().MemberRemove(t.Context(), b.ID())
		return err
	})
	select {
	case <-b.Done():
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	if b.Learns() || b.Leads() {
		t.Error("it still has a part in the mesh")
	}
	if !errors.Is(b.Err(), server.ErrRemoved) {
		t.Errorf("Err is %v, expected %v", b.Err(), server.ErrRemoved)
	}
}

func TestAServerThatWasRemovedWhileItWasDownSetsItsDataAsideAndJoinsAnew(t *testing.T) {
	a, b, _ := three(t, server.Options{})
	dir := filepath.Join(tempDir(t), "d")
	log := &records{}
	o := add(t, server.Options{Name: "d", Dir: dir, Log: log.logger(slog.LevelWarn)}, a)
	d := start(t, o)
	promote(t, d, a)
	put(t, d, "x", "y")
	was := d.ID()
	stop(t, d)
	until(t, "d is removed", func() error {
		_, err := a.Client().MemberRemove(t.Context(), was)
		return err
	})
	if id, ok, err := server.Identify(dir); err != nil || !ok || id.Member != was || id.Cluster != a.Cluster() {
		t.Errorf("the directory is of %+v %v %v, expected member %d", id, ok, err, was)
	}

	begin := time.Now()
	if _, err := server.Start(t.Context(), o); !errors.Is(err, server.ErrRemoved) {
		t.Fatalf("it starts with what it had: %v", err)
	}
	t.Log("refused after", time.Since(begin))

	o = add(t, server.Options{Name: "d", Dir: dir, Log: log.logger(slog.LevelWarn)}, b)
	d = start(t, o)
	if got := get(t, d, "x"); d.ID() == was || got != "y" {
		t.Errorf("it is %d and was %d; x is %q, expected y", d.ID(), was, got)
	}
	log.await(t, "old data of the server set aside", "it is of member", dir)
	aside, err := filepath.Glob(filepath.Join(dir, "aside-*", "wal", "*.wal"))
	if err != nil || len(aside) == 0 {
		t.Errorf("nothing was set aside: %v %v", aside, err)
	}
}

func TestDataOfAnotherMeshIsSetAside(t *testing.T) {
	dir := filepath.Join(tempDir(t), "b")
	old := start(t, server.Options{Name: "b", Dir: dir, Token: "old"})
	put(t, old, "x", "old")
	stop(t, old)
	a := start(t, server.Options{Name: "a", Token: "new"})
	b := start(t, add(t, server.Options{Name: "b", Dir: dir}, a))
	if got := get(t, b, "x"); got != "" {
		t.Errorf("x is %q, which is of another mesh", got)
	}
}

func TestAMeshWhoseServersHaveAllStoppedComesBackInAnyOrder(t *testing.T) {
	base := tempDir(t)
	options := map[string]server.Options{}
	a := start(t, server.Options{Name: "a", Dir: filepath.Join(base, "a")})
	options["a"] = server.Options{Name: "a", Dir: filepath.Join(base, "a"), PeerURLs: a.PeerURLs()}
	servers := []*server.Server{a}
	for _, name := range []string{"b", "c"} {
		o := add(t, server.Options{Name: name, Dir: filepath.Join(base, name)}, a)
		servers = append(servers, start(t, o))
		options[name] = o
	}
	promote(t, servers[1], a)
	promote(t, servers[2], a)
	put(t, a, "x", "y")
	for _, s := range servers {
		stop(t, s)
	}

	begin := time.Now()
	var all sync.WaitGroup
	problems := make(chan error, 3)
	for _, name := range []string{"c", "b", "a"} {
		all.Go(func() {
			s, err := server.Start(t.Context(), options[name])
			if err != nil {
				problems <- err
				return
			}
			t.Cleanup(func() { stop(t, s) })
			r, err := s.Client().Get(t.Context(), "x")
			if err != nil || len(r.Kvs) != 1 {
				problems <- fmt.Errorf("x at %s: %v %w", name, r, err)
			}
		})
	}
	all.Wait()
	t.Log("all are back after", time.Since(begin))
	close(problems)
	for err := range problems {
		t.Error(err)
	}
}

func TestWhatIsSetAsideIsSaidAndKept(t *testing.T) {
	dir := filepath.Join(tempDir(t), "a")
	log := &records{}
	if to, err := server.SetAside(dir, "nothing", log.logger(slog.LevelWarn)); err != nil || to != "" {
		t.Errorf("an empty directory was set aside: %q %v", to, err)
	}
	s := start(t, server.Options{Name: "a", Dir: dir})
	if _, err := server.SetAside(dir, "the mesh has forgotten it", log.logger(slog.LevelWarn)); err == nil {
		t.Error("data in use was set aside")
	}
	stop(t, s)
	to, err := server.SetAside(dir, "the mesh has forgotten it", log.logger(slog.LevelWarn))
	if err != nil || !strings.HasPrefix(to, filepath.Join(dir, "aside-")) {
		t.Fatalf("set aside to %q: %v", to, err)
	}
	log.await(t, "level=WARN", "old data of the server set aside", `why="the mesh has forgotten it"`, to)
	if _, ok, err := server.Identify(dir); ok || err != nil {
		t.Errorf("there is still data: %v", err)
	}
}
