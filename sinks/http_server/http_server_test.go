package httpserver_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	httpserver "github.com/mgmtproject/mgmt/sinks/http_server"
	"github.com/mgmtproject/mgmt/sinks/http_server/site"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

// TestMain ignores what package http does for half a second at the end of a connection
// that was not in order.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

type params = map[string]any

func TestConformance(t *testing.T) {
	sinktest.Run(t, httpserver.Spec,
		sinktest.Case{Name: "a port that the system chooses", Resource: "127.0.0.1:0"},
		sinktest.Case{Name: "a directory", Resource: "a directory", Params: params{"address": "127.0.0.1:0", "root": t.TempDir(), "timeout": 5}},
	)
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params params
		want   string
	}{
		{"web", nil, `"web" is no address such as 127.0.0.1:8080: give address, or one as name`},
		{"web", params{"address": "127.0.0.1"}, `address: "127.0.0.1" is no address`},
		{"web", params{"address": ":http-ish"}, `address: ":http-ish" is no address`},
		{"web", params{"address": ":65536"}, `address: ":65536" is no address`},
		{"web", params{"address": ":-1"}, `address: ":-1" is no address`},
		{":80", params{"timeout": -1}, "timeout: it must not be negative"},
		{":80", params{"read_timeout": -1}, "read_timeout: it must not be negative"},
		{":80", params{"write_timeout": "-1s"}, "write_timeout: it must not be negative"},
		{":80", params{"shutdown_timeout": -1}, "shutdown_timeout: it must not be negative"},
		{":80", params{"root": "web"}, `root: path "web" is not absolute`},
	} {
		sinktest.Invalid(t, httpserver.Spec, tt.name, tt.params, tt.want)
	}
}

// client keeps no connections, so that none is left over.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// served is a server that runs.
type served struct {
	t       *testing.T
	r       sinks.Resource
	address string
	site    *site.Site
}

func serve(t *testing.T, c httpserver.Config) *served {
	t.Helper()
	var run sinks.Shared
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	r, err := c.Build("web", sinks.Options{Shared: &run})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := r.CheckApply(t.Context(), false); err != nil || !out.Changed || fmt.Sprint(out.Changes) != "[address: (not listening) -> "+c.Address+"]" || out.Values != nil {
		t.Errorf("a check before it listens: %v, %v", out, err)
	}
	t.Cleanup(func() {
		if err := r.(sinks.Closer).Close(); err != nil {
			t.Error(err)
		}
	})
	out, err := r.CheckApply(t.Context(), true)
	if err != nil || !out.Changed {
		t.Fatalf("got %v, %v", out, err)
	}
	address := out.Values["address"].(string)
	if out.Values["url"] != "http://"+address {
		t.Errorf("it sends %v", out.Values)
	}
	return &served{t, r, address, site.Of(&run, "web")}
}

// answer is what came of a request.
type answer struct {
	*http.Response
	body string
}

func (s *served) ask(method, path string, header ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.address+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp, string(body)}
}

func TestFiles(t *testing.T) {
	d := t.TempDir()
	s := serve(t, httpserver.Config{Root: d})
	text := site.Text("hello, world\n")
	if !s.site.Put("/hello.txt", text) {
		t.Error("the site does not know its server")
	}
	put(t, d+"/hello.txt", "from the directory")
	put(t, d+"/page.html", "<p>")
	put(t, d+"/later", "one")
	s.site.Put("/named/file.json", site.Path(d+"/later"))
	s.site.Put("/gone", site.Path(d+"/gone"))
	s.site.Put("/dir", site.Path(d))

	got := s.ask("GET", "/hello.txt")
	if got.StatusCode != http.StatusOK || got.body != "hello, world\n" || got.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("got %v %q", got.Response, got.body)
	}
	tag := got.Header.Get("ETag")
	for _, tt := range []struct {
		method, path string
		header       []string
		status       int
		body         string
	}{
		{"HEAD", "/hello.txt", nil, 200, ""},
		{"GET", "/hello.txt", []string{"If-None-Match", tag}, 304, ""},
		{"GET", "/hello.txt", []string{"If-None-Match", `"other"`}, 200, "hello, world\n"},
		{"GET", "/hello.txt", []string{"Range", "bytes=7-"}, 206, "world\n"},
		{"GET", "/hello.txt", []string{"Range", "bytes=7-", "If-Range", tag}, 206, "world\n"},
		{"GET", "/hello.txt", []string{"Range", "bytes=7-", "If-Range", `"other"`}, 200, "hello, world\n"},
		{"GET", "/hello.txt", []string{"Range", "bytes=99-"}, 416, "invalid range: failed to overlap\n"},
		{"POST", "/hello.txt", nil, 405, "only GET and HEAD are answered\n"},
		{"DELETE", "/page.html", nil, 405, "only GET and HEAD are answered\n"},
		{"GET", "/page.html", nil, 200, "<p>"},
		{"GET", "/named/file.json", nil, 200, "one"},
		{"GET", "/gone", nil, 404, "404 page not found\n"},
		{"GET", "/dir", nil, 404, "404 page not found\n"},
		{"GET", "/nothing", nil, 404, "404 page not found\n"},
		{"GET", "/hello.txt?x=y", nil, 200, "hello, world\n"},
	} {
		got := s.ask(tt.method, tt.path, tt.header...)
		if got.StatusCode != tt.status || got.body != tt.body {
			t.Errorf("%s %s %q: got %s %q, want %d %q", tt.method, tt.path, tt.header, got.Status, got.body, tt.status, tt.body)
		}
	}
	first := s.ask("GET", "/named/file.json")
	if first.Header.Get("Content-Type") != "application/json" || first.Header.Get("Last-Modified") == "" || !strings.HasPrefix(first.Header.Get("ETag"), `W/"`) {
		t.Errorf("got %v", first.Header)
	}
	put(t, d+"/later", "two!")
	second := s.ask("GET", "/named/file.json", "If-None-Match", first.Header.Get("ETag"))
	if second.StatusCode != http.StatusOK || second.body != "two!" {
		t.Errorf("a file that has changed: %s %q", second.Status, second.body)
	}
	if got := s.ask("GET", "/named/file.json", "If-None-Match", second.Header.Get("ETag")); got.StatusCode != http.StatusNotModified {
		t.Errorf("a file that has not: %s", got.Status)
	}
	s.site.Remove("/hello.txt", site.Text("hello, world\n"))
	if got := s.ask("GET", "/hello.txt"); got.body != "hello, world\n" {
		t.Errorf("another file was removed, and now there is %q", got.body)
	}
	s.site.Remove("/hello.txt", text)
	if got := s.ask("GET", "/hello.txt"); got.body != "from the directory" {
		t.Errorf("got %q", got.body)
	}
}

// TestSettled sees that a file which has not been written to for a while can be
// continued by its tag.
func TestSettled(t *testing.T) {
	s := serve(t, httpserver.Config{})
	s.site.Put("/sh", site.Path("/bin/sh"))
	got := s.ask("GET", "/sh", "Range", "bytes=1-3")
	if got.StatusCode != http.StatusPartialContent || got.body != "ELF" || strings.HasPrefix(got.Header.Get("ETag"), "W/") {
		t.Fatalf("%s %q %v", got.Status, got.body, got.Header)
	}
	if got := s.ask("GET", "/sh", "Range", "bytes=1-3", "If-Range", got.Header.Get("ETag")); got.StatusCode != http.StatusPartialContent {
		t.Errorf("%s", got.Status)
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// raw sends a request line as it is, which a client would tidy up.
func (s *served) raw(target string) (status int, body string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", target)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.t.Fatalf("%s: %v", target, err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func TestRoot(t *testing.T) {
	d := t.TempDir()
	root := d + "/root"
	put(t, d+"/secret", "SECRET")
	put(t, d+"/root2/secret", "SECRET")
	put(t, root+"/file", "file")
	put(t, root+"/sub/index.html", "the index")
	put(t, root+"/sub/a b.txt", "blank")
	put(t, root+"/bare/.hidden", "SECRET")
	put(t, root+"/.git/config", "SECRET")
	put(t, root+"/odd\\name", "odd")
	put(t, root+"/..dots", "SECRET")
	if err := errors.Join(
		os.Symlink("file", root+"/inside"), os.Symlink("sub", root+"/subdir"),
		os.Symlink(d+"/secret", root+"/absolute"), os.Symlink("../secret", root+"/relative"), os.Symlink("..", root+"/up"),
		os.Symlink("/", root+"/slash"), os.Symlink("../root2", root+"/beside"), os.Symlink("loop", root+"/loop"),
		syscall.Mkfifo(root+"/pipe", 0o644),
	); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", root+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	s := serve(t, httpserver.Config{Root: root})
	for _, tt := range []struct {
		target string
		status int
		body   string
	}{
		{"/file", 200, "file"},
		{"/%66ile", 200, "file"},
		{"/inside", 200, "file"},
		{"/sub/", 200, "the index"},
		{"/subdir/", 200, "the index"},
		{"/sub/index.html", 200, "the index"},
		{"/sub/a%20b.txt", 200, "blank"},
		{"/odd%5Cname", 200, "odd"},
		{"/sub", 301, ""},
		{"/file/", 404, ""},
		{"/", 404, ""},
		{"/bare/", 404, ""},
		{"/bare/.hidden", 404, ""},
		{"/.git/config", 404, ""},
		{"/.git/", 404, ""},
		{"/..dots", 404, ""},
		{"/absolute", 404, ""},
		{"/relative", 404, ""},
		{"/up/secret", 404, ""},
		{"/up/root/file", 404, ""},
		{"/slash/etc/passwd", 404, ""},
		{"/beside/secret", 404, ""},
		{"/loop", 404, ""},
		{"/pipe", 404, ""},
		{"/socket", 404, ""},
		{"/../secret", 404, ""},
		{"/%2e%2e/secret", 404, ""},
		{"/%2e%2e%2fsecret", 404, ""},
		{"/sub/../../secret", 404, ""},
		{"/sub/../file", 404, ""},
		{"/..%5csecret", 404, ""},
		{"//file", 404, ""},
		{"/./file", 404, ""},
		{"//../secret", 404, ""},
		{"/file%00", 404, ""},
		{"/../root2/secret", 404, ""},
		{"/" + strings.Repeat("x", 5000), 404, ""},
		{"/" + strings.Repeat("sub/", 2000), 404, ""},
		{"file", 400, ""},
		{"*", 404, ""},
		{"http://elsewhere/file", 200, "file"},
		{"http://elsewhere/../secret", 404, ""},
	} {
		status, body := s.raw(tt.target)
		if status != tt.status || tt.body != "" && body != tt.body || strings.Contains(body, "SECRET") || strings.Contains(body, "root:") {
			t.Errorf("GET %.80s: got %d %.80q, want %d %q", tt.target, status, body, tt.status, tt.body)
		}
	}
	if got := s.ask("GET", "/sub?q=1"); got.Header.Get("Location") != "./sub/?q=1" {
		t.Errorf("it leads to %q", got.Header.Get("Location"))
	}
	put(t, root+"/index.html", "home")
	if got := s.ask("GET", "/"); got.body != "home" || got.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("got %s %q %v", got.Status, got.body, got.Header)
	}
	// Another directory takes the place of the root.
	put(t, d+"/new/file", "new")
	if err := errors.Join(os.Rename(root, d+"/old"), os.Rename(d+"/new", root)); err != nil {
		t.Fatal(err)
	}
	if got := s.ask("GET", "/file"); got.body != "new" {
		t.Errorf("got %q", got.body)
	}
	if err := os.Rename(root, d+"/gone"); err != nil {
		t.Fatal(err)
	}
	if out, err := s.r.CheckApply(t.Context(), true); !errors.Is(err, os.ErrNotExist) || out.Changed {
		t.Errorf("a root that is gone: %v, %v", out, err)
	}
	put(t, root, "a file")
	if out, err := s.r.CheckApply(t.Context(), true); err == nil || err.Error() != "root "+root+" is not a directory" || out.Changed {
		t.Errorf("a root that is a file: %v, %v", out, err)
	}
	if got := s.ask("GET", "/file"); got.StatusCode != http.StatusNotFound {
		t.Errorf("got %s", got.Status)
	}
}

func TestAllAddresses(t *testing.T) {
	r := sinktest.Build(t, httpserver.Spec, ":0", nil)
	defer r.(sinks.Closer).Close()
	out, err := r.CheckApply(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(out.Values["address"].(string))
	if out.Values["url"] != "http://localhost:"+port || port == "0" {
		t.Errorf("it sends %v", out.Values)
	}
}

func TestAddress(t *testing.T) {
	s := serve(t, httpserver.Config{})
	for range 2 { // the address stays
		out, err := s.r.CheckApply(t.Context(), true)
		if err != nil || out.Changed || out.Values["address"] != s.address {
			t.Errorf("again: %v, %v", out, err)
		}
	}
	r := sinktest.Build(t, httpserver.Spec, "another", params{"address": s.address})
	out, err := r.CheckApply(t.Context(), true)
	if !errors.Is(err, syscall.EADDRINUSE) || out.Changed || err.Error() != "listen tcp "+s.address+": bind: address already in use" {
		t.Errorf("an address in use: %v, %v", out, err)
	}
	if err := s.r.(sinks.Closer).Close(); err != nil {
		t.Fatal(err)
	}
	// As soon as one is closed the next one may begin.
	if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed || out.Values["address"] != s.address {
		t.Errorf("the next server: %v, %v", out, err)
	}
	for range 2 { // nothing is left to be closed the second time
		if err := r.(sinks.Closer).Close(); err != nil {
			t.Error(err)
		}
	}
	if out, err := r.CheckApply(t.Context(), false); err != nil || !out.Changed {
		t.Errorf("after the end: %v, %v", out, err)
	}
}

// slow is a request that is being answered: of a large text, of which nobody reads.
func (s *served) slow() net.Conn {
	s.t.Helper()
	s.site.Put("/large", site.Text(strings.Repeat("0123456789abcdef", 2<<20)))
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprint(conn, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, 1000)); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

func TestCloseLetsRequestsEnd(t *testing.T) {
	s := serve(t, httpserver.Config{ShutdownTimeout: time.Minute})
	conn := s.slow()
	defer conn.Close()
	var read int64
	var running sync.WaitGroup
	running.Go(func() {
		for { // until the server has begun to close
			c, err := net.Dial("tcp", s.address)
			if err != nil {
				break
			}
			c.Close()
		}
		read, _ = io.Copy(io.Discard, conn)
	})
	if err := s.r.(sinks.Closer).Close(); err != nil {
		t.Error(err)
	}
	running.Wait()
	if read < 32<<20-1000 {
		t.Errorf("the client got %d bytes", read)
	}
}

func TestCloseCutsOff(t *testing.T) {
	s := serve(t, httpserver.Config{ShutdownTimeout: 10 * time.Millisecond})
	conn := s.slow()
	defer conn.Close()
	began := time.Now()
	if err := s.r.(sinks.Closer).Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if n, err := io.Copy(io.Discard, conn); err == nil && n >= 32<<20-1000 {
		t.Errorf("the client got %d bytes", n)
	}
}

// TestSlowClients sees that those who send nothing, or take nothing, are not waited for.
func TestSlowClients(t *testing.T) {
	s := serve(t, httpserver.Config{Timeout: 100 * time.Millisecond})
	idle, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	fmt.Fprint(idle, "GET / HT")
	idle.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, idle); err != nil {
		t.Errorf("a client that sends half a request: %v", err)
	}
	lazy := s.slow()
	defer lazy.Close()
	lazy.SetDeadline(time.Now().Add(10 * time.Second))
	time.Sleep(200 * time.Millisecond) // it is what the client is about
	if n, _ := io.Copy(io.Discard, lazy); n >= 32<<20-1000 {
		t.Errorf("a client that waits gets %d bytes", n)
	}
}

// TestBadRequests sends what no client should, and sees that the server goes on.
func TestBadRequests(t *testing.T) {
	var log bytes.Buffer
	var run sinks.Shared
	r, err := (&httpserver.Config{Address: "127.0.0.1:0"}).Build("web", sinks.Options{Shared: &run, Log: slog.New(slog.NewTextHandler(&locked{w: &log}, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer r.(sinks.Closer).Close()
	out, err := r.CheckApply(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t, r, out.Values["address"].(string), site.Of(&run, "web")}
	s.site.Put("/f", site.Text("here"))
	for _, request := range []string{
		"", "\x00\x01\x02", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /f HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
		"GET /f HTTP/1.1\r\nHost: x\r\nRange: bytes=-1,-2,-3,9999999999999999999-\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /f HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nx", "GET /f HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 1<<19) + "\r\n",
	} {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, request)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.Copy(io.Discard, conn)
		conn.Close()
		if got := s.ask("GET", "/f"); got.body != "here" {
			t.Fatalf("after %.40q: %s %q", request, got.Status, got.body)
		}
	}
	if log.Len() > 0 {
		t.Errorf("it says %s", log.String())
	}
}

// locked is a writer for many goroutines.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func TestListeningIsCancelled(t *testing.T) {
	r := sinktest.Build(t, httpserver.Spec, "127.0.0.1:0", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out, err := r.CheckApply(ctx, true); !errors.Is(err, context.Canceled) || out.Changed {
		t.Errorf("%v, %v", out, err)
	}
}

func TestAbilities(t *testing.T) {
	if got := sinktest.Edges(t, &httpserver.Config{Root: "/srv/web"}, ":80"); fmt.Sprint(got[0]) != "provides http_server :80" || !strings.Contains(fmt.Sprint(got), "needs dir /srv/web, its root") {
		t.Errorf("got %q", got)
	}
	owns := func(address string) string {
		return fmt.Sprint(sinktest.Build(t, httpserver.Spec, "web", params{"address": address}).(sinks.Owner).Owns())
	}
	if owns("127.0.0.1:80") != "[address 127.0.0.1:80]" || owns(":0") != "[]" || owns(":00") != "[]" {
		t.Errorf("%s, %s", owns("127.0.0.1:80"), owns(":0"))
	}
	if got := sinktest.Build(t, httpserver.Spec, ":80", params{"root": "/srv/web/"}).Watches(); len(got) != 1 || got[0].String() != "/srv/web" {
		t.Errorf("watches %v", got)
	}
}
