package file_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
)

// The checksums of "hello\n" and of an empty file, by sha256sum.
const (
	helloSum = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	emptySum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func sender(t *testing.T, c *file.Config, path string, sends ...string) sinks.Resource {
	t.Helper()
	r, err := c.Build(path, sinks.Options{Sends: sends})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSends(t *testing.T) {
	all := []string{"checksum", "content"}
	for _, test := range []struct {
		name  string
		cfg   file.Config
		found string // what is there before; "-" for nothing
		sends []string
		want  map[string]any
	}{
		{"nothing if nobody receives it", file.Config{Content: new("hello\n")}, "-", nil, nil},
		{"a new content", file.Config{Content: new("hello\n")}, "-", all, map[string]any{"content": "hello\n", "checksum": helloSum}},
		{"a content that replaces another", file.Config{Content: new("hello\n")}, "other", all, map[string]any{"content": "hello\n", "checksum": helloSum}},
		{"only the content", file.Config{Content: new("hello\n")}, "-", []string{"content"}, map[string]any{"content": "hello\n"}},
		{"only the checksum", file.Config{Content: new("hello\n")}, "-", []string{"checksum"}, map[string]any{"checksum": helloSum}},
		{"what somebody else has written", file.Config{}, "hello\n", all, map[string]any{"content": "hello\n", "checksum": helloSum}},
		{"bytes that are no text", file.Config{}, "\xff\x00", []string{"content"}, map[string]any{"content": "\xff\x00"}},
		{"an empty file", file.Config{State: "exists"}, "-", all, map[string]any{"content": "", "checksum": emptySum}},
		{"nothing of a file that is not there", file.Config{}, "-", all, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			if test.found != "-" {
				put(t, path, test.found)
			}
			r := sender(t, &test.cfg, path, test.sends...)
			for _, when := range []string{"the first time", "the second time"} {
				out, err := r.CheckApply(t.Context(), true)
				if diff := cmp.Diff(test.want, out.Values); err != nil || diff != "" {
					t.Errorf("%s: %v, -want +got:\n%s", when, err, diff)
				}
			}
		})
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A check says nothing about a content that is still to be written.
func TestCheckSendsWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	r := sender(t, &file.Config{Content: new("hello\n")}, path, "content")
	out, err := r.CheckApply(t.Context(), false)
	if err != nil || !out.Changed || out.Values != nil {
		t.Errorf("before: %+v, %v", out, err)
	}
	put(t, path, "hello\n")
	out, err = r.CheckApply(t.Context(), false)
	if err != nil || out.Changed || out.Values["content"] != "hello\n" {
		t.Errorf("afterwards: %+v, %v", out, err)
	}
}

// A change is seen, whether the file was settled before or has just been written.
func TestSendsChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	r := sender(t, &file.Config{}, path, "content")
	for i, text := range []string{"one", "two", "six", "three"} {
		put(t, path, text)
		old := time.Now().Add(time.Duration(-i) * time.Hour)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			out, err := r.CheckApply(t.Context(), true)
			if err != nil || out.Values["content"] != text {
				t.Fatalf("sends %v, %v, want %s", out.Values, err, text)
			}
			out.Values["content"] = "the engine owns them"
		}
	}
}

func TestSendsNothingElse(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name, path string
		cfg        file.Config
		want       string
	}{
		{"a directory", dir + "/", file.Config{}, dir + " is no regular file, and has no content to send"},
		{"a tree", dir + "/", file.Config{Purge: true}, dir + " is no regular file, and has no content to send"},
		{"a symbolic link", dir + "/l", file.Config{Symlink: "x"}, dir + "/l is no regular file, and has no content to send"},
		{"what shall not be there", dir + "/f", file.Config{State: "absent"}, dir + "/f is absent, and has no content to send"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.cfg.Build(test.path, sinks.Options{Sends: []string{"content"}})
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if _, err := test.cfg.Build(test.path, sinks.Options{}); err != nil {
				t.Errorf("if nobody receives it: %v", err)
			}
		})
	}
	t.Run("a pipe", func(t *testing.T) {
		if err := unix.Mkfifo(dir+"/pipe", 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := sender(t, &file.Config{}, dir+"/pipe", "checksum").CheckApply(t.Context(), true)
		if want := dir + "/pipe is a named pipe, and has no checksum to send"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	})
}

func TestSendsNoMoreThanFits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	put(t, path, "")
	if err := os.Truncate(path, 16<<20+1); err != nil {
		t.Fatal(err)
	}
	_, err := sender(t, &file.Config{}, path, "content").CheckApply(t.Context(), true)
	if err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Errorf("error %v", err)
	}
	out, err := sender(t, &file.Config{}, path, "checksum").CheckApply(t.Context(), true)
	if err != nil || out.Values["checksum"] == nil {
		t.Errorf("the checksum: %v, %v", out.Values, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the test has cancelled it")
	cancel(cause)
	if _, err := sender(t, &file.Config{}, path, "checksum").CheckApply(ctx, true); !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
	if err := os.Truncate(path, 16<<20); err != nil {
		t.Fatal(err)
	}
	out, err = sender(t, &file.Config{}, path, "content").CheckApply(t.Context(), true)
	if text, _ := out.Values["content"].(string); err != nil || len(text) != 16<<20 {
		t.Errorf("sends %d bytes, %v", len(text), err)
	}
}

func TestContentOfAPrivateFileIsSecret(t *testing.T) {
	for mode, want := range map[string]bool{
		"": false, "0644": false, "0600": true, "0640": true, "0004": false, "u=rw,go=": true, "o-r": true, "a+r": false, "nonsense": false,
	} {
		outputs := (&file.Config{Mode: mode}).Outputs()
		if outputs[0].Name != "content" || outputs[0].Secret != want {
			t.Errorf("mode %q: %+v, want secret %v", mode, outputs[0], want)
		}
	}
}
