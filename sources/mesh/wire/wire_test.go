package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
	"github.com/mgmtproject/mgmt/sources/mesh/wire"
	"github.com/mgmtproject/mgmt/streams"
)

// pair returns the ends of a socket as two processes have it.
func pair(t testing.TB) (agent, peer net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		conns[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { conns[0].Close(); conns[1].Close() })
	return conns[0], conns[1]
}

// connect serves store to a client, until the test ends.
func connect(t testing.TB, store mesh.Store) (*wire.Client, *wire.Server) {
	t.Helper()
	agent, peer := pair(t)
	server := wire.NewServer(peer)
	if store != nil {
		server.Attach(store)
	}
	client := wire.Dial(agent, nil)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// within fails the test if f takes longer than it may.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s takes too long", what)
	}
}

func TestAStoreIsTheSameOverTheWire(t *testing.T) {
	near := meshtest.New(t, "web1")
	far, _ := connect(t, near)
	ctx := t.Context()
	if far.Host() != "web1" {
		t.Errorf("the host is %q", far.Host())
	}
	rev, err := far.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put("/x/a", []byte("\x00\xff<")), {Key: "/x/b", Bound: true}}})
	if err != nil || rev == 0 {
		t.Fatal(rev, err)
	}
	want, _, err := near.Get(ctx, "/x/a")
	if err != nil {
		t.Fatal(err)
	}
	if e, ok, err := far.Get(ctx, "/x/a"); err != nil || !ok || !bytes.Equal(e.Value, want.Value) || e.Revision != rev || e.Created != want.Created {
		t.Errorf("got %+v, %v, %v; want %+v", e, ok, err, want)
	}
	if e, ok, err := far.Get(ctx, "/none"); err != nil || ok {
		t.Errorf("got %+v, %v, %v; want nothing", e, ok, err)
	}
	l, err := far.List(ctx, "/x/")
	if err != nil || len(l.Entries) != 2 || l.Entries[1].Key != "/x/b" || !l.Entries[1].Bound || l.Revision != rev {
		t.Errorf("got %+v, %v", l, err)
	}
	sealed, err := far.Seal(ctx, []string{"web1"}, []byte("secret"))
	if err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Fatalf("got %q, %v", sealed, err)
	}
	if plain, err := far.Open(ctx, sealed); err != nil || string(plain) != "secret" {
		t.Errorf("got %q, %v", plain, err)
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	far, _ := connect(t, meshtest.New(t, "a"))
	_, err := far.Write(t.Context(), mesh.Txn{If: []mesh.Condition{{Key: "/x", Revision: 3}}, Ops: []mesh.Op{mesh.Put("/x", nil)}})
	if !errors.Is(err, mesh.ErrConflict) || err.Error() != "writing /x: somebody else has changed it meanwhile" {
		t.Errorf("got %v, want a conflict", err)
	}
	if _, err := far.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put("", nil)}}); err == nil || err.Error() != "a change has no key" {
		t.Errorf("got %v", err)
	}
	if _, err := far.Seal(t.Context(), []string{"z", "b"}, nil); err == nil || err.Error() != "the mesh does not know the keys of b, z" {
		t.Errorf("got %v", err)
	}
}

func TestSubscriptionsGoOnUntilTheyAreCancelled(t *testing.T) {
	near := meshtest.New(t, "a")
	far, _ := connect(t, near)
	n := 0
	for c, err := range far.Changes(mesh.Below("/x/")).Seq(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Reset != (n == 0) {
			t.Fatalf("change %d is %+v", n, c)
		}
		if n > 0 && (len(c.Put) != 1 || string(c.Put[0].Value) != fmt.Sprint(n)) {
			t.Fatalf("change %d is %+v", n, c)
		}
		if n++; n == 20 {
			break
		}
		if _, err := near.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put("/x/k", []byte(fmt.Sprint(n)))}}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := far.Changes(mesh.Key("/x")).Subscribe(ctx, func(mesh.Change) bool { cancel(); return true })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the cancel", err)
	}
}

// fake is a store whose behaviour a test says.
type fake struct {
	mesh.Store
	get     func(ctx context.Context, key string) (mesh.Entry, bool, error)
	changes func(ctx context.Context, emit func(mesh.Change) bool) error
}

func (fake) Host() string { return "fake" }

func (f fake) Get(ctx context.Context, key string) (mesh.Entry, bool, error) { return f.get(ctx, key) }

func (f fake) Changes(mesh.Watch) streams.Observable[mesh.Change] { return streams.New(f.changes) }

// hangs waits for the end of its call, and tells when it begins and ends.
func hangs() (f fake, began, ended chan string) {
	began, ended = make(chan string, 10), make(chan string, 10)
	f.get = func(ctx context.Context, key string) (mesh.Entry, bool, error) {
		if key == "quick" {
			return mesh.Entry{}, false, nil
		}
		began <- key
		<-ctx.Done()
		ended <- key
		return mesh.Entry{}, false, ctx.Err()
	}
	f.changes = func(ctx context.Context, emit func(mesh.Change) bool) error {
		emit(mesh.Change{Reset: true})
		began <- "watch"
		<-ctx.Done()
		ended <- "watch"
		return ctx.Err()
	}
	return f, began, ended
}

func TestACancelReachesTheOtherEnd(t *testing.T) {
	store, began, ended := hangs()
	far, _ := connect(t, store)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := far.Get(ctx, "slow"); !errors.Is(err, why) {
			t.Errorf("got %v, want the cause", err)
		}
	})
	wg.Go(func() {
		if err := far.Changes(mesh.Key("x")).Subscribe(ctx, func(mesh.Change) bool { return true }); !errors.Is(err, why) {
			t.Errorf("got %v, want the cause", err)
		}
	})
	within(t, "the beginning", func() { <-began; <-began })
	if _, _, err := far.Get(t.Context(), "quick"); err != nil {
		t.Error(err) // others don't wait
	}
	cancel(why)
	within(t, "the end", func() { <-ended; <-ended; wg.Wait() })
}

func TestADeadlineReachesTheOtherEndAndIsTold(t *testing.T) {
	store, _, ended := hangs()
	far, _ := connect(t, store)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := far.Get(ctx, "slow"); !errors.Is(err, mesh.ErrUnreachable) || !strings.Contains(err.Error(), "in time") {
		t.Errorf("got %v", err)
	}
	within(t, "the end", func() { <-ended })
}

func TestWhenThePeerDiesAllFailsAndSoDoesWhatBeginsLater(t *testing.T) {
	store, began, _ := hangs()
	agent, peer := pair(t)
	server := wire.NewServer(peer)
	server.Attach(store)
	defer server.Close()
	far := wire.Dial(agent, nil)
	defer far.Close()
	var wg sync.WaitGroup
	fails := func(what string, err error) {
		if !errors.Is(err, mesh.ErrUnreachable) || !strings.Contains(err.Error(), "the other process has ended") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	wg.Go(func() { _, _, err := far.Get(t.Context(), "slow"); fails("a call", err) })
	wg.Go(func() {
		fails("a subscription", far.Changes(mesh.Key("x")).Subscribe(t.Context(), func(mesh.Change) bool { return true }))
	})
	within(t, "the beginning", func() { <-began; <-began })
	peer.Close()
	within(t, "the end", wg.Wait)
	_, err := far.Write(t.Context(), mesh.Txn{})
	fails("a later call", err)
	fails("a later subscription", far.Changes(mesh.Key("x")).Subscribe(t.Context(), func(mesh.Change) bool { return true }))
	if far.Host() != "fake" {
		t.Errorf("the host has become %q", far.Host())
	}
}

func TestWhenTheAgentDiesItsCallsEnd(t *testing.T) {
	store, began, ended := hangs()
	agent, peer := pair(t)
	served := make(chan error, 1)
	go func() { served <- wire.Serve(t.Context(), peer, store) }()
	far := wire.Dial(agent, nil)
	var wg sync.WaitGroup
	wg.Go(func() { _, _, _ = far.Get(t.Context(), "slow") })
	within(t, "the beginning", func() { <-began })
	far.Close()
	within(t, "the end", func() {
		<-ended
		wg.Wait()
		if err := <-served; err != nil {
			t.Errorf("serving ended with %v", err)
		}
	})
}

func TestCallsWaitForAStore(t *testing.T) {
	far, server := connect(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, _, err := far.Get(ctx, "quick"); !errors.Is(err, mesh.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	done := make(chan error)
	go func() { _, _, err := far.Get(t.Context(), "quick"); done <- err }()
	store, _, _ := hangs()
	server.Attach(store)
	server.Attach(nil) // only the first counts
	within(t, "a call", func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAnEndInOrderIsUnreachableForWhoStillWaits(t *testing.T) {
	store, began, _ := hangs()
	far, server := connect(t, store)
	done := make(chan error)
	go func() { _, _, err := far.Get(t.Context(), "slow"); done <- err }()
	within(t, "the beginning", func() { <-began })
	server.Close()
	within(t, "the end", func() {
		if err := <-done; !errors.Is(err, mesh.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	})
}

// The agent does not take changes, and everything else goes on; in the end it has what
// all of them come to.
func TestASlowSubscriberHoldsUpNobody(t *testing.T) {
	const keys, rounds = 50, 400
	store, _, _ := hangs()
	store.changes = func(ctx context.Context, emit func(mesh.Change) bool) error {
		emit(mesh.Change{Reset: true, Revision: 1})
		for i := range rounds * keys {
			key := fmt.Sprint("/k", i%keys)
			if !emit(mesh.Change{Put: []mesh.Entry{{Key: key, Value: make([]byte, 1000), Revision: int64(i + 2)}}, Revision: int64(i + 2)}) {
				return nil
			}
		}
		return nil // which says that there is nothing more
	}
	far, _ := connect(t, store)
	steps, last := 0, map[string]int64{}
	err := far.Changes(mesh.Below("/")).Subscribe(t.Context(), func(c mesh.Change) bool {
		if steps++; steps == 1 {
			for range 100 { // while the changes pile up
				if _, _, err := far.Get(t.Context(), "quick"); err != nil {
					t.Error(err)
				}
			}
		}
		for _, e := range c.Put {
			if e.Revision <= last[e.Key] {
				t.Fatalf("%s goes back from %d to %d", e.Key, last[e.Key], e.Revision)
			}
			last[e.Key] = e.Revision
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if want := int64((rounds-1)*keys + i + 2); last[fmt.Sprint("/k", i)] != want {
			t.Errorf("key %d is at %d, want %d", i, last[fmt.Sprint("/k", i)], want)
		}
	}
	if steps > rounds*keys/4 {
		t.Errorf("%d changes came in %d steps, so they were not folded", rounds*keys, steps)
	}
}

// counting is a log that counts lines, and those that were dropped.
type counting struct {
	slog.Handler
	mu      sync.Mutex
	read    map[string]int
	dropped int
}

func (*counting) Enabled(context.Context, slog.Level) bool { return true }

func (c *counting) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read[r.Message]++
	if r.Message == "lines of the peer's log dropped" {
		r.Attrs(func(a slog.Attr) bool { c.dropped += int(a.Value.Int64()); return true })
	}
	return nil
}

func (c *counting) of(message string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read[message]
}

// A stopped agent reads nothing; what the peer logs must not wait for it.
func TestAPeerDoesNotWaitForAnAgentThatHasStopped(t *testing.T) {
	agent, peer := pair(t)
	server := wire.NewServer(peer)
	log := slog.New(server.Handler(slog.LevelInfo))
	within(t, "logging", func() {
		for range 20_000 {
			log.Info("a line", "text", strings.Repeat("x", 100))
		}
	})
	counts := &counting{read: make(map[string]int)}
	client := wire.Dial(agent, slog.New(counts))
	within(t, "the rest", func() {
		for lines := 0; lines < 1000; lines = counts.of("a line") {
			runtime.Gosched()
		}
		for counts.of("the last line") == 0 {
			log.Info("the last line")
			runtime.Gosched()
		}
		server.Close()
		<-client.Done()
		client.Close()
	})
	if n := counts.of("a line"); n+counts.dropped < 20_000 || counts.dropped == 0 {
		t.Errorf("%d lines were read and %d dropped", n, counts.dropped)
	}
}

func TestALogComesAsItWas(t *testing.T) {
	agent, peer := pair(t)
	var out bytes.Buffer
	client := wire.Dial(agent, slog.New(slog.NewJSONHandler(&out, nil)))
	server := wire.NewServer(peer)
	log := slog.New(server.Handler(slog.LevelInfo)).With("who", "peer", slog.Group("g", "n", 1))
	log.Debug("not told")
	log.WithGroup("a").With("b", true).Warn("a message", "c", int64(1)<<60, "d", time.Second, "err", errors.New("oops"), slog.Group("", "e", 1.5))
	server.Close()
	<-client.Done()
	client.Close()
	var line map[string]any
	d := json.NewDecoder(&out)
	d.UseNumber()
	if err := d.Decode(&line); err != nil {
		t.Fatal(err)
	}
	delete(line, "time")
	want := `map[a.b:true a.c:1152921504606846976 a.d:1s a.e:1.5 a.err:oops g.n:1 level:WARN msg:a message who:peer]`
	if got := fmt.Sprint(line); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if d.More() {
		t.Error("there is another line")
	}
}

func TestAReportIsWhatWasReportedLast(t *testing.T) {
	far, server := connect(t, nil)
	for i := range 3 {
		if err := server.Report(map[string]int{"n": i}); err != nil {
			t.Fatal(err)
		}
	}
	server.Attach(fake{})
	far.Host()
	if got := string(far.Status()); got != `{"n":2}` {
		t.Errorf("got %s", got)
	}
}

func TestProgramsOfDifferentReleasesSaySo(t *testing.T) {
	agent, peer := pair(t)
	far := wire.Dial(agent, nil)
	defer far.Close()
	if _, err := io.WriteString(peer, `{"op":"hello","version":99}`+"\n"); err != nil {
		t.Fatal(err)
	}
	_, _, err := far.Get(t.Context(), "x")
	if !errors.Is(err, mesh.ErrUnreachable) || !strings.Contains(err.Error(), "version 99") || !strings.Contains(err.Error(), "same release") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNoFrameEndsTheConnection(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"no JSON", "hello\n", "not understood"},
		{"another type", `{"op":7}` + "\n", "not understood"},
		{"a value that is not base64", `{"op":"open","id":1,"data":"%"}` + "\n", "not understood"},
		{"a call twice", `{"op":"watch","id":1}{"op":"watch","id":1}` + "\n", "call 1 twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			agent, peer := pair(t)
			server := wire.NewServer(peer)
			defer server.Close()
			if _, err := io.WriteString(agent, tt.text); err != nil {
				t.Fatal(err)
			}
			within(t, "the end", func() { <-server.Done() })
			if err := server.Err(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
