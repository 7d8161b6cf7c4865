package httpserverfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/http_server/site"
	httpserverfile "github.com/mgmtproject/mgmt/sinks/http_server_file"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type params = map[string]any

func TestConformance(t *testing.T) {
	f := t.TempDir() + "/f"
	if err := os.WriteFile(f, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	sinktest.Run(t, httpserverfile.Spec,
		sinktest.Case{Name: "a text", Resource: "/a", Params: params{"server": "conformance", "data": "text"}},
		sinktest.Case{Name: "nothing at all", Resource: "/", Params: params{"server": "conformance", "data": ""}},
		sinktest.Case{Name: "a file of the host", Resource: "a", Params: params{"server": "conformance", "filename": "/a/b", "path": f}},
	)
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params params
		want   string
	}{
		{"a", params{"server": "web", "data": ""}, `"a" does not begin with a slash: give filename, or a path as name`},
		{"/a/", params{"server": "web", "data": ""}, `"/a/" is a directory`},
		{"/a", params{"server": "web", "data": "", "filename": "b"}, `filename: "b" does not begin with a slash`},
		{"/a", params{"server": "web", "data": "", "filename": "/b//c"}, `filename: "/b//c" is nothing that browsers ask for: write /b/c`},
		{"/a", params{"server": "web", "data": "", "filename": "/../c"}, `write /c`},
		{"/a", params{"data": ""}, "server: it is missing"},
		{"/a", params{"server": "web"}, "data: it is missing, and so is path"},
		{"/a", params{"server": "web", "data": "", "path": "/a"}, "data: it can't be given together with path"},
		{"/a", params{"server": "web", "path": "a"}, `path: path "a" is not absolute`},
		{"/a", params{"server": "web", "path": "/a/"}, "path: /a/ is a directory"},
	} {
		sinktest.Invalid(t, httpserverfile.Spec, tt.name, tt.params, tt.want)
	}
}

// build returns the resource that serves data at /f.
func build(t *testing.T, run *sinks.Shared, log *slog.Logger, c httpserverfile.Config) sinks.Resource {
	t.Helper()
	c.Server = "web"
	r, err := c.Build("/f", sinks.Options{Shared: run, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func apply(t *testing.T, r sinks.Resource, changed bool) {
	t.Helper()
	if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed != changed {
		t.Fatalf("got %v, %v; want Changed %v", out, err, changed)
	}
}

// get asks the server without one.
func get(run *sinks.Shared, path string) string {
	w := httptest.NewRecorder()
	site.Of(run, "web").ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return fmt.Sprintf("%d %s", w.Code, strings.TrimSpace(w.Body.String()))
}

func expect(t *testing.T, run *sinks.Shared, path, want string) {
	t.Helper()
	if got := get(run, path); got != want {
		t.Errorf("%s: got %q, want %q", path, got, want)
	}
}

// TestComesAndGoes takes one resource in place of the other as the engine does.
func TestComesAndGoes(t *testing.T) {
	var run sinks.Shared
	end := site.Of(&run, "web").Open("")
	defer end()
	const nothing = "404 404 page not found"
	first := build(t, &run, nil, httpserverfile.Config{Data: new("one")})
	if out, err := first.CheckApply(t.Context(), false); err != nil || !out.Changed {
		t.Errorf("a check: %v, %v", out, err)
	}
	expect(t, &run, "/f", nothing)
	apply(t, first, true)
	apply(t, first, false)
	expect(t, &run, "/f", "200 one")
	expect(t, &run, "/f/", nothing)
	expect(t, &run, "/other", nothing)

	second := build(t, &run, nil, httpserverfile.Config{Data: new("two")})
	expect(t, &run, "/f", "200 one") // being built serves nothing
	if err := first.(sinks.Closer).Close(); err != nil {
		t.Error(err)
	}
	expect(t, &run, "/f", nothing)
	apply(t, second, true)
	expect(t, &run, "/f", "200 two")
	if err := first.(sinks.Closer).Close(); err != nil {
		t.Error(err)
	}
	expect(t, &run, "/f", "200 two")
	if err := second.(sinks.Closer).Close(); err != nil {
		t.Error(err)
	}
	expect(t, &run, "/f", nothing)
	apply(t, second, true)
	expect(t, &run, "/f", "200 two")
}

// TestWithoutServer sees that a file may come first, and that this is told once.
func TestWithoutServer(t *testing.T) {
	var run sinks.Shared
	var log bytes.Buffer
	r := build(t, &run, slog.New(slog.NewTextHandler(&log, nil)), httpserverfile.Config{Data: new("one")})
	apply(t, r, true)
	apply(t, r, false)
	if !strings.Contains(log.String(), `level=WARN msg="no server of that name listens" server=web`) || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("it says %q", log.String())
	}
	site.Of(&run, "web").Open("")
	expect(t, &run, "/f", "200 one")
}

func TestPath(t *testing.T) {
	var run sinks.Shared
	f := t.TempDir() + "/f"
	r := build(t, &run, nil, httpserverfile.Config{Path: f})
	fails := func(want error, text string) {
		t.Helper()
		if out, err := r.CheckApply(t.Context(), true); err == nil || out.Changed || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, %v", out, err)
		}
	}
	fails(os.ErrNotExist, f)
	if err := os.WriteFile(f, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	apply(t, r, true)
	expect(t, &run, "/f", "200 one")
	if err := os.WriteFile(f, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	expect(t, &run, "/f", "200 two")
	apply(t, r, false)
	if err := errors.Join(os.Rename(f, f+"2"), os.Symlink("f2", f)); err != nil {
		t.Fatal(err)
	}
	apply(t, r, false)
	expect(t, &run, "/f", "200 two")
	if err := errors.Join(os.Remove(f), os.Mkdir(f, 0o755)); err != nil {
		t.Fatal(err)
	}
	fails(nil, f+" is not a regular file")
	expect(t, &run, "/f", "404 404 page not found")
}

func TestAbilities(t *testing.T) {
	r := sinktest.Build(t, httpserverfile.Spec, "/f", params{"server": "web", "path": "/srv/f"})
	if got := r.(sinks.Owner).Owns(); fmt.Sprint(got) != "[file /f of http_server web]" {
		t.Errorf("owns %q", got)
	}
	if got := r.(sinks.Keeper).Keeps(); fmt.Sprint(got) != "[path /srv/f]" || r.Watches()[0].String() != "/srv/f" {
		t.Errorf("keeps %q, watches %v", got, r.Watches())
	}
	edges := fmt.Sprint(sinktest.Edges(t, &httpserverfile.Config{Server: "web", Path: "/srv/f"}, "/f"))
	if !strings.Contains(edges, "needs http_server web, its server") || !strings.Contains(edges, "needs file /srv/f, which it serves") {
		t.Errorf("got %s", edges)
	}
	r = sinktest.Build(t, httpserverfile.Spec, "/f", params{"server": "web", "data": ""})
	if got := r.(sinks.Keeper).Keeps(); len(got) > 0 || len(r.Watches()) > 0 {
		t.Errorf("keeps %q, watches %v", got, r.Watches())
	}
	if got := sinktest.Edges(t, &httpserverfile.Config{Server: "web", Data: new("")}, "/f"); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}
