package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

func write(t testing.TB, s mesh.Store, ops ...mesh.Op) int64 {
	t.Helper()
	rev, err := s.Write(t.Context(), mesh.Txn{Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func get(t testing.TB, s mesh.Store, key string) (mesh.Entry, bool) {
	t.Helper()
	e, ok, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return e, ok
}

// await waits until cond holds.
func await(t testing.TB, what string, limit time.Duration, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", limit, what)
		}
	}
}

func bind(key, value string) mesh.Op { return mesh.Op{Key: key, Value: []byte(value), Bound: true} }

func TestWhatIsWrittenIsSeenByOthers(t *testing.T) {
	n := meshtest.Start(t)
	a, b := n.Store(t, "a"), n.Store(t, "b")
	first := write(t, a, mesh.Put("/x/1", []byte("1")), mesh.Put("/x/2", nil), mesh.Put("/y", nil))
	second := write(t, b, mesh.Put("/x/1", []byte("2")))
	if e, ok := get(t, b, "/x/1"); !ok || string(e.Value) != "2" || e.Revision != second || e.Created != first || e.Bound {
		t.Errorf("got %+v, %v", e, ok)
	}
	if e, ok := get(t, b, "/x/"); ok {
		t.Errorf("got %+v, want nothing", e)
	}
	l, err := a.List(t.Context(), "/x/")
	if err != nil || len(l.Entries) != 2 || l.Entries[0].Key != "/x/1" || l.Entries[1].Key != "/x/2" || l.Revision != second {
		t.Errorf("got %+v, %v", l, err)
	}
	third := write(t, a, mesh.Op{Key: "/x/", Delete: true, Below: true}, mesh.Delete("/none"))
	if l, err = a.List(t.Context(), "/x/"); err != nil || len(l.Entries) != 0 || l.Revision != third {
		t.Errorf("got %+v, %v", l, err)
	}
	if _, ok := get(t, a, "/y"); !ok {
		t.Error("more has gone than was deleted")
	}
}

func TestConditions(t *testing.T) {
	s := meshtest.New(t, "a")
	old := write(t, s, mesh.Put("/d/1", nil))
	now := write(t, s, mesh.Put("/d/1", nil), mesh.Put("/d/2", nil))
	write(t, s, mesh.Put("/d/3", nil))
	write(t, s, mesh.Delete("/d/3"))
	for _, tt := range []struct {
		name  string
		cond  mesh.Condition
		holds bool
	}{
		{"a key at its revision", mesh.Condition{Key: "/d/1", Revision: now}, true},
		{"a key that was written since", mesh.Condition{Key: "/d/1", Revision: old}, false},
		{"a key later than now", mesh.Condition{Key: "/d/1", Revision: now + 1}, false},
		{"no key where there is none", mesh.Condition{Key: "/d/0"}, true},
		{"no key where there is one", mesh.Condition{Key: "/d/1"}, false},
		{"no key where one was deleted", mesh.Condition{Key: "/d/3"}, true},
		{"nothing written since", mesh.Condition{Key: "/d/", Revision: now, Below: true}, true},
		{"something written since", mesh.Condition{Key: "/d/", Revision: now - 1, Below: true}, false},
		{"nothing at all where there is nothing", mesh.Condition{Key: "/e/", Below: true}, true},
		{"nothing at all where there is something", mesh.Condition{Key: "/d/", Below: true}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.Write(t.Context(), mesh.Txn{
				If:  []mesh.Condition{tt.cond, {Key: "/none"}},
				Ops: []mesh.Op{mesh.Put("/result/"+strings.ReplaceAll(tt.name, " ", "-"), nil)},
			})
			_, written := get(t, s, "/result/"+strings.ReplaceAll(tt.name, " ", "-"))
			if written != tt.holds || (err == nil) != tt.holds || err != nil && !errors.Is(err, mesh.ErrConflict) {
				t.Errorf("got %v, written %v", err, written)
			}
		})
	}
}

func TestOneOfManyWinsARace(t *testing.T) {
	n := meshtest.Start(t)
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		s := n.Store(t, fmt.Sprint("host", i))
		wg.Go(func() {
			_, results[i] = s.Write(t.Context(), mesh.Txn{If: []mesh.Condition{{Key: "/lock"}}, Ops: []mesh.Op{mesh.Put("/lock", nil)}})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range results {
		if err == nil {
			won++
		} else if !errors.Is(err, mesh.ErrConflict) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d have won", won)
	}
}

func TestSizes(t *testing.T) {
	s := meshtest.New(t, "a")
	big := bytes.Repeat([]byte("0123456789abcdef"), 80_000) // 1.28 MB
	write(t, s, mesh.Put("/big", big))
	if e, _ := get(t, s, "/big"); !bytes.Equal(e.Value, big) {
		t.Errorf("%d bytes have become %d", len(big), len(e.Value))
	}
	for _, size := range []int{2 << 20, 5 << 20} {
		_, err := s.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put("/bigger", make([]byte, size))}})
		if err == nil || !strings.HasPrefix(err.Error(), "writing /bigger: it is too large for the mesh, which takes about 1.5 MB at a time") {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
	ops := make([]mesh.Op, mesh.MaxOps)
	conditions := make([]mesh.Condition, mesh.MaxOps)
	for i := range ops {
		ops[i] = bind(fmt.Sprint("/many/", i), "")
		conditions[i].Key = ops[i].Key
	}
	if _, err := s.Write(t.Context(), mesh.Txn{If: conditions, Ops: ops}); err != nil {
		t.Error(err)
	}
	if l, err := s.List(t.Context(), "/many/"); err != nil || len(l.Entries) != mesh.MaxOps || !l.Entries[0].Bound {
		t.Errorf("got %d entries, %v", len(l.Entries), err)
	}
	if _, err := s.Write(t.Context(), mesh.Txn{Ops: slices.Concat(ops, []mesh.Op{mesh.Put("/one-more", nil)})}); err == nil {
		t.Error("more than MaxOps changes pass")
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	n := meshtest.Start(t)
	p := n.Proxy(t)
	s := n.StoreThrough(t, "a", p)
	write(t, s, mesh.Put("/x", nil))
	p.Hang()
	defer p.Heal()
	for name, call := range map[string]func(context.Context) error{
		"Get":   func(ctx context.Context) error { _, _, err := s.Get(ctx, "/x"); return err },
		"List":  func(ctx context.Context) error { _, err := s.List(ctx, "/x"); return err },
		"Write": func(ctx context.Context) error { _, err := s.Write(ctx, mesh.Txn{}); return err },
		"Write of a bound key": func(ctx context.Context) error {
			_, err := s.Write(ctx, mesh.Txn{Ops: []mesh.Op{bind("/b", "")}})
			return err
		},
		"Changes": func(ctx context.Context) error {
			return s.Changes(mesh.Key("/x")).Subscribe(ctx, func(mesh.Change) bool { return true })
		},
	} {
		t.Run(name, func(t *testing.T) {
			why := errors.New("enough")
			ctx, cancel := context.WithCancelCause(t.Context())
			timer := time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
			defer timer.Stop()
			began := time.Now()
			if err := call(ctx); !errors.Is(err, why) {
				t.Errorf("got %v, want the cause of the cancel", err)
			}
			if name != "Changes" {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				if err := call(ctx); !errors.Is(err, mesh.ErrUnreachable) {
					t.Errorf("got %v, want ErrUnreachable at the deadline", err)
				}
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func TestWithoutADeadlineACallGivesUpAfterSeconds(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	s := n.Store(t, "a")
	n.Stop()
	began := time.Now()
	_, err := s.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put("/x", nil)}})
	if !errors.Is(err, mesh.ErrUnreachable) || !strings.HasPrefix(err.Error(), "writing /x: the mesh can't be reached: ") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took < 5*time.Second || took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}

// buffer may be written to and read at the same time.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestCallsOutliveARestartAndTheLogTellsOnce(t *testing.T) {
	n := meshtest.Start(t)
	var log buffer
	s := etcd.New(n.Client(t), "a", etcd.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	write(t, s, mesh.Put("/x", []byte("1")))
	n.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	for range 3 {
		if _, _, err := s.Get(ctx, "/x"); !errors.Is(err, mesh.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	}
	done := make(chan error)
	go func() {
		_, err := s.Write(context.Background(), mesh.Txn{Ops: []mesh.Op{mesh.Put("/y", nil)}})
		done <- err
	}()
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a write during a restart: %v", err)
	}
	if e, ok := get(t, s, "/x"); !ok || string(e.Value) != "1" {
		t.Errorf("got %+v, %v", e, ok)
	}
	if text := log.String(); strings.Count(text, "level=WARN msg=\"mesh unreachable\"") != 1 || strings.Count(text, "level=INFO msg=\"mesh reachable again\"") != 1 {
		t.Errorf("the log says:\n%s", text)
	}
}

func TestOtherServersAreUsedWhenOneHangs(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	bad, good := n.Proxy(t), n.Proxy(t)
	s := n.StoreThrough(t, "a", bad, good)
	for range 4 { // both are connected
		write(t, s, mesh.Put("/x", nil))
	}
	bad.Hang()
	for range 4 {
		began := time.Now()
		write(t, s, mesh.Put("/x", nil))
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("a write took %v", took)
		}
	}
}

func TestEndpointsCanBeReplaced(t *testing.T) {
	n := meshtest.Start(t)
	old, now := n.Proxy(t), n.Proxy(t)
	s := n.StoreThrough(t, "a", old)
	write(t, s, mesh.Put("/x", nil))
	old.Cut()
	s.SetEndpoints(now.Endpoint)
	write(t, s, mesh.Put("/x", nil))
}

// access turns on the access control of etcd, with a user for the host a.
func access(t *testing.T, n *meshtest.Node) {
	t.Helper()
	c := n.Client(t)
	ctx := t.Context()
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(c.UserAdd(ctx, "root", "r"))
	do(c.UserGrantRole(ctx, "root", "root"))
	do(c.UserAdd(ctx, "a", "a"))
	do(c.RoleAdd(ctx, "a"))
	do(c.UserGrantRole(ctx, "a", "a"))
	for _, prefix := range []string{mesh.ExportPrefix + "a/", mesh.FencePrefix + "a"} {
		do(c.RoleGrantPermission(ctx, "a", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite)))
	}
	do(c.AuthEnable(ctx))
}

func TestWhatAHostMayNotDoIsRefusedAtOnce(t *testing.T) {
	n := meshtest.Start(t)
	access(t, n)
	config := etcd.Config([]string{n.Endpoint}, nil)
	config.Username, config.Password = "a", "a"
	client, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s := etcd.New(client, "a", etcd.Options{})
	own, other := mesh.ExportKey("a", "file", "/x"), mesh.ExportKey("b", "file", "/x")
	write(t, s, mesh.Put(own, nil))
	write(t, s, bind(own, "bound"))
	stranger := n.Store(t, "stranger")
	put := func(s mesh.Store, key string) error {
		_, err := s.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put(key, nil)}})
		return err
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"a write in another's name", put(s, other), "writing /mgmt/export/b/file/%2Fx as host a: the mesh does not allow it"},
		{"a watch of more than it may see", s.Changes(mesh.Below("/mgmt/")).Subscribe(t.Context(), func(mesh.Change) bool { return true }),
			"reading /mgmt/... as host a: the mesh does not allow it"},
		{"somebody whom the mesh doesn't know", put(stranger, own), "as host stranger: the mesh does not allow it: its servers don't know this host (etcdserver: user name is empty)"},
	} {
		if !errors.Is(tt.err, mesh.ErrRefused) || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, tt.err, tt.want)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
