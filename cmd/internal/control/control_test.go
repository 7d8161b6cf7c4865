package control_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/cmd/internal/control"
	"github.com/mgmtproject/mgmt/cmd/internal/eventlog"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/noop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// run is an agent of two resources, of which a test says what happens.
type run struct {
	t      *testing.T
	path   string
	a, b   *pipeline.Vertex
	server *control.Server
	client *control.Client
	close  func(eventlog.Exit)

	mu     sync.Mutex
	status pipeline.Status
}

func start(t *testing.T) *run { return startAt(t, filepath.Join(t.TempDir(), "socket")) }

func startAt(t *testing.T, path string) *run {
	t.Helper()
	g := &pipeline.Graph{Name: "site"}
	r := &run{t: t, path: path, a: g.Add("noop", "a", &noop.Config{Comment: "hello"}), b: g.Add("noop", "b", &noop.Config{})}
	g.Connect(r.a, r.b, false)
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.server, err = control.Listen(path, r, eventlog.Header{Program: "mgmt test", PID: 7, Host: "here", File: "/g.yaml"}, noon); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	r.close = func(e eventlog.Exit) { once.Do(func() { r.server.Close(e) }) }
	t.Cleanup(func() { r.close(eventlog.Exit{}) })
	r.client = control.NewClient(path)
	r.happens(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g, Time: noon})
	return r
}

func (r *run) Status() pipeline.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.Snapshot(10)
}

func (r *run) Find(resource string) (*pipeline.Graph, *pipeline.Vertex, pipeline.ResourceStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.status.Graph()
	v, err := g.Lookup(resource)
	if err != nil {
		return nil, nil, pipeline.ResourceStatus{}, err
	}
	now, _ := r.status.Resource(v)
	return g, v, now, nil
}

// happens makes something happen.
func (r *run) happens(result pipeline.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Observe(result)
	r.server.Observe(result)
}

func (r *run) ends(v *pipeline.Vertex) {
	r.happens(pipeline.Result{Kind: pipeline.Finished, Vertex: v, Time: noon, Cause: pipeline.Cause{Kind: "swap"}})
}

// line is one of an event stream.
type line struct {
	Type, Stream, Resource, Reason string
	Seq, Count                     uint64
	Version                        int
}

func next(t *testing.T, s *control.Stream) line {
	t.Helper()
	text, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return l
}

// tap opens an event stream and reads its first line.
func (r *run) tap(resource string, limit int) *control.Stream {
	r.t.Helper()
	s, err := r.client.Tap(r.t.Context(), resource, limit)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { s.Close() })
	if l := next(r.t, s); l.Type != "stream" || l.Stream != "mgmt-events" || l.Seq != 1 || l.Version != 1 {
		r.t.Fatalf("it begins with %+v", l)
	}
	return s
}

func TestStatusAndExplanation(t *testing.T) {
	r := start(t)
	r.ends(r.a)
	r.happens(pipeline.Result{Kind: pipeline.Finished, Vertex: r.b, Time: noon, Took: time.Second, Cause: pipeline.Cause{Kind: "swap"}, Err: errors.New("it broke")})
	s, err := r.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Version != 1 || s.File != "/g.yaml" || s.PID != 7 || !s.Began.Equal(noon) || s.Graph != "site" || s.Counts.Right != 1 ||
		len(s.Failed) != 1 || s.Failed[0].Error != "it broke" || s.Well() {
		t.Errorf("got %+v", s)
	}
	x, err := r.client.Explain(t.Context(), "noop[b]")
	if err != nil {
		t.Fatal(err)
	}
	if x.Version != 1 || x.Resource != "noop[b]" || len(x.After) != 1 || x.Now == nil || x.Now.State != "failed" || x.Now.Last.Duration != 1000 {
		t.Errorf("got %+v, %+v", x, x.Now)
	}
	for _, resource := range []string{"nop[b]", ""} {
		_, err = r.client.Explain(t.Context(), resource)
		if refused, ok := errors.AsType[*control.RefusedError](err); !ok || resource != "" && refused.Message != "there is no resource nop[b] in the graph; did you mean noop[b]?" {
			t.Errorf("of %q: %v", resource, err)
		}
	}
}

func TestTap(t *testing.T) {
	t.Run("shows everything and the end", func(t *testing.T) {
		r := start(t)
		s := r.tap("", 0)
		r.ends(r.a)
		r.happens(pipeline.Result{Kind: pipeline.Converged, Time: noon})
		r.ends(r.b)
		for i, want := range []line{{Type: "end", Resource: "noop[a]"}, {Type: "converged"}, {Type: "end", Resource: "noop[b]"}} {
			want.Seq = uint64(i + 2)
			if got := next(t, s); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
		r.close(eventlog.Exit{Reason: "signal"})
		if got := next(t, s); got.Type != "exit" || got.Reason != "signal" {
			t.Errorf("the last line is %+v", got)
		}
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("after the last line: %v", err)
		}
	})
	t.Run("of one resource", func(t *testing.T) {
		r := start(t)
		s := r.tap("noop[b]", 0)
		r.ends(r.a)
		r.happens(pipeline.Result{Kind: pipeline.Converged, Time: noon})
		r.ends(r.b)
		if got := next(t, s); got.Type != "end" || got.Resource != "noop[b]" || got.Seq != 2 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("up to a number", func(t *testing.T) {
		r := start(t)
		s := r.tap("", 2)
		for range 5 {
			r.ends(r.a)
		}
		for range 2 {
			if got := next(t, s); got.Type != "end" {
				t.Errorf("got %+v", got)
			}
		}
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("after the last one: %v", err)
		}
	})
	t.Run("that is refused", func(t *testing.T) {
		r := start(t)
		_, err := r.client.Tap(t.Context(), "noop[c]", 0)
		if _, ok := errors.AsType[*control.RefusedError](err); !ok {
			t.Errorf("of no resource: %v", err)
		}
	})
	t.Run("by more than there may be", func(t *testing.T) {
		r := start(t)
		for range 64 {
			r.tap("", 0)
		}
		_, err := r.client.Tap(t.Context(), "", 0)
		if _, ok := errors.AsType[*control.RefusedError](err); !ok {
			t.Errorf("one more: %v", err)
		}
	})
}

// TestSlowReader has one who does not read at all: nobody waits for it, and it learns of
// what it has missed.
func TestSlowReader(t *testing.T) {
	r := start(t)
	slow, quick := r.tap("", 0), r.tap("noop[b]", 0)
	const n = 50_000 // some 7 MiB, more than socket and buffer hold
	began := time.Now()
	for range n {
		r.ends(r.a)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%d events took %v", n, took)
	}
	r.ends(r.b)
	if got := next(t, quick); got.Resource != "noop[b]" {
		t.Errorf("the other reader gets %+v", got)
	}
	var events, dropped uint64
	last := uint64(1)
	for dropped == 0 {
		l := next(t, slow)
		if l.Type == "dropped" {
			dropped += l.Count
			if l.Seq != last+l.Count {
				t.Errorf("after line %d, %d are missing up to %d", last, l.Count, l.Seq)
			}
		} else {
			events++
		}
		last = l.Seq
		if events > 1000 { // there is room again, for the line that tells of the gap
			r.ends(r.a)
		}
	}
	if events+dropped < n {
		t.Errorf("%d events and %d that were dropped, want %d", events, dropped, n)
	}
}

func TestEndDoesNotWaitForAReader(t *testing.T) {
	r := start(t)
	r.tap("", 0)
	for range 50_000 {
		r.ends(r.a)
	}
	began := time.Now()
	r.close(eventlog.Exit{})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestEndIsPromptForReaders(t *testing.T) {
	r := start(t)
	taps := []*control.Stream{r.tap("", 0), r.tap("noop[a]", 0), r.tap("", 10)}
	idle, err := net.Dial("unix", r.path) // and for somebody who has not asked yet
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	began := time.Now()
	r.close(eventlog.Exit{})
	if took := time.Since(began); took > 150*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	for _, s := range taps {
		if got := next(t, s); got.Type != "exit" {
			t.Errorf("got %+v", got)
		}
	}
	if _, err := os.Lstat(r.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestReaderWhoGoesIsForgotten(t *testing.T) {
	r := start(t)
	for range 200 { // more than there may be at once
		s := r.tap("", 0)
		s.Close()
		deadline := time.Now().Add(patience)
		for {
			s, err := r.client.Tap(t.Context(), "", 0)
			if err == nil {
				s.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
}

func TestSocketIsPrivateFromItsFirstMoment(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_ATTRIB|unix.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	r := startAt(t, filepath.Join(dir, "socket"))
	info, err := os.Lstat(r.path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("it is %v, %v", info.Mode(), err)
	}
	// That it was made, and never changed afterwards.
	events := make([]byte, 4096)
	n, err := unix.Read(fd, events)
	if want := unix.SizeofInotifyEvent + 16; err != nil || n != want {
		t.Errorf("%d bytes of events (%v), want the %d of one", n, err, want)
	}
}

func TestOtherUsersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to be another user")
	}
	path := filepath.Join(t.TempDir(), "socket")
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // so that only the socket itself can refuse
			t.Fatal(err)
		}
	}
	r := startAt(t, path)
	refused := make(chan error)
	go func() { // the thread ends with the goroutine, and with it the other user
		lockThread()
		if err := asNobody(); err != nil {
			refused <- err
			return
		}
		if _, err := os.Lstat(r.path); err != nil {
			refused <- fmt.Errorf("the way there is barred: %v", err)
			return
		}
		_, err := net.Dial("unix", r.path)
		refused <- err
	}()
	if err := <-refused; !errors.Is(err, syscall.EACCES) {
		t.Errorf("got %v", err)
	}
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Errorf("root itself: %v", err)
	}
}

func TestSocketThatWasLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	_, err = control.NewClient(path).Status(t.Context())
	if absent, ok := errors.AsType[*control.AbsentError](err); !ok || absent.Path != path {
		t.Errorf("a client is told %v", err)
	}
	r := startAt(t, path)
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Error(err)
	}
	_, err = control.Listen(path, r, eventlog.Header{}, noon)
	if running, ok := errors.AsType[*control.RunningError](err); !ok || running.Path != path {
		t.Errorf("a second one is told %v", err)
	}
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestFileInThePlaceOfTheSocketIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path, nil, eventlog.Header{}, noon); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("it is now %q, %v", text, err)
	}
}

func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := startAt(t, filepath.Join(dir, "socket"))
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Error(err)
	}
	r.close(eventlog.Exit{})
	if _, err := os.Lstat(r.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if _, err := r.client.Status(t.Context()); err == nil {
		t.Error("there is an answer after the end")
	}
}

func TestAwait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	client := control.NewClient(path)
	began := time.Now()
	client.Await(t.Context(), 20*time.Millisecond)
	if took := time.Since(began); took < 20*time.Millisecond || took > 5*time.Second {
		t.Errorf("it gives up after %v", took)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() { client.Await(t.Context(), patience) })
	startAt(t, path)
	waiting.Wait()
	if _, err := client.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNobodyThere(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "socket"), "/proc/nowhere/socket"} {
		_, err := control.NewClient(path).Status(t.Context())
		if absent, ok := errors.AsType[*control.AbsentError](err); !ok || absent.Error() != "no run answers at "+path {
			t.Errorf("got %v", err)
		}
	}
}

func ExampleClient() {
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	server, err := control.Listen(filepath.Join(dir, "socket"), empty{}, eventlog.Header{File: "graph.yaml"}, noon)
	if err != nil {
		panic(err)
	}
	defer server.Close(eventlog.Exit{})
	status, err := control.NewClient(filepath.Join(dir, "socket")).Status(noCancel)
	fmt.Println(status.File, status.Counts.Resources, err)
	// Output: graph.yaml 0 <nil>
}

func TestUnknownQuestionsAreRefused(t *testing.T) {
	r := start(t)
	for question, want := range map[string]string{
		"GET /nothing HTTP/1.0\r\n\r\n": "404", "POST /status HTTP/1.0\r\n\r\n": "405",
		"GET /tap?limit=0 HTTP/1.0\r\n\r\n": "400", "nonsense\r\n\r\n": "400",
	} {
		conn, err := net.Dial("unix", r.path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, question)
		reply, _ := io.ReadAll(conn)
		conn.Close()
		if !slices.Contains(strings.Fields(string(reply)), want) {
			t.Errorf("%q is answered by %q", question, reply)
		}
	}
}
