package file_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

// TestRefused holds what is not done without force, or at all, and that it is not done.
func TestRefused(t *testing.T) {
	tests := []struct {
		name   string
		path   string // below a directory of its own
		params params
		setup  func(d string) error
		want   string
	}{
		{"a file where a directory is", "f", params{"content": "x"}, func(d string) error { return mkdir(d + "/f")() },
			"f is a directory, but a file is expected: set force to replace it"},
		{"a directory where a file is", "f/", params{"state": "exists"}, func(d string) error { return write(d+"/f", "x")() },
			"f is a file, but a directory is expected: set force to replace it"},
		{"a directory where a link to one is", "f/", params{"state": "exists"}, func(d string) error { return do(mkdir(d+"/g"), link("g", d+"/f")) },
			"f is a symbolic link, but a directory is expected: set force to replace it"},
		{"a file where a pipe is", "f", params{"content": "x"}, func(d string) error { return fifo(d + "/f")() },
			"f is a named pipe, but a file is expected: set force to replace it"},
		{"any file where a pipe is", "f", params{"state": "exists"}, func(d string) error { return fifo(d + "/f")() },
			"f is a named pipe, but a file is expected: set force to replace it"},
		{"any file where a directory is", "f", params{"state": "exists"}, func(d string) error { return mkdir(d + "/f")() },
			"f is a directory, but a file is expected: end the path with a slash"},
		{"the mode of a file where a directory is", "f", params{"mode": "0600", "force": true}, func(d string) error { return mkdir(d + "/f")() },
			"f is a directory, but a file is expected: end the path with a slash"},
		{"the mode of a directory where a file is", "f/", params{"mode": "0700", "force": true}, func(d string) error { return write(d+"/f", "")() },
			"f is a file, but a directory is expected: leave out the slash"},
		{"the mode of a link", "f", params{"mode": "0600"}, func(d string) error { return do(write(d+"/g", ""), link("g", d+"/f")) },
			"f is a symbolic link, and those have no mode"},
		{"a link where a directory is", "f", params{"symlink": "x"}, func(d string) error { return mkdir(d + "/f")() },
			"f is a directory, but a symbolic link is expected: set force to replace it"},
		{"no file where a directory is", "f", params{"state": "absent"}, func(d string) error { return mkdir(d + "/f")() },
			"f is a directory, but a file is expected: end the path with a slash, or set force, to remove it"},
		{"no directory where a file is", "f/", params{"state": "absent"}, func(d string) error { return write(d+"/f", "")() },
			"f is a file, but a directory is expected: leave out the slash, or set force, to remove it"},
		{"no directory where a full one is", "f/", params{"state": "absent"}, func(d string) error { return write(d+"/f/a", "")() },
			"f is not empty (a is in it): set force to remove it with everything in it"},
		{"a missing source", "f", params{"source": "/nonexistent/x"}, mkdirAll,
			"stat /nonexistent/x: no such file or directory"},
		{"a missing fragment", "f", params{"fragments": "/nonexistent/x"}, mkdirAll,
			"stat /nonexistent/x: no such file or directory"},
		{"a source that is a directory", "f", params{"source": "/usr"}, mkdirAll,
			"source /usr is a directory: to copy it, end the path with a slash and set recurse"},
		{"a source that is a device", "f", params{"source": "/dev/null"}, mkdirAll,
			"/dev/null is a device, so there is no content to take from it"},
		{"a source tree that is a file", "f/", params{"source": "/etc/passwd", "recurse": true}, mkdirAll,
			"open /etc/passwd: not a directory"},
		{"a parent that is a file", "f/g", params{"content": "x"}, func(d string) error { return write(d+"/f", "")() },
			"f/g: not a directory"},
		{"an unknown owner", "f", params{"content": "x", "owner": "no such user"}, mkdirAll,
			`there is no user "no such user" on this host`},
		{"an unknown group", "f", params{"content": "x", "group": "no such group"}, mkdirAll,
			`there is no group "no such group" on this host`},
		{"a tree with a file where a directory is", "f/", params{"source": "$/src", "recurse": true},
			func(d string) error { return do(write(d+"/src/a", ""), mkdir(d+"/f/a")) },
			"f/a is a directory, but a file is expected: set force to replace it"},
	}
	for _, tt := range tests {
		for _, apply := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				d := t.TempDir()
				setup(t, func() error { return tt.setup(d) })
				before, err := sinktest.Files(d)()
				if err != nil {
					t.Fatal(err)
				}
				r := sinktest.Build(t, file.Spec, d+"/"+tt.path, in(d, tt.params))
				if out, err := r.CheckApply(t.Context(), apply); err == nil || out.Changed || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("apply %v: got %+v and error %v, want %q", apply, out, err, tt.want)
				}
				if after, err := sinktest.Files(d)(); err != nil || after != before {
					t.Errorf("it has changed something (%v):\nfrom %s\nto   %s", err, before, after)
				}
			})
		}
	}
}

func mkdirAll(d string) error { return os.MkdirAll(d, 0o755) }

// TestAccepted holds what is right as it is.
func TestAccepted(t *testing.T) {
	tests := []struct {
		name   string
		path   string
		params params
		setup  func(d string) error
	}{
		{"nothing where nothing is asked for", "f", nil, mkdirAll},
		{"no directory where none is asked for", "f/", params{"mode": "0700", "purge": true}, mkdirAll},
		{"any content where none is managed", "f", params{"state": "exists"}, func(d string) error { return write(d+"/f", "x")() }},
		{"a link where something is to exist", "f", params{"state": "exists"}, func(d string) error { return link("nowhere", d+"/f")() }},
		{"the mode of a pipe", "f", params{"mode": "0600"}, func(d string) error { return do(fifo(d+"/f"), chmod(d+"/f", 0o600)) }},
		{"absent below a missing directory", "a/b", params{"state": "absent"}, mkdirAll},
		{"absent below a file", "a/b", params{"state": "absent"}, func(d string) error { return write(d+"/a", "")() }},
		{"the same link", "f", params{"symlink": "x"}, func(d string) error { return link("x", d+"/f")() }},
		{"more than the source in a tree that is not purged", "f/", params{"source": "$/src", "recurse": true},
			func(d string) error {
				return do(write(d+"/src/a", ""), write(d+"/f/a", ""), write(d+"/f/more", ""))
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := t.TempDir()
			setup(t, func() error { return tt.setup(d) })
			before, err := sinktest.Files(d)()
			if err != nil {
				t.Fatal(err)
			}
			r := sinktest.Build(t, file.Spec, d+"/"+tt.path, in(d, tt.params))
			if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
				t.Errorf("got %+v, %v", out, err)
			}
			if after, err := sinktest.Files(d)(); err != nil || after != before {
				t.Errorf("it has changed something (%v):\nfrom %s\nto   %s", err, before, after)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	big := strings.Repeat("x", sinks.MaxText+1)
	tests := []struct {
		name   string
		path   string
		params params
		setup  func(d string) error
		want   []string
	}{
		{"a new file", "f", params{"content": "a\n"}, mkdirAll, []string{"state: absent -> exists", `content: "" -> "a\n"`}},
		{"a new empty file", "f", params{"state": "exists"}, mkdirAll, []string{"state: absent -> exists"}},
		{"another content and mode", "f", params{"content": "a\n", "mode": "0664"}, func(d string) error { return write(d+"/f", "b\n")() },
			[]string{`content: "b\n" -> "a\n"`, "mode: 0644 -> 0664"}},
		{"a binary content", "f", params{"content": "a\n"}, func(d string) error { return write(d+"/f", "\x00\x01")() },
			[]string{`content: (binary, 2 bytes) -> "a\n"`}},
		{"a large content", "f", params{"content": big}, func(d string) error { return write(d+"/f", big+big)() },
			[]string{"content: (131074 bytes) -> (65537 bytes)"}},
		{"a secret content, since not everybody may read it", "f", params{"content": "a\n"},
			func(d string) error { return do(write(d+"/f", "secret"), chmod(d+"/f", 0o640)) },
			[]string{"content: (6 bytes) -> (2 bytes)"}},
		{"a content that becomes secret", "f", params{"content": "a\n", "mode": "0600"}, func(d string) error { return write(d+"/f", "open")() },
			[]string{"content: (4 bytes) -> (2 bytes)", "mode: 0644 -> 0600"}},
		{"a new secret file", "f", params{"content": "a\n", "mode": "0600"}, mkdirAll,
			[]string{"state: absent -> exists", `content: "" -> (2 bytes)`}},
		{"a removed file", "f", params{"state": "absent"}, func(d string) error { return write(d+"/f", "x")() }, []string{"state: exists -> absent"}},
		{"a directory for a file", "f", params{"content": "", "force": true}, func(d string) error { return mkdir(d + "/f")() }, []string{"state: directory -> file"}},
		{"a link for a file", "f", params{"symlink": "x"}, func(d string) error { return write(d+"/f", "x")() },
			[]string{"state: file -> symbolic link", `symlink: "" -> x`}},
		{"another target", "f", params{"symlink": "x"}, func(d string) error { return link("y", d+"/f")() }, []string{"symlink: y -> x"}},
		{"purged entries", "f/", params{"purge": true}, func(d string) error { return do(write(d+"/f/a/b", ""), link("x", d+"/f/c")) },
			[]string{"purge of a/b: file -> absent", "purge of a: directory -> absent", "purge of c: symbolic link -> absent"}},
		{"a copied tree", "f/", params{"source": "$/src", "recurse": true}, func(d string) error { return do(write(d+"/src/a/b", "x\n")) },
			[]string{"state: absent -> exists", "state of a: absent -> directory", "state of a/b: absent -> file", `content of a/b: "" -> "x\n"`}},
		{"modes of a tree", "f/", params{"mode": "0600", "recurse": true}, func(d string) error { return do(write(d+"/f/a", ""), chmod(d+"/f", 0o700)) },
			[]string{"mode of a: 0644 -> 0600"}},
	}
	for _, tt := range tests {
		for _, apply := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				d := t.TempDir()
				setup(t, func() error { return tt.setup(d) })
				r := sinktest.Build(t, file.Spec, d+"/"+tt.path, in(d, tt.params))
				out, err := r.CheckApply(t.Context(), apply)
				if err != nil || !out.Changed {
					t.Fatalf("%+v, %v", out, err)
				}
				var got []string
				for _, c := range out.Changes {
					got = append(got, c.String())
				}
				if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
					t.Errorf("apply %v: got\n%s\nwant\n%s", apply, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
				}
			})
		}
	}
}

// in returns p with a source that names a directory of the test, by $, replaced.
func in(d string, p params) params {
	p = maps.Clone(p)
	if s, ok := p["source"].(string); ok {
		p["source"] = strings.Replace(s, "$", d, 1)
	}
	return p
}

func TestManyChangesAreBounded(t *testing.T) {
	d := t.TempDir()
	for i := range 500 {
		setup(t, write(filepath.Join(d, "f", strings.Repeat("x", 1+i%100)+string(rune('a'+i/100))), ""))
	}
	r := sinktest.Build(t, file.Spec, d+"/f/", params{"purge": true})
	out, err := r.CheckApply(t.Context(), true)
	if err != nil || len(out.Changes) != 201 || out.Changes[200].String() != `more: "" -> 300 changes that are not listed` {
		t.Errorf("%d changes, the last %v, %v", len(out.Changes), out.Changes[len(out.Changes)-1], err)
	}
	if left, err := os.ReadDir(d + "/f"); err != nil || len(left) != 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}

// TestReplacedLink shows that nobody can have another file written by a link.
func TestReplacedLink(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/victim", "precious"), link("victim", d+"/f"))
	r := sinktest.Build(t, file.Spec, d+"/f", params{"content": "new", "mode": "0666"})
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(d + "/victim"); err != nil || string(b) != "precious" {
		t.Errorf("the target holds %q, %v", b, err)
	}
	if info, err := os.Lstat(d + "/f"); err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o666 {
		t.Errorf("the file is %v, %v", info, err)
	}
}

func TestSourceBehindALink(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/real", "text"), link("real", d+"/source"))
	r := sinktest.Build(t, file.Spec, d+"/f", params{"source": d + "/source"})
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(d + "/f"); err != nil || string(b) != "text" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestFragments(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/head", "head\n"), write(d+"/parts/20-b", "b\n"), write(d+"/parts/10-a", "a\n"), write(d+"/parts/.10-a.swp", "no\n"),
		write(d+"/parts/sub/c", "no\n"), link("../linked", d+"/parts/30-c"), write(d+"/linked", "c\n"))
	r := sinktest.Build(t, file.Spec, d+"/f", params{"fragments": []any{d + "/head", d + "/parts", d + "/head"}})
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(d + "/f"); err != nil || string(b) != "head\na\nb\nc\nhead\n" {
		t.Errorf("got %q, %v", b, err)
	}
	r = sinktest.Build(t, file.Spec, d+"/g", params{"fragments": []any{}})
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(d + "/g"); err != nil || len(b) != 0 {
		t.Errorf("no fragments: got %q, %v", b, err)
	}
}

// TestBigFiles compares and copies what does not fit in a buffer.
func TestBigFiles(t *testing.T) {
	d := t.TempDir()
	content := bytes.Repeat([]byte("0123456789abcde\n"), 300_000)
	setup(t, write(d+"/source", string(content)))
	for _, p := range []params{{"source": d + "/source"}, {"content": string(content)}, {"fragments": []any{d + "/source"}}} {
		r := sinktest.Build(t, file.Spec, d+"/f", p)
		for _, at := range []int{0, 1 << 20, len(content) - 1} {
			if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed != (at == 0) {
				t.Fatalf("%+v, %v", out, err)
			}
			if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
				t.Fatalf("a second time: %+v, %v", out, err)
			}
			broken := bytes.Clone(content)
			broken[at] ^= 1
			setup(t, write(d+"/f", string(broken)))
			if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
				t.Fatalf("a byte is wrong at %d: %+v, %v", at, out, err)
			}
		}
		setup(t, remove(d+"/f"))
	}
}

// TestSourceWithoutSize copies a file that says it is empty and is not.
func TestSourceWithoutSize(t *testing.T) {
	path := t.TempDir() + "/f"
	r := sinktest.Build(t, file.Spec, path, params{"source": "/proc/version"})
	if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
		t.Fatalf("%+v, %v", out, err)
	}
	want, err := os.ReadFile("/proc/version")
	got, err2 := os.ReadFile(path)
	if err != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v; want %q, %v", got, err2, want, err)
	}
	if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
		t.Errorf("a second time: %+v, %v", out, err)
	}
}

// TestAccessTime shows that reading a file to compare it leaves its access time alone.
func TestAccessTime(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/f", "text"), write(d+"/tree/g", "text"), write(d+"/src/g", "text"))
	long := time.Now().Add(-48 * time.Hour) // with relatime a day is enough
	for _, path := range []string{d + "/f", d + "/tree/g", d + "/src/g", d + "/tree", d + "/src"} {
		setup(t, func() error { return os.Chtimes(path, long, long) })
	}
	for _, r := range []sinks.Resource{
		sinktest.Build(t, file.Spec, d+"/f", params{"content": "text"}),
		sinktest.Build(t, file.Spec, d+"/f", params{"content": "diff"}),
		sinktest.Build(t, file.Spec, d+"/tree/", params{"source": d + "/src", "recurse": true, "purge": true}),
	} {
		if _, err := r.CheckApply(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{d + "/f", d + "/tree/g", d + "/src/g", d + "/tree", d + "/src"} {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Atim.Sec != long.Unix() {
			t.Errorf("%s: access time is %v, %v; want %v", path, st.Atim, err, long)
		}
	}
}

// TestCancelledCopy cancels while a large file is being copied.
func TestCancelledCopy(t *testing.T) {
	d := t.TempDir()
	setup(t, write(d+"/f", "old"), write(d+"/source", strings.Repeat("x", 64<<20)))
	r := sinktest.Build(t, file.Spec, d+"/f", params{"source": d + "/source"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // as soon as the copy has begun
		for ctx.Err() == nil {
			if entries, _ := filepath.Glob(d + "/.mgmt-*"); len(entries) > 0 {
				cancel()
			}
		}
	}()
	if _, err := r.CheckApply(ctx, true); err == nil {
		t.Skip("the copy was done before it could be cancelled")
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(d + "/f"); err != nil || string(b) != "old" {
		t.Errorf("the file holds %d bytes, %v", len(b), err)
	}
	if left, _ := filepath.Glob(d + "/.mgmt-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestPermissions shows that a denial comes as the system's error.
func TestPermissions(t *testing.T) {
	if os.Geteuid() == 0 {
		rerun(t, "TestPermissions")
		return
	}
	d := t.TempDir()
	setup(t, mkdir(d+"/closed"), write(d+"/f", "old"), write(d+"/unreadable", "old"))
	setup(t, chmod(d+"/closed", 0o500), chmod(d+"/unreadable", 0))
	denied := []struct {
		name   string
		path   string
		params params
	}{
		{"a file in a directory that we may not write", d + "/closed/f", params{"content": "x"}},
		{"a file below a directory that we may not write", d + "/closed/a/f", params{"content": "x"}},
		{"a link there", d + "/closed/f", params{"symlink": "x"}},
		{"a directory there", d + "/closed/f/", params{"state": "exists"}},
		{"another owner", d + "/f", params{"owner": "0"}},
		{"another owner for a new content", d + "/f", params{"owner": "0", "content": "new"}},
		{"another group", d + "/f", params{"group": "0"}},
		{"a content that we may not read", d + "/unreadable", params{"content": "x"}},
	}
	for _, tt := range denied {
		r := sinktest.Build(t, file.Spec, tt.path, tt.params)
		if out, err := r.CheckApply(t.Context(), true); !errors.Is(err, fs.ErrPermission) || out.Changed {
			t.Errorf("%s: got %+v, %v", tt.name, out, err)
		}
	}
	if b, err := os.ReadFile(d + "/f"); err != nil || string(b) != "old" {
		t.Errorf("a failure has changed the file to %q, %v", b, err)
	}

	t.Run("a file that we may not read is mended if its mode is managed", func(t *testing.T) {
		r := sinktest.Build(t, file.Spec, d+"/unreadable", params{"content": "new", "mode": "0644"})
		if out, err := r.CheckApply(t.Context(), false); err != nil || !out.Changed {
			t.Errorf("check: %+v, %v", out, err)
		}
		if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
			t.Errorf("apply: %+v, %v", out, err)
		}
		if b, err := os.ReadFile(d + "/unreadable"); err != nil || string(b) != "new" {
			t.Errorf("it holds %q, %v", b, err)
		}
	})
	if os.Getenv("FILE_TEST_DIR") == "" {
		t.Skip("needs root: the rest is about files of other users, which root has to make")
	}
	t.Run("the content of somebody else's file in our directory", func(t *testing.T) {
		theirs := filepath.Join(os.Getenv("FILE_TEST_DIR"), "theirs")
		r := sinktest.Build(t, file.Spec, theirs, params{"content": "ours"})
		if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
			t.Fatalf("%+v, %v", out, err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(theirs, &st); err != nil || st.Uid != nobody || st.Mode&0o7777 != 0o744 {
			t.Errorf("it is %d:%d %04o, %v; want ours, without set-id bits, and no more rights for our group than others had",
				st.Uid, st.Gid, st.Mode&0o7777, err)
		}
	})
	t.Run("a bit that the system does not grant is an error and no endless loop", func(t *testing.T) {
		dir := os.Getenv("FILE_TEST_DIR")
		for path, p := range map[string]params{"/odd": {"mode": "2755"}, "/shared/new": {"mode": "2755", "content": ""}} {
			r := sinktest.Build(t, file.Spec, dir+path, p)
			if _, err := r.CheckApply(t.Context(), true); err == nil || !strings.Contains(err.Error(), "the system made them") {
				t.Errorf("%s: got %v", path, err)
			}
		}
	})
}
