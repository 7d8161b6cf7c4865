package file_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestUndone(t *testing.T) {
	type ps = map[string]any
	tests := []struct {
		name    string
		params  ps
		slash   bool
		disturb func(f string) error
	}{
		{"a file that was not there", ps{"content": "new", "mode": "0600"}, false, os.Remove},
		{"an empty file that was not there", ps{"state": "exists"}, false, os.Remove},
		{"a directory that was not there", ps{"state": "exists"}, true, os.Remove},
		{"a link that was not there", ps{"symlink": "/nowhere"}, false, os.Remove},
		{"a text, which is put back", ps{"content": "new\n"}, false, func(f string) error {
			return errors.Join(os.WriteFile(f, []byte("old\ntext"), 0o644), os.Chmod(f, 0o644))
		}},
		{"a text and a mode, which are put back", ps{"content": "new\n", "mode": "0644"}, false, func(f string) error {
			return errors.Join(os.WriteFile(f, []byte("(old)"), 0o644), os.Chmod(f, 0o666))
		}},
		{"a file that was empty", ps{"content": "new\n"}, false, func(f string) error { return os.Truncate(f, 0) }},
		{"a template, before which there was a text", ps{"template": "{{ .a }}", "data": ps{"a": "b"}}, false, func(f string) error { return os.WriteFile(f, []byte("old"), 0o644) }},
		{"a mode", ps{"mode": "0600"}, false, func(f string) error { return os.Chmod(f, 0o640) }},
		{"the mode of a directory", ps{"state": "exists", "mode": "0700"}, true, func(f string) error { return os.Chmod(f, 0o750) }},
		{"a link that led elsewhere", ps{"symlink": "/nowhere"}, false, func(f string) error { return errors.Join(os.Remove(f), os.Symlink("elsewhere", f)) }},
	}
	for _, tt := range tests {
		f := filepath.Join(t.TempDir(), "f")
		if tt.params["mode"] == "0600" && len(tt.params) == 1 {
			if err := write(f, "text")(); err != nil {
				t.Fatal(err)
			}
		}
		name := f
		if tt.slash {
			name += "/"
		}
		sinktest.Run(t, file.Spec, sinktest.Case{
			Name: tt.name, Resource: name, Params: tt.params, State: sinktest.Files(filepath.Dir(f)),
			Disturb: func() error { return tt.disturb(f) }, Undone: sinktest.Contents(f),
		})
	}
}

// TestNotUndone lists what can't be undone, before it is done and afterwards.
func TestNotUndone(t *testing.T) {
	text := "new"
	tests := []struct {
		name   string
		config *file.Config
		was    map[string]string
		want   string
	}{
		{"what is removed", &file.Config{State: "absent"}, nil, "what is removed is not kept"},
		{"what is purged", &file.Config{Path: "/a/", Purge: true}, nil, "what purge removes"},
		{"a tree", &file.Config{Path: "/a/", Recurse: true}, nil, "leave out recurse"},
		{"another kind of file", &file.Config{Symlink: "/a"}, map[string]string{"state": "file", "symlink": ""}, "there was a file before"},
		{"a text that is not shown", &file.Config{Content: &text, Mode: "0600"}, map[string]string{"content": "(12 bytes)", "mode": "0644"}, "the content from before is not kept"},
		{"what is no text", &file.Config{Content: &text}, map[string]string{"content": "(binary, 12 bytes)"}, "the content from before is not kept"},
		{"a size that is not known", &file.Config{Content: &text}, map[string]string{"content": "(of unknown size)"}, "the content from before is not kept"},
		{"a text that is cut", &file.Config{Content: &text}, map[string]string{"content": sinks.Text([]byte(strings.Repeat("x", sinks.MaxText+1)))}, "the content from before is not kept"},
		{"a text that is withheld", &file.Config{Content: &text, Mode: "0600"}, map[string]string{"content": sinks.Withheld, "mode": "0644"}, "the content from before is not kept"},
		{"a link that is withheld", &file.Config{Symlink: "/a"}, map[string]string{"symlink": sinks.Withheld}, "the symlink from before is not kept"},
	}
	for _, tt := range tests {
		if cfg, err := tt.config.Reverse(tt.was); err == nil || cfg != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, %v; want %q", tt.name, cfg, err, tt.want)
		}
	}
}

// TestUndoneIsSafe has somebody else put something into a directory that was made.
func TestUndoneIsSafe(t *testing.T) {
	d := t.TempDir() + "/d"
	cfg := &file.Config{State: "exists", Force: true}
	apply := func(cfg sinks.Config) (sinks.Outcome, error) {
		r, err := cfg.Build(d+"/", sinks.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r.CheckApply(t.Context(), true)
	}
	if _, err := apply(cfg); err != nil {
		t.Fatal(err)
	}
	if err := write(d+"/theirs", "text")(); err != nil {
		t.Fatal(err)
	}
	undo, err := cfg.Reverse(map[string]string{"state": "absent"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := apply(undo); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("undone with %v", err)
	}
	if got, err := os.ReadFile(d + "/theirs"); err != nil || string(got) != "text" {
		t.Errorf("what they have put there is %q, %v", got, err)
	}
}
