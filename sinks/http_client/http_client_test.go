package httpclient_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	httpclient "github.com/mgmtproject/mgmt/sinks/http_client"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

// TestMain also is the process that TestProxy runs.
func TestMain(m *testing.M) {
	if file := os.Getenv("HTTP_CLIENT_PROXIED"); file != "" {
		r, err := (&httpclient.Config{URL: "http://nowhere.invalid/x"}).Build(file, sinks.Options{})
		if err == nil {
			_, err = r.CheckApply(context.Background(), true)
		}
		fmt.Print(err)
		return
	}
	goleak.VerifyTestMain(m)
}

type params = map[string]any

// server has one content, counts what it is asked, and can be made to behave badly.
type server struct {
	*httptest.Server

	mu       sync.Mutex
	content  []byte
	etag     string
	modified time.Time
	cuts     int // how many answers are cut; 0 for all
	cut      int // sends so many bytes of each body, and then hangs up; 0 for all
	odd      func(w http.ResponseWriter, r *http.Request) bool
	asked    []string // method, range and status of each request, in the order of their coming
	running  sync.WaitGroup
}

func serve(t *testing.T, content string) *server {
	t.Helper()
	s := &server{content: []byte(content), etag: `"v1"`}
	s.Server = httptest.NewServer(s)
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	return s
}

// status keeps the status of a response, and hangs up after so many bytes.
type status struct {
	http.ResponseWriter
	code, left int
}

func (w *status) WriteHeader(code int) { w.code = code; w.ResponseWriter.WriteHeader(code) }

func (w *status) Write(b []byte) (int, error) {
	if w.left < 0 {
		return w.ResponseWriter.Write(b)
	}
	n, err := w.ResponseWriter.Write(b[:min(len(b), w.left)])
	if w.left -= n; err == nil && n < len(b) {
		err = errors.New("that is enough")
	}
	return n, err
}

func (s *server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	content, odd, cut := s.content, s.odd, s.cut
	if s.cuts--; s.cuts == 0 {
		s.cut = 0
	}
	if s.etag != "" {
		rw.Header().Set("ETag", s.etag)
	}
	modified := s.modified
	n := len(s.asked)
	s.asked = append(s.asked, "")
	s.running.Add(1)
	s.mu.Unlock()
	w := &status{rw, 200, -1}
	if cut > 0 {
		w.left = cut
	}
	defer func() {
		s.mu.Lock()
		s.asked[n] = strings.Join(strings.Fields(fmt.Sprint(r.Method, " ", r.Header.Get("Range"), " ", w.code)), " ")
		s.mu.Unlock()
		s.running.Done()
		if w.left == 0 {
			panic(http.ErrAbortHandler)
		}
	}()
	if odd != nil && odd(w, r) {
		return
	}
	http.ServeContent(w, r, "", modified, bytes.NewReader(content))
}

// set changes the server.
func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// takeAsked returns what the server was asked since the last time.
func (s *server) takeAsked() string {
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := strings.Join(s.asked, ", ")
	s.asked = nil
	return asked
}

func sum(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func apply(t *testing.T, r sinks.Resource, changed bool) {
	t.Helper()
	if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed != changed {
		t.Fatalf("got %v, %v; want Changed %v", out, err, changed)
	}
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("the file holds %d bytes, %.40q, %v; want %d, %.40q", len(got), got, err, len(want), want)
	}
}

// alone sees that nothing lies beside the files.
func alone(t *testing.T, dir string) {
	t.Helper()
	if left, _ := filepath.Glob(dir + "/.mgmt*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestConformance(t *testing.T) {
	d := t.TempDir()
	f := d + "/sub/file"
	s := serve(t, "content\n")
	state := sinktest.Files(d)
	set := func() error { return os.WriteFile(f, []byte("damaged\n"), 0o644) }
	remove := func() error { return os.RemoveAll(d + "/sub") }
	sinktest.Run(t, httpclient.Spec,
		sinktest.Case{Name: "a file that is changed", Resource: f, State: state, Params: params{"url": s.URL}, Disturb: set},
		sinktest.Case{Name: "a file that is removed", Resource: f, State: state, Params: params{"url": s.URL}, Disturb: remove},
		sinktest.Case{Name: "a file with a checksum", Resource: "x", State: state, Disturb: set,
			Params: params{"file": f, "url": s.URL, "sha256": sum("content\n")}},
	)
	t.Run("a request that is no GET", func(t *testing.T) {
		s.set(func() {
			s.odd = func(w http.ResponseWriter, r *http.Request) bool {
				body, _ := io.ReadAll(r.Body)
				w.WriteHeader(http.StatusCreated)
				fmt.Fprintf(w, "%s %s", r.Method, body)
				return true
			}
		})
		ps := params{"url": s.URL, "method": "POST", "body": "question"}
		sinktest.Run(t, httpclient.Spec, sinktest.Case{Name: "removed", Resource: f, State: state, Params: ps, Disturb: remove})
		holds(t, f, "POST question")
	})
}

func TestInvalid(t *testing.T) {
	const u = "http://localhost/"
	for _, tt := range []struct {
		name   string
		params params
		want   string
	}{
		{"a", params{"url": u}, `path "a" is not absolute: give file`},
		{"a", params{"url": u, "file": "b"}, `file: path "b" is not absolute`},
		{"/a/", params{"url": u}, "/a/ is a directory"},
		{"/a", params{}, "url: it is missing"},
		{"/a", params{"url": "ftp://localhost/"}, "url: "},
		{"/a", params{"url": "localhost"}, "url: "},
		{"/a", params{"url": "http://a b/"}, "url: "},
		{"/a", params{"url": u, "sha256": "abc"}, "sha256: "},
		{"/a", params{"url": u, "sha256": "xyzzy"}, "sha256: "},
		{"/a", params{"url": u, "body": "x"}, "body: it has no effect with GET"},
		{"/a", params{"url": u, "method": "HEAD"}, "HEAD"},
	} {
		sinktest.Invalid(t, httpclient.Spec, tt.name, tt.params, tt.want)
	}
}

// TestConditional sees how a server is asked about what is already there.
func TestConditional(t *testing.T) {
	long := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name     string
		etag     string
		modified time.Time
		again    string // what is asked when nothing has changed
		restart  string // and by the next run of the program
	}{
		{"a tag", `"v1"`, time.Time{}, "GET 304", "GET 304"},
		{"a weak tag", `W/"v1"`, time.Time{}, "GET 304", "GET 304"},
		{"a time", "", long, "GET 304", "GET 304"},
		{"nothing to go by", "", time.Time{}, "GET 200", "GET 200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := t.TempDir()
			f := d + "/f"
			s := serve(t, "one")
			s.set(func() { s.etag, s.modified = tt.etag, tt.modified })
			ps := params{"url": s.URL}
			r := sinktest.Build(t, httpclient.Spec, f, ps)
			expect := func(step, asked, content string, changed bool) {
				t.Helper()
				apply(t, r, changed)
				if got := s.takeAsked(); got != asked {
					t.Errorf("%s: asked %q, want %q", step, got, asked)
				}
				holds(t, f, content)
				alone(t, d)
			}
			expect("at first", "GET 200", "one", true)
			expect("again", tt.again, "one", false)
			if attributes(t, f) {
				r = sinktest.Build(t, httpclient.Spec, f, ps)
				expect("after a restart", tt.restart, "one", false)
			}
			if err := os.WriteFile(f, []byte("ONE"), 0o644); err != nil {
				t.Fatal(err)
			}
			expect("after a change here", "GET 200, GET 200", "one", true)
			s.set(func() {
				s.content = []byte("two")
				if s.etag != "" {
					s.etag = `"v2"`
				}
				if !s.modified.IsZero() {
					s.modified = s.modified.Add(time.Hour)
				}
			})
			expect("after a change there", "GET 200, GET 200", "two", true)
			expect("in the end", tt.again, "two", false)
			if err := os.WriteFile(f, []byte("two"), 0o644); err != nil { // the same, by somebody else
				t.Fatal(err)
			}
			expect("the same content", "GET 200", "two", false)
			expect("and it is remembered", tt.again, "two", false)
			if out, err := r.CheckApply(t.Context(), false); err != nil || out.Changed {
				t.Errorf("a check: %v, %v", out, err)
			}
			r = sinktest.Build(t, httpclient.Spec, f, params{"url": s.URL + "/other"})
			s.takeAsked()
			expect("another address", "GET 200", "two", false)
		})
	}
}

// attributes reports whether the filesystem can remember.
func attributes(t *testing.T, path string) bool {
	t.Helper()
	err := unix.Setxattr(path, "user.test", []byte("x"), 0)
	if err != nil {
		t.Logf("no extended attributes here: %v", err)
	}
	return err == nil
}

func TestChecksum(t *testing.T) {
	d := t.TempDir()
	f := d + "/f"
	s := serve(t, "content")
	ps := params{"url": s.URL, "sha256": strings.ToUpper(sum("content"))}
	r := sinktest.Build(t, httpclient.Spec, f, params{"url": "http://me:secret@" + s.URL[7:] + "/x?token=secret", "sha256": sum("content")})
	out, err := r.CheckApply(t.Context(), false)
	if want := "[content: absent -> " + s.URL + "/x]"; err != nil || fmt.Sprint(out.Changes) != want || s.takeAsked() != "" {
		t.Errorf("a check: %v, %v; want %s", out.Changes, err, want)
	}
	r = sinktest.Build(t, httpclient.Spec, f, ps)
	apply(t, r, true)
	s.takeAsked()
	apply(t, r, false)
	apply(t, sinktest.Build(t, httpclient.Spec, f, ps), false)
	if got := s.takeAsked(); got != "" {
		t.Errorf("with the right checksum the server was asked %q", got)
	}
	r = sinktest.Build(t, httpclient.Spec, f, params{"url": s.URL, "sha256": sum("other")})
	out, err = r.CheckApply(t.Context(), true)
	if want := fmt.Sprintf("%s has the sha256 %s, expected %s", s.URL, sum("content"), sum("other")); err == nil || out.Changed || !strings.Contains(err.Error(), want) {
		t.Errorf("a wrong checksum: %v, %v; want %s", out, err, want)
	}
	holds(t, f, "content")
	alone(t, d)
}

// text is long enough for a connection to be cut, and nowhere the same.
func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()[:n]
}

func TestResume(t *testing.T) {
	big := text(1 << 20)
	t.Run("within one attempt", func(t *testing.T) {
		d := t.TempDir()
		s := serve(t, big)
		s.set(func() { s.cut = 300_000 })
		apply(t, sinktest.Build(t, httpclient.Spec, d+"/f", params{"url": s.URL}), true)
		holds(t, d+"/f", big)
		alone(t, d)
		if got := s.takeAsked(); strings.Count(got, " 206") < 3 || !strings.HasPrefix(got, "GET 200, GET bytes=") {
			t.Errorf("it was asked %q", got)
		}
	})
	for name, changed := range map[string]bool{"by another run": false, "of what has changed meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			d := t.TempDir()
			s := serve(t, big)
			s.set(func() { s.cut = 50_000 })
			ps := params{"url": s.URL, "sha256": sum(big)}
			out, err := sinktest.Build(t, httpclient.Spec, d+"/f", ps).CheckApply(t.Context(), true)
			if !errors.Is(err, io.ErrUnexpectedEOF) || out.Changed || !strings.HasPrefix(err.Error(), "after ") {
				t.Fatalf("cut too often: %v, %v", out, err)
			}
			if _, err := os.Lstat(d + "/f"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("half a file is there: %v", err)
			}
			if !attributes(t, httpclient.PartPath(d+"/f")) {
				t.Skip("this filesystem can't remember for another run")
			}
			s.takeAsked()
			want := big
			s.set(func() {
				s.cut = 0
				if changed {
					want = strings.ToUpper(big)
					s.content, s.etag = []byte(want), `"v2"`
				}
			})
			apply(t, sinktest.Build(t, httpclient.Spec, d+"/f", params{"url": s.URL, "sha256": sum(want)}), true)
			holds(t, d+"/f", want)
			alone(t, d)
			got := s.takeAsked()
			if !strings.HasPrefix(got, "GET bytes=") || strings.HasSuffix(got, " 200") != changed || strings.Contains(got, ",") {
				t.Errorf("it was asked %q", got)
			}
		})
	}
	t.Run("not without a version", func(t *testing.T) {
		d := t.TempDir()
		s := serve(t, big)
		s.set(func() { s.cut, s.etag = 300_000, `W/"weak"` })
		out, err := sinktest.Build(t, httpclient.Spec, d+"/f", params{"url": s.URL}).CheckApply(t.Context(), true)
		if !errors.Is(err, io.ErrUnexpectedEOF) || out.Changed || strings.Contains(s.takeAsked(), ",") {
			t.Errorf("%v, %v", out, err)
		}
		alone(t, d)
	})
}

// TestInterrupted cancels a download after some notes, and damages what comes after them.
func TestInterrupted(t *testing.T) {
	httpclient.SetNoteEach(t, 100_000)
	big := text(1 << 20)
	d := t.TempDir()
	s := serve(t, big)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	s.set(func() {
		s.odd = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", fmt.Sprint(len(big)))
			io.WriteString(w, big[:550_000])
			w.(*status).ResponseWriter.(http.Flusher).Flush()
			for part := httpclient.PartPath(d + "/f"); r.Context().Err() == nil; {
				if info, err := os.Stat(part); err == nil && info.Size() >= 500_000 {
					cancel(enough)
					<-r.Context().Done()
				}
			}
			return true
		}
	})
	r := sinktest.Build(t, httpclient.Spec, d+"/f", params{"url": s.URL})
	if out, err := r.CheckApply(ctx, true); !errors.Is(err, enough) || out.Changed {
		t.Fatalf("%v, %v", out, err)
	}
	part, err := os.OpenFile(httpclient.PartPath(d+"/f"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	part.WriteString("damage")
	part.Close()
	s.set(func() { s.odd = nil })
	apply(t, r, true)
	holds(t, d+"/f", big)
	if got := s.takeAsked(); !strings.Contains(got, "206") {
		t.Errorf("it was asked %q", got)
	}
}

// TestNoteGoes sees that a note of one content does not outlive it, whatever happens next.
func TestNoteGoes(t *testing.T) {
	d := t.TempDir()
	s := serve(t, text(1<<20))
	s.set(func() { s.cut = 10_000 })
	r := sinktest.Build(t, httpclient.Spec, d+"/f", params{"url": s.URL})
	if _, err := r.CheckApply(t.Context(), true); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	const attribute = "user.mgmt.http_client"
	part := httpclient.PartPath(d + "/f")
	if !attributes(t, part) {
		t.Skip("this filesystem can't remember for another run")
	}
	if _, err := unix.Getxattr(part, attribute, nil); err != nil {
		t.Fatalf("there is no note: %v", err)
	}
	other := strings.ToUpper(text(200_000))
	s.set(func() {
		s.cut = 0
		s.odd = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("ETag", `"v2"`)
			io.WriteString(w, other[:150_000])
			w.(*status).ResponseWriter.(http.Flusher).Flush()
			for r.Context().Err() == nil {
				if info, err := os.Stat(part); err == nil && info.Size() == 150_000 {
					break
				}
			}
			if _, err := unix.Getxattr(part, attribute, nil); !errors.Is(err, unix.ENODATA) {
				t.Errorf("the note of another content is still there: %v", err)
			}
			io.WriteString(w, other[150_000:])
			return true
		}
	})
	apply(t, r, true)
	holds(t, d+"/f", other)
}

// TestLies has servers answer requests for a range with something else.
func TestLies(t *testing.T) {
	big := text(1 << 20)
	const undetected = "something else under the same version" // but by a checksum
	ranged := func(r *http.Request) bool { return r.Header.Get("Range") != "" }
	answer := func(header, etag string, body string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !ranged(r) {
				return false
			}
			w.Header().Set("Content-Range", header)
			w.Header().Set("ETag", etag)
			w.WriteHeader(http.StatusPartialContent)
			io.WriteString(w, body)
			return true
		}
	}
	for _, tt := range []struct {
		name string
		odd  func(w http.ResponseWriter, r *http.Request) bool
	}{
		{"another range", answer("bytes 5-1048575/1048576", `"v1"`, big[5:])},
		{"no range", answer("", `"v1"`, big)},
		{"nonsense", answer("lines a-b/c", `"v1"`, big)},
		{"another version", answer("bytes 300000-1048575/1048576", `"v2"`, strings.ToUpper(big[300000:]))},
		{"another length", answer("bytes 300000-2097151/2097152", `"v1"`, big+big[300000:])},
		{"more than it says", answer("bytes 300000-1048575/1048576", `"v1"`, big)},
		{"an unknown length", answer("bytes 300000-1048575/*", `"v1"`, big[300000:])},
		{"there is no such range", func(w http.ResponseWriter, r *http.Request) bool {
			if ranged(r) {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			}
			return ranged(r)
		}},
		{undetected, answer("bytes 300000-1048575/1048576", `"v1"`, strings.ToUpper(big[300000:]))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := t.TempDir()
			s := serve(t, big)
			s.set(func() { s.odd, s.cut, s.cuts = tt.odd, 300_000, 1 })
			ps := params{"url": s.URL}
			if tt.name == undetected {
				ps["sha256"] = sum(big)
			}
			apply(t, sinktest.Build(t, httpclient.Spec, d+"/f", ps), true)
			holds(t, d+"/f", big)
			alone(t, d)
			got := s.takeAsked()
			if strings.ReplaceAll(got, "416", "206") != "GET 200, GET bytes=300000- 206, GET 200" {
				t.Errorf("it was asked %q", got)
			}
		})
	}
	t.Run("whatever it is asked", func(t *testing.T) {
		d := t.TempDir()
		s := serve(t, big)
		s.set(func() { s.odd, s.cut = answer("bytes 5-1048575/1048576", `"v1"`, big[5:]), 300_000 })
		out, err := sinktest.Build(t, httpclient.Spec, d+"/f", params{"url": s.URL}).CheckApply(t.Context(), true)
		if got := s.takeAsked(); !errors.Is(err, io.ErrUnexpectedEOF) || out.Changed || strings.Count(got, "GET") != 3 {
			t.Errorf("asked %q, it ends with %v, %v", got, out, err)
		}
	})
}

func TestRefused(t *testing.T) {
	d := t.TempDir()
	f := d + "/f"
	s := serve(t, "content")
	elsewhere := serve(t, "elsewhere")
	s.set(func() {
		s.odd = func(w http.ResponseWriter, r *http.Request) bool {
			switch r.URL.Path {
			case "/redirect":
				http.Redirect(w, r, elsewhere.URL+"/x", http.StatusFound)
			case "/redirect-to-nothing":
				http.Redirect(w, r, "/404", http.StatusMovedPermanently)
			case "/loop":
				http.Redirect(w, r, "/loop", http.StatusFound)
			case "/404":
				http.NotFound(w, r)
			case "/304":
				w.WriteHeader(http.StatusNotModified)
			case "/206":
				w.WriteHeader(http.StatusPartialContent)
			case "/500":
				http.Error(w, "oh", http.StatusInternalServerError)
			case "/204":
				w.WriteHeader(http.StatusNoContent)
			}
			return true
		}
	})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for address, want := range map[string]string{
		s.URL + "/404":                 "GET " + s.URL + "/404: the server answers 404 Not Found",
		s.URL + "/redirect-to-nothing": "the server answers 404 Not Found, redirected to " + s.URL + "/404",
		s.URL + "/loop":                "stopped after 10 redirects",
		s.URL + "/304":                 "304 Not Modified",
		s.URL + "/206":                 "206 Partial Content",
		s.URL + "/204":                 "204 No Content",
		s.URL + "/500":                 "500 Internal Server Error",
		"http://me:pass@" + s.URL[7:] + "/404?pass@":            "GET " + s.URL + "/404: ",
		"http://me:pass@" + closed.Addr().String() + "/x?pass@": "/x: dial tcp",
	} {
		for name, before := range map[string]string{"a file that is missing": "", "a file that is there": "old"} {
			if err := os.RemoveAll(f); err != nil {
				t.Fatal(err)
			}
			if before != "" {
				if err := os.WriteFile(f, []byte(before), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			r := sinktest.Build(t, httpclient.Spec, f, params{"url": address})
			out, err := r.CheckApply(t.Context(), true)
			if err == nil || out.Changed || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pass@") {
				t.Errorf("%s, %s: %v, %v; want %q", address, name, out, err, want)
			}
			if before != "" {
				holds(t, f, before)
			}
			alone(t, d)
		}
	}
	apply(t, sinktest.Build(t, httpclient.Spec, f, params{"url": s.URL + "/redirect"}), true)
	holds(t, f, "elsewhere")
}

func TestStalled(t *testing.T) {
	httpclient.SetStall(t, 200*time.Millisecond)
	for name, begin := range map[string]string{"before the first byte": "", "in the middle": "con"} {
		d := t.TempDir()
		s := serve(t, "content")
		s.set(func() {
			s.odd = func(w http.ResponseWriter, r *http.Request) bool {
				if begin != "" {
					w.Header().Set("Content-Length", "7")
					w.Header().Del("ETag")
					io.WriteString(w, begin)
					w.(*status).ResponseWriter.(http.Flusher).Flush()
				}
				<-r.Context().Done()
				return true
			}
		})
		r := sinktest.Build(t, httpclient.Spec, d+"/f", params{"url": s.URL})
		out, err := r.CheckApply(t.Context(), true)
		if err == nil || out.Changed || !strings.Contains(err.Error(), s.URL+": the server has sent nothing for too long") {
			t.Errorf("%s: %v, %v", name, out, err)
		}
		alone(t, d)
	}
}

// TestProxy runs in another process, since the environment is looked at once.
func TestProxy(t *testing.T) {
	s := serve(t, "from the proxy")
	f := filepath.Join(t.TempDir(), "f")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HTTP_CLIENT_PROXIED="+f, "HTTP_PROXY="+s.URL, "http_proxy="+s.URL, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "<nil>" {
		t.Fatalf("%s, %v", out, err)
	}
	holds(t, f, "from the proxy")
}

func TestPlace(t *testing.T) {
	defer unix.Umask(unix.Umask(0o022))
	d := t.TempDir()
	s := serve(t, "content")
	if err := errors.Join(os.WriteFile(d+"/f", []byte("old"), 0o600), os.Chmod(d+"/f", 0o640), os.Symlink("f", d+"/link"), os.Mkdir(d+"/dir", 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"link": 0o644, "f": 0o640, "new": 0o644} { // the link is replaced, and not followed
		apply(t, sinktest.Build(t, httpclient.Spec, filepath.Join(d, name), params{"url": s.URL}), true)
		holds(t, filepath.Join(d, name), "content")
		if info, err := os.Lstat(filepath.Join(d, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s has the mode %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
	r := sinktest.Build(t, httpclient.Spec, d+"/dir", params{"url": s.URL})
	if out, err := r.CheckApply(t.Context(), true); err == nil || out.Changed || !strings.HasSuffix(err.Error(), "/dir is not a regular file") {
		t.Errorf("a directory: %v, %v", out, err)
	}
	part := httpclient.PartPath(d + "/other")
	if err := os.Link(d+"/f", part); err != nil {
		t.Fatal(err)
	}
	r = sinktest.Build(t, httpclient.Spec, d+"/other", params{"url": s.URL})
	if out, err := r.CheckApply(t.Context(), true); err == nil || out.Changed || !strings.Contains(err.Error(), "is no file of ours") {
		t.Errorf("a part with another name: %v, %v", out, err)
	}
	holds(t, d+"/f", "content")
	os.Remove(part)
	lock, err := os.Create(part)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if out, err := r.CheckApply(t.Context(), true); err == nil || out.Changed || err.Error() != "another process is downloading "+d+"/other" {
		t.Errorf("a part that is locked: %v, %v", out, err)
	}
}

// TestSends follows what is sent while the file and the server change.
func TestSends(t *testing.T) {
	d := t.TempDir()
	f := d + "/f"
	s := serve(t, "one")
	build := func(outputs ...string) sinks.Resource {
		r, err := (&httpclient.Config{URL: s.URL, Method: http.MethodGet}).Build(f, sinks.Options{Sends: outputs})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	expect := func(r sinks.Resource, apply, changed bool, want map[string]any) {
		t.Helper()
		out, err := r.CheckApply(t.Context(), apply)
		if err != nil || out.Changed != changed || fmt.Sprint(out.Values) != fmt.Sprint(want) {
			t.Errorf("got %v, %v, %v; want %v, %v", out.Changed, out.Values, err, changed, want)
		}
	}
	r := build("body", "checksum")
	expect(r, false, true, nil)
	expect(r, true, true, map[string]any{"body": "one", "checksum": sum("one")})
	expect(r, false, false, map[string]any{"body": "one", "checksum": sum("one")})
	expect(build("checksum"), true, false, map[string]any{"checksum": sum("one")})
	expect(build("body"), true, false, map[string]any{"body": "one"})
	expect(build(), true, false, nil)
	if err := os.WriteFile(f, []byte("somebody's"), 0o644); err != nil {
		t.Fatal(err)
	}
	expect(r, false, true, nil)
	expect(r, true, true, map[string]any{"body": "one", "checksum": sum("one")})
	s.set(func() { s.content, s.etag = []byte("two"), `"v2"` })
	expect(r, true, true, map[string]any{"body": "two", "checksum": sum("two")})

	// What was sent is the engine's.
	out, err := r.CheckApply(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	out.Values["body"] = "damaged"
	expect(r, true, false, map[string]any{"body": "two", "checksum": sum("two")})

	httpclient.SetMaxSent(t, 1<<20)
	large := text(1<<20 + 1)
	s.set(func() { s.content, s.etag = []byte(large), `"v3"` })
	if out, err := build("body").CheckApply(t.Context(), true); err == nil || !out.Changed || out.Values != nil || err.Error() != f+" is larger than 1 MiB, which is the most that is sent: send its checksum" {
		t.Errorf("a large body: %v, %v, %v", out.Changed, out.Values, err)
	}
	expect(build("checksum"), true, false, map[string]any{"checksum": sum(large)})
	for _, o := range (&httpclient.Config{}).Outputs() {
		if o.Type != sinks.TypeString || o.Secret {
			t.Errorf("%+v", o)
		}
	}
}

func TestOwns(t *testing.T) {
	r := sinktest.Build(t, httpclient.Spec, "/a//b", params{"url": "http://localhost"})
	if got := r.(sinks.Owner).Owns(); fmt.Sprint(got) != "[path /a/b]" {
		t.Errorf("owns %q", got)
	}
	if got := r.(sinks.Keeper).Keeps(); fmt.Sprint(got) != "[path "+httpclient.PartPath("/a/b")+"]" {
		t.Errorf("keeps %q", got)
	}
	if !r.(sinks.Waiter).Waits() {
		t.Error("it does not wait")
	}
}
