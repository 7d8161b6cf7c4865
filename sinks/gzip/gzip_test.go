package gzip_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	kind "github.com/mgmtproject/mgmt/sinks/gzip"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type params = map[string]any

// unpack is what the compressed file holds.
func unpack(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "" || !r.ModTime.IsZero() {
		t.Errorf("it tells more than its content: %+v", r.Header)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestConformance(t *testing.T) {
	d := t.TempDir()
	in, out := d+"/in", d+"/sub/out.gz"
	if err := os.WriteFile(in, []byte("text\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	state := sinktest.Files(d)
	n := 0
	set := func(path string) func() error {
		return func() error { n++; return os.WriteFile(path, fmt.Append(nil, n), 0o644) }
	}
	sinktest.Run(t, kind.Spec,
		sinktest.Case{Name: "an input that is changed", Resource: out, State: state, Params: params{"input": in}, Disturb: set(in)},
		sinktest.Case{Name: "a compressed file that is damaged", Resource: out, State: state, Params: params{"input": in, "level": 9}, Disturb: set(out)},
		sinktest.Case{Name: "a compressed file that is removed", Resource: "x", State: state, Params: params{"path": out, "content": "text"},
			Disturb: func() error { return os.RemoveAll(filepath.Dir(out)) }},
		sinktest.Case{Name: "a compressed text that is damaged", Resource: "x", State: state, Params: params{"path": out, "content": ""}, Disturb: set(out)},
	)
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params params
		want   string
	}{
		{"a.gz", params{"content": "x"}, `path "a.gz" is not absolute: give path, or an absolute path as name`},
		{"x", params{"path": "a.gz", "content": "x"}, `path: path "a.gz" is not absolute`},
		{"/a/", params{"content": "x"}, "/a/ is a directory"},
		{"/a.gz", params{}, "input: it is missing"},
		{"/a.gz", params{"input": "/a", "content": ""}, "content: it can't be given together with input"},
		{"/a.gz", params{"input": "a"}, `input: path "a" is not absolute`},
		{"/a.gz", params{"input": "/a/"}, "input: /a/ is a directory"},
		{"/a.gz", params{"input": "//a.gz"}, "input: it is the path itself"},
		{"/a.gz", params{"content": "", "level": 10}, "level: 10 is not from -2 to 9"},
		{"/a.gz", params{"content": "", "level": -3}, "level: -3 is not from -2 to 9"},
	} {
		sinktest.Invalid(t, kind.Spec, tt.name, tt.params, tt.want)
	}
}

func TestContent(t *testing.T) {
	d := t.TempDir()
	big := strings.Repeat("a fairly long line, again and again\n", 1<<12)
	for path, text := range map[string]string{"/empty": "", "/big": big} {
		if err := os.WriteFile(d+path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("big", d+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		params params
		want   string
	}{
		{"a text", params{"content": "some text"}, "some text"},
		{"an empty text", params{"content": ""}, ""},
		{"an empty file", params{"input": d + "/empty"}, ""},
		{"a file", params{"input": d + "/big"}, big},
		{"a file behind a link", params{"input": d + "/link"}, big},
		{"a large text", params{"content": big}, big},
	} {
		sizes := map[int]int64{}
		for level := -2; level <= 9; level++ {
			out := filepath.Join(d, "out.gz")
			tt.params["level"] = level
			r := sinktest.Build(t, kind.Spec, out, tt.params)
			if _, err := r.CheckApply(t.Context(), true); err != nil {
				t.Fatalf("%s, level %d: %v", tt.name, level, err)
			}
			if got := unpack(t, out); got != tt.want {
				t.Errorf("%s, level %d: it holds %.50q, want %.50q", tt.name, level, got, tt.want)
			}
			if o, err := r.CheckApply(t.Context(), true); err != nil || o.Changed {
				t.Errorf("%s, level %d, a second time: %v, %v", tt.name, level, o, err)
			}
			info, err := os.Stat(out)
			if err != nil {
				t.Fatal(err)
			}
			sizes[level] = info.Size()
		}
		if tt.want == big && (sizes[9] >= sizes[1] || sizes[1] >= sizes[0]) {
			t.Errorf("%s: the level makes no difference: %v", tt.name, sizes)
		}
	}
}

func TestPrivate(t *testing.T) {
	defer unix.Umask(unix.Umask(0o022))
	d := t.TempDir()
	for mode, want := range map[os.FileMode]os.FileMode{0o644: 0o644, 0o640: 0o600, 0o400: 0o600} {
		in, out := fmt.Sprintf("%s/%o", d, mode), fmt.Sprintf("%s/%o.gz", d, mode)
		if err := os.WriteFile(in, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
		r := sinktest.Build(t, kind.Spec, out, params{"input": in})
		if _, err := r.CheckApply(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(out); err != nil || info.Mode() != want {
			t.Errorf("made of a file with mode %o: %v, %v; want %v", mode, info, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	d := t.TempDir()
	if err := errors.Join(os.WriteFile(d+"/a.gz", []byte("old"), 0o644), os.Link(d+"/a.gz", d+"/b"), os.Symlink("a.gz", d+"/c")); err != nil {
		t.Fatal(err)
	}
	for input, want := range map[string]string{
		d + "/missing": "/missing: no such file",
		d:              d + " is not a regular file",
		d + "/b":       "/b and " + d + "/a.gz are the same file",
		d + "/c":       "/c and " + d + "/a.gz are the same file",
	} {
		r := sinktest.Build(t, kind.Spec, d+"/a.gz", params{"input": input})
		if o, err := r.CheckApply(t.Context(), true); err == nil || o.Changed || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", input, o, err, want)
		}
	}
	if text, err := os.ReadFile(d + "/a.gz"); err != nil || string(text) != "old" {
		t.Errorf("it holds %q, %v", text, err)
	}
}

func TestOwns(t *testing.T) {
	r := sinktest.Build(t, kind.Spec, "/a//b.gz", params{"input": "/c//d"})
	if got := r.(sinks.Owner).Owns(); fmt.Sprint(got) != "[path /a/b.gz]" {
		t.Errorf("owns %q", got)
	}
	if got := r.(sinks.Keeper).Keeps(); fmt.Sprint(got) != "[path /c/d]" {
		t.Errorf("keeps %q", got)
	}
	r = sinktest.Build(t, kind.Spec, "/a.gz", params{"content": ""})
	if got := r.(sinks.Keeper).Keeps(); len(got) > 0 {
		t.Errorf("keeps %q", got)
	}
}
