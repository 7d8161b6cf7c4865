package tar_test

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
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
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	kind "github.com/mgmtproject/mgmt/sinks/tar"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type params = map[string]any

// write makes files, with the directories that lead to them: path and text in turn.
func write(t *testing.T, pathAndText ...string) {
	t.Helper()
	for i := 0; i < len(pathAndText); i += 2 {
		if err := errors.Join(os.MkdirAll(filepath.Dir(pathAndText[i]), 0o755), os.WriteFile(pathAndText[i], []byte(pathAndText[i+1]), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// list is what the archive holds, a line a member.
func list(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s tells more than its content: %+v", h.Name, h)
		}
		fmt.Fprintf(&b, "%c %04o %s %.20q %s\n", h.Typeflag, h.Mode, h.Name, text, h.Linkname)
	}
}

func TestConformance(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/in/a", "a\n", d+"/in/sub/b", "b\n", d+"/in/sub/c", "c\n", d+"/one", "1\n")
	out := d + "/out/a.tar"
	state := sinktest.Files(d)
	n := 0
	text := func() []byte { n++; return fmt.Append(nil, n) }
	sinktest.Run(t, kind.Spec,
		sinktest.Case{Name: "a file that is changed", Resource: out, State: state, Params: params{"inputs": []any{d + "/in", d + "/one"}},
			Disturb: func() error { return os.WriteFile(d+"/in/sub/b", text(), 0o644) }},
		sinktest.Case{Name: "a file that is new", Resource: out, State: state, Params: params{"inputs": d + "/in/", "format": "ustar"},
			Disturb: func() error { return os.WriteFile(d+"/in/sub/"+string(text()), nil, 0o644) }},
		sinktest.Case{Name: "a mode that is changed", Resource: "x", State: state, Params: params{"path": out, "inputs": []any{d + "/one"}},
			Disturb: func() error { n++; return os.Chmod(d+"/one", os.FileMode(0o600+n%2)) }},
		sinktest.Case{Name: "an archive that is damaged", Resource: "x", State: state, Params: params{"path": out, "inputs": d + "/in", "format": "gnu"},
			Disturb: func() error { return os.WriteFile(out, text(), 0o644) }},
		sinktest.Case{Name: "an archive that is removed", Resource: out, State: state, Params: params{"inputs": d + "/in"},
			Disturb: func() error { return os.RemoveAll(filepath.Dir(out)) }},
	)
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params params
		want   string
	}{
		{"a.tar", params{"inputs": "/a"}, `path "a.tar" is not absolute: give path, or an absolute path as name`},
		{"x", params{"path": "a.tar", "inputs": "/a"}, `path: path "a.tar" is not absolute`},
		{"/a/", params{"inputs": "/b"}, "/a/ is a directory"},
		{"/a.tar", params{}, "inputs: they are missing"},
		{"/a.tar", params{"inputs": []any{"/b", "c"}}, `inputs: path "c" is not absolute`},
		{"/a.tar", params{"inputs": "/a.tar"}, "inputs: /a.tar holds the archive /a.tar itself"},
		{"/a/b.tar", params{"inputs": "/a/"}, "inputs: /a holds the archive"},
		{"/a/b.tar", params{"inputs": "/"}, "inputs: the root directory"},
		{"/a.tar", params{"inputs": "/b", "format": "zip"}, "zip"},
	} {
		sinktest.Invalid(t, kind.Spec, tt.name, tt.params, tt.want)
	}
}

func TestMembers(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/in/z", "last", d+"/in/a/file", "deep", d+"/in/a-b", "between", d+"/in/.mgmt-0123456789abcdef", "temporary",
		d+"/more/a/other", "merged", d+"/more/y", "", d+"/long/"+strings.Repeat("n", 200), "long name")
	if err := errors.Join(os.Symlink("a/file", d+"/in/link"), unix.Chmod(d+"/in/z", 0o4755), os.Chtimes(d+"/in/z", time.Now(), time.Unix(12345, 6789))); err != nil {
		t.Fatal(err)
	}
	const in = "5 0755 in/ \"\" \n5 0755 in/a/ \"\" \n0 0644 in/a/file \"deep\" \n0 0644 in/a-b \"between\" \n2 0777 in/link \"\" a/file\n0 4755 in/z \"last\" \n"
	tests := []struct {
		name   string
		inputs []any
		format string
		want   string
	}{
		{"a directory, in the order of names", []any{d + "/in"}, "pax", in},
		{"what is in a directory", []any{d + "/in/"}, "ustar", strings.ReplaceAll(strings.SplitN(in, "\n", 2)[1], "in/", "")},
		{"files, in the order given", []any{d + "/in/z", d + "/in/a/file"}, "gnu", "0 4755 z \"last\" \n0 0644 file \"deep\" \n"},
		{"a link is not followed", []any{d + "/in/link"}, "pax", "2 0777 link \"\" a/file\n"},
		{"directories of the same name become one", []any{d + "/in/a", d + "/more/"}, "pax", "5 0755 a/ \"\" \n0 0644 a/file \"deep\" \n0 0644 a/other \"merged\" \n0 0644 y \"\" \n"},
		{"long names", []any{d + "/long/"}, "pax", "0 0644 " + strings.Repeat("n", 200) + " \"long name\" \n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "a.tar")
			r := sinktest.Build(t, kind.Spec, out, params{"inputs": tt.inputs, "format": tt.format})
			if o, err := r.CheckApply(t.Context(), true); err != nil || !o.Changed {
				t.Fatalf("%v, %v", o, err)
			}
			if got := list(t, out); got != tt.want {
				t.Errorf("it holds\n%swant\n%s", got, tt.want)
			}
			if o, err := r.CheckApply(t.Context(), true); err != nil || o.Changed {
				t.Errorf("a second time: %v, %v", o, err)
			}
			if text, err := exec.CommandContext(t.Context(), "tar", "-tf", out).CombinedOutput(); err != nil || strings.Count(string(text), "\n") != strings.Count(tt.want, "\n") {
				t.Errorf("the program tar says %s, %v", text, err)
			}
		})
	}
}

// TestSameEverywhere has copies of the inputs, made at another time, give the same archive.
func TestSameEverywhere(t *testing.T) {
	var archives []string
	for range 2 {
		d := t.TempDir()
		write(t, d+"/in/b", "b", d+"/in/a", "a")
		r := sinktest.Build(t, kind.Spec, d+"/a.tar", params{"inputs": d + "/in"})
		if _, err := r.CheckApply(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(d + "/a.tar")
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, string(text))
	}
	if archives[0] != archives[1] || archives[0] == "" {
		t.Error("the archives differ")
	}
}

func TestPrivate(t *testing.T) {
	defer unix.Umask(unix.Umask(0o022))
	for name, tt := range map[string]struct {
		closed string // what not everybody may read
		mode   os.FileMode
		want   os.FileMode
	}{
		"all may be read":     {"", 0, 0o644},
		"one file may not":    {"/in/secret", 0o640, 0o600},
		"one directory":       {"/in/sub", 0o754, 0o600},
		"the whole directory": {"/in", 0o700, 0o600},
	} {
		d := t.TempDir()
		write(t, d+"/in/secret", "s", d+"/in/sub/x", "x")
		if tt.closed != "" {
			if err := os.Chmod(d+tt.closed, tt.mode); err != nil {
				t.Fatal(err)
			}
		}
		r := sinktest.Build(t, kind.Spec, d+"/a.tar", params{"inputs": d + "/in/"})
		if _, err := r.CheckApply(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(d + "/a.tar"); err != nil || info.Mode() != tt.want {
			t.Errorf("%s: the mode is %v, %v; want %v", name, info.Mode(), err, tt.want)
		}
	}
}

func TestRefused(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/in/a", "a", d+"/other/a", "a", d+"/long/"+strings.Repeat("n", 200), "", d+"/a.tar", "old", d+"/linked/x", "")
	if err := errors.Join(unix.Mkfifo(d+"/in/pipe", 0o600), os.Link(d+"/a.tar", d+"/linked/b.tar"), os.Symlink("in", d+"/link")); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		inputs []any
		want   string
	}{
		"a pipe":                 {[]any{d + "/in"}, "/in/pipe is neither file, directory nor symbolic link"},
		"two of a name":          {[]any{d + "/in/a", d + "/other/a"}, "would both be a in the archive"},
		"one twice":              {[]any{d + "/other", d + "/other"}, "would both be other in the archive"},
		"one that is missing":    {[]any{d + "/missing"}, "/missing: no such file"},
		"a file with a slash":    {[]any{d + "/in/a/"}, "/in/a is not a directory, as the slash"},
		"a link with a slash":    {[]any{d + "/link/"}, "/link is not a directory, as the slash"},
		"a name for other kinds": {[]any{d + "/long"}, "adding " + d + "/long/n"},
		"the archive itself":     {[]any{d + "/linked"}, "/linked/b.tar is the archive itself"},
	} {
		r := sinktest.Build(t, kind.Spec, d+"/a.tar", params{"inputs": tt.inputs, "format": "ustar"})
		if o, err := r.CheckApply(t.Context(), true); err == nil || o.Changed || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want %q", name, o, err, tt.want)
		}
	}
	if text, err := os.ReadFile(d + "/a.tar"); err != nil || string(text) != "old" {
		t.Errorf("the archive holds %q, %v", text, err)
	}
}

// TestGrowing archives files that somebody appends to and replaces all the time.
func TestGrowing(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/in/log", "line\n", d+"/in/other", "x")
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		f, err := os.OpenFile(d+"/in/log", os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		tick := time.NewTicker(100 * time.Microsecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				f.WriteString("line\n")
			}
		}
	})
	r := sinktest.Build(t, kind.Spec, d+"/a.tar", params{"inputs": d + "/in"})
	for range 50 {
		if _, err := r.CheckApply(t.Context(), true); err != nil {
			t.Error(err)
		}
		list(t, d+"/a.tar") // it is whole
	}
	close(stop)
	writing.Wait()
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if o, err := r.CheckApply(t.Context(), true); err != nil || o.Changed {
		t.Errorf("in the end: %v, %v", o, err)
	}
}

func TestOwns(t *testing.T) {
	r := sinktest.Build(t, kind.Spec, "/a//b.tar", params{"inputs": []any{"/c/", "/d"}})
	if got := r.(sinks.Owner).Owns(); fmt.Sprint(got) != "[path /a/b.tar]" {
		t.Errorf("owns %q", got)
	}
	if got := r.(sinks.Keeper).Keeps(); fmt.Sprint(got) != "[path /c path /d]" {
		t.Errorf("keeps %q", got)
	}
}
