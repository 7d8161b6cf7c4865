package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	store "github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/wire"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// asPeer is set in the environment of a copy of the test program that is to be a peer, and
// says of what sort.
const asPeer = "TEST_BINARY_IS_PEER"

func TestMain(m *testing.M) {
	if sort := os.Getenv(asPeer); sort != "" {
		os.Exit(bePeer(sort))
	}
	goleak.VerifyTestMain(m)
}

// bePeer is a peer with a store of its own, which tells by files what it has seen.
func bePeer(sort string) int {
	dir := ""
	for _, arg := range os.Args {
		if rest, ok := strings.CutPrefix(arg, "--dir="); ok {
			dir = rest
		}
	}
	note := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			panic(err)
		}
	}
	note("args", strings.Join(os.Args[1:], " "))
	note("join", os.Getenv(mesh.JoinVariable))
	leave := make(chan os.Signal, 1)
	switch sort {
	case "refuses":
		fmt.Fprintln(os.Stderr, "won't listen there")
		return mesh.RefusedStatus
	case "panics":
		panic("out of disk")
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	default:
		signal.Notify(leave, syscall.SIGTERM)
	}
	conn, err := net.FileConn(os.NewFile(mesh.Socket, "agent"))
	if err != nil {
		panic(err)
	}
	agent := wire.NewServer(conn)
	defer agent.Close()
	agent.Attach(newFake(fmt.Sprint(os.Getpid())))
	slog.New(agent.Handler(slog.LevelInfo)).Info("here I am", "pid", os.Getpid())
	select {
	case <-leave:
		note("left", "")
	case <-agent.Done():
		note("orphaned", "")
	}
	return 0
}

// logged is a log that can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) has(text string) bool { return strings.Contains(l.String(), text) }

// link makes a link whose peers are of a sort.
func link(t *testing.T, sort string, change func(*mesh.Options)) (l *mesh.Link, dir string, log *logged) {
	t.Helper()
	t.Setenv(asPeer, sort)
	log, dir = &logged{}, t.TempDir()
	opts := mesh.Options{
		Settings: mesh.Settings{Host: "a", Join: "token"}, Dir: dir, Program: os.Args[0],
		Log: slog.New(slog.NewTextHandler(log, nil)),
	}
	if change != nil {
		change(&opts)
	}
	l = mesh.New(opts)
	t.Cleanup(func() {
		ctx, done := context.WithTimeout(context.Background(), patience)
		defer done()
		l.Close(ctx)
		if t.Failed() {
			t.Logf("the log:\n%s", log)
		}
	})
	return l, dir, log
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never comes to pass that %s", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// pid returns that of the peer, which is the value of every key.
func pid(t *testing.T, l *mesh.Link) string {
	t.Helper()
	e, _, err := l.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	return string(e.Value)
}

func TestAPeerIsStartedWhenItIsUsed(t *testing.T) {
	l, dir, log := link(t, "works", nil)
	if l.Host() != "a" || exists(filepath.Join(dir, "args")) {
		t.Error("it was started before")
	}
	first := pid(t, l)
	if pid(t, l) != first {
		t.Error("another one was started")
	}
	eventually(t, "the peer's log is in ours", func() bool { return log.has("here I am") })
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil || string(args) != "serve --dir="+dir+" --hostname=a" {
		t.Errorf("the arguments are %q (%v)", args, err)
	}
	if token, err := os.ReadFile(filepath.Join(dir, "join")); err != nil || string(token) != "token" {
		t.Errorf("the token is %q (%v)", token, err)
	}
	l.Close(t.Context())
	if !exists(filepath.Join(dir, "left")) {
		t.Error("it has not left in order")
	}
	began := time.Now()
	if _, _, err := l.Get(t.Context(), "k"); !errors.Is(err, store.ErrUnreachable) || time.Since(began) > time.Second {
		t.Errorf("after that a call takes %v and ends with %v", time.Since(began), err)
	}
}

func TestALinkThatWasNotUsedStartsNothing(t *testing.T) {
	l, dir, _ := link(t, "works", nil)
	l.Close(t.Context())
	if _, _, err := l.Get(t.Context(), "k"); !errors.Is(err, store.ErrUnreachable) {
		t.Errorf("after that a call ends with %v", err)
	}
	if exists(filepath.Join(dir, "args")) {
		t.Error("a peer was started")
	}
}

func TestAPeerThatIsKilledIsStartedAgain(t *testing.T) {
	l, _, log := link(t, "works", nil)
	seen := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watching := make(chan error, 1)
	go func() {
		watching <- l.Changes(store.Below("/")).Subscribe(ctx, func(c store.Change) bool {
			seen <- string(c.Put[0].Value)
			return true
		})
	}()
	first := <-seen
	var n int
	if _, err := fmt.Sscan(first, &n); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if second := <-seen; second == first {
		t.Error("the watch goes on with a dead peer")
	}
	if !log.has("peer ended") || !log.has("signal: killed") {
		t.Error("the log does not say so")
	}
	cancel()
	if err := <-watching; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ends with %v", err)
	}
}

func TestAPeerThatPanicsSaysWhy(t *testing.T) {
	l, _, log := link(t, "panics", func(o *mesh.Options) {
		o.Refused = func(err error) { t.Errorf("the run ends with it: %v", err) }
	})
	ctx, done := context.WithTimeout(t.Context(), time.Second)
	defer done()
	if _, _, err := l.Get(ctx, "k"); !errors.Is(err, store.ErrUnreachable) {
		t.Errorf("the error is %v", err)
	}
	eventually(t, "the log says why", func() bool { return log.has("panic: out of disk") })
}

func TestAPeerThatRefusesToBegin(t *testing.T) {
	refused := make(chan error, 10)
	l, _, _ := link(t, "refuses", func(o *mesh.Options) { o.Refused = func(err error) { refused <- err } })
	ctx, cancel := context.WithCancel(t.Context())
	calling := make(chan struct{})
	go func() {
		defer close(calling)
		_, _, _ = l.Get(ctx, "k")
	}()
	err := <-refused
	if _, ok := errors.AsType[*mesh.Refusal](err); !ok || err.Error() != "won't listen there" {
		t.Errorf("the error is %v", err)
	}
	cancel()
	<-calling
}

func TestWithoutTheProgramOrADirectoryThereIsNoMesh(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*mesh.Options)
		want   string
	}{
		{"no directory", func(o *mesh.Options) { o.Dir = "" }, "--prefix DIR"},
		{"no program", func(o *mesh.Options) { o.Program = "/nowhere/mgmt-mesh" }, "no such file"},
		{"a program that is nowhere", func(o *mesh.Options) { o.Program = "" }, "install it beside mgmt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("PATH", t.TempDir())
			l, _, _ := link(t, "works", tt.change)
			ctx, done := context.WithTimeout(t.Context(), time.Second)
			defer done()
			if _, err := l.Write(ctx, store.Txn{}); !errors.Is(err, store.ErrUnreachable) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %s", err, tt.want)
			}
		})
	}
}

func TestAPeerThatDoesNotLeaveIsKilled(t *testing.T) {
	l, dir, _ := link(t, "stubborn", nil)
	pid(t, l)
	ctx, done := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer done()
	began := time.Now()
	l.Close(ctx)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it takes %v", took)
	}
	if exists(filepath.Join(dir, "left")) {
		t.Error("it has left")
	}
}
