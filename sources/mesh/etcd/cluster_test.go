package etcd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// memberVariable makes this program one of three servers, whose names are below, in the
// working directory.
const memberVariable = "MESH_TEST_MEMBER"

var memberNames = []string{"m1", "m2", "m3"}

// peerURL names a socket in the working directory, in the way that etcd wants it.
func peerURL(name string) url.URL {
	return url.URL{Scheme: "unix", Host: "localhost:" + strings.TrimPrefix(name, "m")}
}

// serveMember runs a server until its input ends.
func serveMember(name string) {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = name, filepath.Join(dir, name)
	client := url.URL{Scheme: "unix", Path: filepath.Join(dir, name+".client")}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peerURL(name)}, []url.URL{peerURL(name)}
	var all []string
	for _, m := range memberNames {
		u := peerURL(m)
		all = append(all, m+"="+u.String())
	}
	cfg.InitialCluster = strings.Join(all, ",")
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, name, err)
		os.Exit(1)
	}
	<-e.Server.ReadyNotify()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// member is a server in a process of its own.
type member struct {
	t        testing.TB
	name     string
	dir      string
	endpoint string
	cmd      *exec.Cmd
	in       io.Closer
}

// cluster starts three servers.
func cluster(t *testing.T) []*member {
	t.Helper()
	dir, err := os.MkdirTemp("", "mesh") //nolint:usetesting // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var members []*member
	var wg sync.WaitGroup
	for _, name := range memberNames {
		m := &member{t: t, name: name, dir: dir, endpoint: "unix://" + filepath.Join(dir, name+".client")}
		members = append(members, m)
		wg.Go(m.start)
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, m := range members {
			if m.cmd.Process != nil {
				_ = m.cmd.Process.Kill()
				_ = m.cmd.Wait()
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return members
}

// start runs m, and returns when it is ready. It may be called by any goroutine.
func (m *member) start() {
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Dir = m.dir
	m.cmd.Env = append(os.Environ(), memberVariable+"="+m.name)
	m.cmd.Stderr = os.Stderr
	in, err := m.cmd.StdinPipe()
	if err != nil {
		m.t.Error(err)
		return
	}
	m.in = in
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		m.t.Error(err)
		return
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		m.t.Errorf("%s says %q, %v", m.name, line, err)
	}
}

// signal sends a signal; after SIGKILL it waits for the end.
func (m *member) signal(sig syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(sig); err != nil {
		m.t.Fatal(err)
	}
	if sig == syscall.SIGKILL {
		_ = m.cmd.Wait()
	}
}

func clusterClient(t testing.TB, members []*member) *clientv3.Client {
	t.Helper()
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.endpoint)
	}
	c, err := clientv3.New(etcd.Config(endpoints, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// leaderFirst puts the leader before the others.
func leaderFirst(t testing.TB, members []*member) []*member {
	t.Helper()
	c := clusterClient(t, members)
	for i, m := range members {
		status, err := c.Status(t.Context(), m.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		if status.Leader == status.Header.MemberId {
			return append([]*member{m}, append(append([]*member(nil), members[:i]...), members[i+1:]...)...)
		}
	}
	t.Fatal("there is no leader")
	return nil
}

// traffic writes numbers all the time and follows them.
type traffic struct {
	stop         chan struct{}
	wg           sync.WaitGroup
	acked, seen  atomic.Int64
	pause, blind atomic.Int64 // the longest times without an answer and without news, in ns
}

func raise(max *atomic.Int64, d time.Duration) {
	if int64(d) > max.Load() {
		max.Store(int64(d))
	}
}

func run(t testing.TB, writer, reader mesh.Store) *traffic {
	t.Helper()
	tr := &traffic{stop: make(chan struct{})}
	tr.wg.Go(func() {
		for i := int64(1); ; i++ {
			began := time.Now()
			for {
				select {
				case <-tr.stop:
					return
				default:
				}
				_, err := writer.Write(context.Background(), mesh.Txn{Ops: []mesh.Op{mesh.Put("/n", []byte(fmt.Sprint(i)))}})
				if err == nil {
					break
				}
				if !errors.Is(err, mesh.ErrUnreachable) {
					t.Error(err)
					return
				}
			}
			raise(&tr.pause, time.Since(began))
			tr.acked.Store(i)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	tr.wg.Go(func() {
		var n int64
		last := time.Now()
		err := reader.Changes(mesh.Key("/n")).Subscribe(ctx, func(c mesh.Change) bool {
			raise(&tr.blind, time.Since(last))
			last = time.Now()
			for _, e := range c.Put {
				var now int64
				if _, err := fmt.Sscan(string(e.Value), &now); err != nil || now < n {
					t.Errorf("after %d comes %q, %v", n, e.Value, err)
				}
				n = now
				tr.seen.Store(now)
			}
			return true
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the watch has ended with %v", err)
		}
	})
	t.Cleanup(func() { tr.end(); cancel(); tr.wg.Wait() })
	await(t, "traffic", 20*time.Second, func() bool { return tr.acked.Load() > 10 && tr.seen.Load() > 10 })
	tr.pause.Store(0)
	tr.blind.Store(0)
	return tr
}

func (tr *traffic) end() {
	select {
	case <-tr.stop:
	default:
		close(tr.stop)
	}
}

// goesOn waits until as much again has been written and seen.
func (tr *traffic) goesOn(t testing.TB) {
	t.Helper()
	acked := tr.acked.Load()
	await(t, "writes go on, and are seen", 30*time.Second, func() bool {
		return tr.acked.Load() > acked+10 && tr.seen.Load() > acked+10
	})
}

func TestAMeshOfThreeServers(t *testing.T) {
	t.Parallel()
	members := cluster(t)
	writer := etcd.New(clusterClient(t, members), "a", etcd.Options{})
	reader := etcd.New(clusterClient(t, members), "b", etcd.Options{})
	const alive = mesh.AlivePrefix + "a"
	write(t, writer, bind(alive, "a"))
	defer func() { _ = writer.Close(context.Background()) }()
	before, _ := get(t, reader, alive)
	tr := run(t, writer, reader)
	for _, step := range []struct {
		name   string
		limit  time.Duration // for a write and for news
		strict bool          // what is bound never goes
		do     func(m []*member)
	}{
		{"its leader is killed", 10 * time.Second, true, func(m []*member) {
			m[0].signal(syscall.SIGKILL)
			tr.goesOn(t)
			m[0].start()
		}},
		{"a follower is killed", 10 * time.Second, true, func(m []*member) {
			m[1].signal(syscall.SIGKILL)
			tr.goesOn(t)
			m[1].start()
		}},
		{"its leader stands still for longer than leases last", 15 * time.Second, false, func(m []*member) {
			m[0].signal(syscall.SIGSTOP)
			for end := time.Now().Add(mesh.TTL + 3*time.Second); time.Now().Before(end); {
				tr.goesOn(t)
			}
			m[0].signal(syscall.SIGCONT)
		}},
	} {
		step.do(leaderFirst(t, members))
		tr.goesOn(t)
		pause, blind := time.Duration(tr.pause.Swap(0)), time.Duration(tr.blind.Swap(0))
		t.Logf("%s: no answer for %v, no news for %v", step.name, pause.Round(time.Millisecond), blind.Round(time.Millisecond))
		if pause > step.limit || blind > step.limit {
			t.Errorf("%s: no answer for %v, no news for %v; want less than %v", step.name, pause, blind, step.limit)
		}
		// A leader that goes on after a pause may revoke leases that others have renewed
		// meanwhile, before it notices that it leads no more.
		await(t, "what is bound to a host that lives is there", mesh.TTL/2, func() bool { _, ok := get(t, reader, alive); return ok })
		if now, _ := get(t, reader, alive); now.Created != before.Created {
			t.Logf("%s: what is bound to a host that lives was gone for a while", step.name)
			if step.strict {
				t.Fail()
			}
		}
	}
}

func TestAMeshThatHasLostItsMajorityComesBack(t *testing.T) {
	t.Parallel()
	members := cluster(t)
	store := etcd.New(clusterClient(t, members), "a", etcd.Options{})
	reader := etcd.New(clusterClient(t, members), "b", etcd.Options{})
	write(t, store, mesh.Put("/x", []byte("before")))
	f := follow(t, reader, mesh.Key("/x"))
	f.reset()
	members[0].signal(syscall.SIGKILL)
	members[1].signal(syscall.SIGKILL)
	if _, err := store.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put("/x", []byte("not"))}}); !errors.Is(err, mesh.ErrUnreachable) {
		t.Errorf("a write without a majority: %v", err)
	}
	if e, ok, err := store.Get(t.Context(), "/x"); !errors.Is(err, mesh.ErrUnreachable) {
		t.Errorf("a minority answers %+v, %v, %v, which may be out of date", e, ok, err)
	}
	began := time.Now()
	members[1].start()
	write(t, store, mesh.Put("/x", []byte("after")))
	for c := f.next(); len(c.Put) == 0 || string(c.Put[0].Value) != "after"; c = f.next() {
		t.Logf("on the way: %+v", c)
	}
	t.Logf("with a majority again it took %v", time.Since(began).Round(time.Millisecond))
}
