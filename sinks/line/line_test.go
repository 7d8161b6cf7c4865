package line_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/line"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type params = map[string]any

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	d := t.TempDir()
	f := filepath.Join(d, "hosts")
	set := func(text string) func() error {
		return func() error { return os.WriteFile(f, []byte(text), 0o644) }
	}
	state := sinktest.Files(d)
	sinktest.Run(t, line.Spec,
		sinktest.Case{Name: "a line that is removed", Resource: "a", State: state, Disturb: set("one\nthree\n"),
			Params: params{"file": f, "content": "two"}},
		sinktest.Case{Name: "a line that is changed", Resource: "a", State: state, Disturb: set("one\ntwo and a half\n"),
			Params: params{"file": f, "content": "two", "state": "exists"}},
		sinktest.Case{Name: "a file that is removed", Resource: "a", State: state, Disturb: func() error { return os.Remove(f) },
			Params: params{"file": f, "content": "two\n"}},
		sinktest.Case{Name: "a line that shall not be", Resource: "a", State: state, Disturb: set("one\ntwo\nthree\ntwo\n"),
			Params: params{"file": f, "content": "two", "state": "absent"}},
		sinktest.Case{Name: "a line with space around it", Resource: "a", State: state, Disturb: set("one\n\t two \n"),
			Params: params{"file": f, "content": " two", "state": "absent", "trim": true}},
		sinktest.Case{Name: "a missing directory", Resource: "a", State: state, Disturb: func() error { return os.RemoveAll(d + "/a") },
			Params: params{"file": d + "/a/b/hosts", "content": "two"}},
	)
}

func TestInvalid(t *testing.T) {
	tests := []struct {
		params params
		want   string
	}{
		{params{"content": "x"}, "file: it is missing"},
		{params{"file": "hosts", "content": "x"}, `file: path "hosts" is not absolute`},
		{params{"file": "/a/../hosts", "content": "x"}, "write it out"},
		{params{"file": "/hosts/", "content": "x"}, "file: /hosts/ is a directory"},
		{params{"file": "/hosts"}, "content: it is missing"},
		{params{"file": "/hosts", "content": "\n"}, "content: it is missing"},
		{params{"file": "/hosts", "content": " \t", "trim": true}, "content: it is missing"},
		{params{"file": "/hosts", "content": "a\nb"}, "more than one line"},
		{params{"file": "/hosts", "content": "x", "state": "present"}, "present"},
	}
	for _, tt := range tests {
		sinktest.Invalid(t, line.Spec, "x", tt.params, tt.want)
	}
}

func TestEdits(t *testing.T) {
	tests := []struct {
		name         string
		params       params
		before, want string
	}{
		{"a missing line goes to the end", params{"content": "x"}, "a\nb\n", "a\nb\nx\n"},
		{"an unfinished last line is finished", params{"content": "x"}, "a\nb", "a\nb\nx\n"},
		{"an unfinished last line may be the one", params{"content": "x"}, "a\nx", "a\nx"},
		{"an empty file", params{"content": "x"}, "", "x\n"},
		{"a part of a line is not the line", params{"content": "x"}, "xx\n x\nx \n", "xx\n x\nx \nx\n"},
		{"with trim space around it does not matter", params{"content": " x", "trim": true}, "xx\n\tx \n", "xx\n\tx \n"},
		{"with trim the line is added without", params{"content": " x ", "trim": true}, "", "x\n"},
		{"lines may end as on other systems", params{"content": "x"}, "a\r\nx\r\n", "a\r\nx\r\n"},
		{"and are added with such an end", params{"content": "x"}, "a\r\nb", "a\r\nb\r\nx\r\n"},
		{"absent removes all that are equal", params{"content": "x", "state": "absent"}, "x\na\nx\nxx\nx", "a\nxx\n"},
		{"absent with trim, too", params{"content": "x", "state": "absent", "trim": true}, " x\na\nx \nx x\n", "a\nx x\n"},
		{"absent leaves the rest to the byte", params{"content": "x", "state": "absent"}, "a\r\nx\r\n\n\x00b", "a\r\n\n\x00b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := filepath.Join(t.TempDir(), "f")
			write(t, f, tt.before)
			tt.params["file"] = f
			r := sinktest.Build(t, line.Spec, "x", tt.params)
			out, err := r.CheckApply(t.Context(), true)
			if err != nil || out.Changed != (tt.before != tt.want) {
				t.Errorf("got %+v, %v", out, err)
			}
			if got, err := os.ReadFile(f); err != nil || string(got) != tt.want {
				t.Errorf("it holds %q, %v; want %q", got, err, tt.want)
			}
			if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
				t.Errorf("a second time: %+v, %v", out, err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/file", "")
	big, err := os.Create(d + "/big")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink("file", d+"/link"), unix.Mkfifo(d+"/pipe", 0o600), big.Truncate(64<<20+1), big.Close()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"link":      "link is a symbolic link: name the file that it leads to",
		"pipe":      "pipe is not a regular file",
		"":          " is not a regular file",
		"big":       "big has 67108865 bytes",
		"file/more": "file/more: not a directory",
	} {
		r := sinktest.Build(t, line.Spec, "x", params{"file": filepath.Join(d, name), "content": "x"})
		if out, err := r.CheckApply(t.Context(), true); err == nil || out.Changed || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v, want %q", name, out, err, want)
		}
	}
	r := sinktest.Build(t, line.Spec, "x", params{"file": d + "/file/more", "content": "x", "state": "absent"})
	if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
		t.Errorf("absent below a file: got %+v, %v", out, err)
	}
}

func TestChange(t *testing.T) {
	f := filepath.Join(t.TempDir(), "f")
	for _, tt := range []struct {
		name   string
		before string
		mode   os.FileMode
		state  string
		want   string
	}{
		{"a new line", "", 0o644, "exists", `content: "" -> a=b`},
		{"a line that goes", "a=b\n", 0o644, "absent", `content: a=b -> ""`},
		{"a line that not everybody may see", "", 0o600, "exists", `content: "" -> (3 bytes)`},
	} {
		write(t, f, tt.before)
		if err := os.Chmod(f, tt.mode); err != nil {
			t.Fatal(err)
		}
		r := sinktest.Build(t, line.Spec, "x", params{"file": f, "content": "a=b", "state": tt.state})
		out, err := r.CheckApply(t.Context(), true)
		if err != nil || len(out.Changes) != 1 || out.Changes[0].String() != tt.want {
			t.Errorf("%s: got %v, %v; want %s", tt.name, out.Changes, err, tt.want)
		}
		if info, err := os.Stat(f); err != nil || info.Mode() != tt.mode {
			t.Errorf("%s: the mode is %v, %v", tt.name, info.Mode(), err)
		}
	}
}

// TestSideBySide has many lines of one file managed at once, some of them absent, while
// somebody else appends to it by renaming.
func TestSideBySide(t *testing.T) {
	f := filepath.Join(t.TempDir(), "f")
	const n = 50
	var before []string
	var rs []sinks.Resource
	for i := range n {
		before = append(before, fmt.Sprint("absent ", i))
		rs = append(rs,
			sinktest.Build(t, line.Spec, "x", params{"file": f, "content": fmt.Sprint("absent ", i), "state": "absent"}),
			sinktest.Build(t, line.Spec, "x", params{"file": f, "content": fmt.Sprint("present ", i)}))
	}
	write(t, f, strings.Join(before, "\n")+"\nkept\n")
	var running sync.WaitGroup
	for _, r := range rs {
		running.Go(func() {
			if _, err := r.CheckApply(t.Context(), true); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, r := range rs {
		if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
			t.Errorf("something is left to do: %v, %v", out, err)
		}
	}
	got, err := os.ReadFile(f)
	if err != nil || strings.Count(string(got), "\n") != n+1 || !strings.HasPrefix(string(got), "kept\n") {
		t.Errorf("it holds %q, %v", got, err)
	}
}

// TestOthersEdits has somebody else replace the file while we write ours.
func TestOthersEdits(t *testing.T) {
	d := t.TempDir()
	f := filepath.Join(d, "f")
	bulk := strings.Repeat("bulk\n", 6<<20)
	write(t, f, "first\n"+bulk)
	write(t, f+".new", "second\n"+bulk)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var other sync.WaitGroup
	other.Go(func() {
		for ctx.Err() == nil {
			if writing, _ := filepath.Glob(d + "/.mgmt-*"); len(writing) > 0 {
				break
			}
		}
		if err := os.Rename(f+".new", f); err != nil {
			t.Error(err)
		}
	})
	r := sinktest.Build(t, line.Spec, "x", params{"file": f, "content": "ours"})
	for range 2 { // the second time in case that the other came last
		if _, err := r.CheckApply(ctx, true); err != nil {
			t.Error(err)
		}
		other.Wait()
	}
	got, err := os.ReadFile(f)
	if err != nil || !strings.HasPrefix(string(got), "second\n") || !strings.HasSuffix(string(got), "\nours\n") {
		t.Errorf("it begins with %.20q and ends in %q, %v", got, got[max(0, len(got)-20):], err)
	}
}

func TestOwns(t *testing.T) {
	r := sinktest.Build(t, line.Spec, "x", params{"file": "/etc//hosts", "content": " a\tb ", "trim": true})
	if got := r.(sinks.Owner).Owns(); len(got) != 1 || got[0] != `line "a\tb" in /etc/hosts` {
		t.Errorf("owns %q", got)
	}
	if got := r.(sinks.Keeper).Keeps(); len(got) != 1 || got[0] != "path /etc/hosts" {
		t.Errorf("keeps %q", got)
	}
}
