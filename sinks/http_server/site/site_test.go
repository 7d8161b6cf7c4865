package site_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/http_server/site"
)

// FuzzRoot asks for any path, and sees that nothing comes from outside the root, and
// nothing hidden.
func FuzzRoot(f *testing.F) {
	dir := f.TempDir()
	root := filepath.Join(dir, "root")
	const secret, public = "S3CR3T", "public"
	for path, text := range map[string]string{"secret": secret, "root/.hidden": secret, "root/.d/f": secret, "root/f": public, "root/sub/index.html": public} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	for link, target := range map[string]string{"up": "..", "out": "../secret", "abs": dir + "/secret", "in": "f", "slash": "/", "d": ".d"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			f.Fatal(err)
		}
	}
	s := site.Of(new(sinks.Shared), "web")
	f.Cleanup(s.Open(root))
	for _, path := range []string{"/", "/f", "/sub", "/sub/", "/in", "/out", "/up/secret", "/abs", "/slash" + dir + "/secret", "/../secret", "//f", "/.hidden", "", "f", "/f\x00", "\\..\\secret", "/sub/./index.html"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}})
		body := w.Body.String()
		switch inside := path == "/d/f"; { // a link within may lead to what is hidden: whoever made it wants that
		case strings.Contains(body, secret) && !inside:
			t.Errorf("%q shows a secret", path)
		case w.Code == http.StatusOK && body != public && !inside:
			t.Errorf("%q shows %q", path, body)
		case w.Code != http.StatusOK && w.Code != http.StatusNotFound && w.Code != http.StatusMovedPermanently:
			t.Errorf("%q gives %d", path, w.Code)
		}
		if to := w.Header().Get("Location"); to != "" && !strings.HasPrefix(to, "./") {
			t.Errorf("%q leads to %q", path, to)
		}
	})
}

// TestManyAtOnce has files come and go while they are asked for.
func TestManyAtOnce(t *testing.T) {
	s := site.Of(new(sinks.Shared), "web")
	defer s.Open("")()
	var running sync.WaitGroup
	for i := range 4 {
		path := fmt.Sprintf("/%d", i)
		running.Go(func() {
			for n := range 200 {
				f := site.Text(fmt.Sprint(n))
				s.Put(path, f)
				if !s.Has(path, f) {
					t.Errorf("%s is not there", path)
				}
				s.Remove(path, f)
			}
		})
		running.Go(func() {
			for range 200 {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				if w.Code != http.StatusOK && w.Code != http.StatusNotFound {
					t.Errorf("%s gives %d", path, w.Code)
				}
			}
		})
	}
	running.Wait()
}

// TestDistinct sees that servers, and runs, have files of their own.
func TestDistinct(t *testing.T) {
	var one, two sinks.Shared
	f := site.Text("x")
	site.Of(&one, "a").Put("/", f)
	if !site.Of(&one, "a").Has("/", f) || site.Of(&one, "b").Has("/", f) || site.Of(&two, "a").Has("/", f) || site.Of(&one, "b").Has("/", nil) {
		t.Error("they share their files")
	}
}
