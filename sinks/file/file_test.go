package file_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

type params = map[string]any

// do runs steps until one fails.
func do(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func write(path, content string) func() error {
	return func() error {
		return do(func() error { return os.MkdirAll(filepath.Dir(path), 0o755) },
			func() error { return os.WriteFile(path, []byte(content), 0o644) })
	}
}

func mkdir(path string) func() error    { return func() error { return os.MkdirAll(path, 0o755) } }
func remove(path string) func() error   { return func() error { return os.RemoveAll(path) } }
func fifo(path string) func() error     { return func() error { return unix.Mkfifo(path, 0o600) } }
func link(to, path string) func() error { return func() error { return os.Symlink(to, path) } }

func chmod(path string, mode uint32) func() error {
	return func() error { return unix.Chmod(path, mode) }
}

func chown(path string, uid, gid int) func() error {
	return func() error { return os.Lchown(path, uid, gid) }
}

// setup runs steps in a test's preparation.
func setup(t testing.TB, steps ...func() error) {
	t.Helper()
	if err := do(steps...); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	// Each case has a directory: d is its path, and f that of a file in it.
	tests := []struct {
		name    string
		params  func(d, f string) params
		setup   func(d, f string) error
		disturb func(d, f string) error
		root    bool
	}{
		{
			name:    "an overwritten file gets its content back",
			params:  func(_, _ string) params { return params{"content": "hello\n"} },
			disturb: func(_, f string) error { return os.WriteFile(f, []byte("blah\n"), 0o644) },
		},
		{
			name:    "a content of the same length is told apart",
			params:  func(_, _ string) params { return params{"content": "hello\n"} },
			disturb: func(_, f string) error { return os.WriteFile(f, []byte("hullo\n"), 0o644) },
		},
		{
			name:    "a removed file comes back",
			params:  func(_, _ string) params { return params{"content": "hello\n", "state": "exists"} },
			disturb: func(_, f string) error { return os.Remove(f) },
		},
		{
			name:    "a removed parent directory comes back",
			params:  func(d, _ string) params { return params{"path": d + "/a/b/f", "content": "hello\n"} },
			disturb: func(d, _ string) error { return os.RemoveAll(d + "/a") },
		},
		{
			name:   "a file that an editor has replaced by renaming",
			params: func(_, _ string) params { return params{"content": "hello\n"} },
			disturb: func(_, f string) error {
				return do(write(f+"~", "blah\n"), func() error { return os.Rename(f+"~", f) })
			},
		},
		{
			name:    "an empty content empties the file",
			params:  func(_, _ string) params { return params{"content": ""} },
			disturb: func(_, f string) error { return os.WriteFile(f, []byte("blah\n"), 0o644) },
		},
		{
			name:    "a file without content is made if it is missing",
			params:  func(_, _ string) params { return params{"state": "exists"} },
			disturb: func(_, f string) error { return os.Remove(f) },
		},
		{
			name:    "a durable file",
			params:  func(_, _ string) params { return params{"content": "hello\n", "durable": true} },
			disturb: func(_, f string) error { return os.WriteFile(f, []byte("blah\n"), 0o644) },
		},
		{
			name:    "a link in place of the file is replaced",
			params:  func(_, _ string) params { return params{"content": "hello\n"} },
			setup:   func(_, f string) error { return write(f+".other", "hello\n")() },
			disturb: func(_, f string) error { return do(remove(f), link(f+".other", f)) },
		},
		{
			name:    "dirname and basename make up the path",
			params:  func(d, _ string) params { return params{"dirname": d, "basename": "g", "content": "hello\n"} },
			disturb: func(d, _ string) error { return os.Remove(d + "/g") },
		},
		{
			name:    "an octal mode",
			params:  func(_, _ string) params { return params{"content": "hello\n", "mode": "0640"} },
			disturb: func(_, f string) error { return os.Chmod(f, 0o666) },
		},
		{
			name:    "a symbolic mode",
			params:  func(_, _ string) params { return params{"content": "hello\n", "mode": "u=rw,go-w,o-r"} },
			disturb: func(_, f string) error { return os.Chmod(f, 0o666) },
		},
		{
			name:    "the mode of a file that is not managed otherwise",
			params:  func(_, _ string) params { return params{"mode": "a-w"} },
			setup:   func(_, f string) error { return write(f, "whatever")() },
			disturb: func(_, f string) error { return os.Chmod(f, 0o666) },
		},
		{
			name:    "owner and group by number",
			root:    true,
			params:  func(_, _ string) params { return params{"content": "hello\n", "owner": "1234", "group": "2345"} },
			disturb: func(_, f string) error { return os.Chown(f, 0, 0) },
		},
		{
			name:    "owner and group by name",
			root:    true,
			params:  func(_, _ string) params { return params{"content": "hello\n", "owner": "daemon", "group": "daemon"} },
			disturb: func(_, f string) error { return os.Chown(f, 0, 0) },
		},
		{
			name:    "a file that shall not be",
			params:  func(_, _ string) params { return params{"state": "absent"} },
			disturb: func(_, f string) error { return write(f, "here")() },
		},
		{
			name:    "a content does not matter to a file that shall not be",
			params:  func(_, _ string) params { return params{"state": "absent", "content": "i should not be here\n"} },
			disturb: func(_, f string) error { return write(f, "i should not be here\n")() },
		},
		{
			name:    "a link that shall not be",
			params:  func(_, _ string) params { return params{"state": "absent"} },
			disturb: func(d, f string) error { return link("..", f)() },
		},
		{
			name:    "an empty directory that shall not be",
			params:  func(_, f string) params { return params{"path": f + "/", "state": "absent"} },
			disturb: func(_, f string) error { return mkdir(f)() },
		},
		{
			name: "a full directory that shall not be",
			params: func(_, f string) params {
				return params{"path": f + "/", "state": "absent", "force": true, "durable": true}
			},
			disturb: func(_, f string) error { return do(write(f+"/a/b/c", "x"), link("..", f+"/a/link")) },
		},
		{
			name:    "a directory",
			params:  func(_, f string) params { return params{"path": f + "/", "state": "exists"} },
			disturb: func(_, f string) error { return os.Remove(f) },
		},
		{
			name: "a directory with a mode",
			params: func(_, f string) params {
				return params{"path": f + "/", "state": "exists", "mode": "0700", "durable": true}
			},
			disturb: func(_, f string) error { return os.Chmod(f, 0o755) },
		},
		{
			name:    "force puts a file in place of a directory",
			params:  func(_, _ string) params { return params{"content": "hello\n", "force": true} },
			disturb: func(_, f string) error { return do(remove(f), write(f+"/a/b", "x")) },
		},
		{
			name:    "force puts an empty file in place of a directory",
			params:  func(_, _ string) params { return params{"state": "exists", "force": true} },
			disturb: func(_, f string) error { return do(remove(f), mkdir(f)) },
		},
		{
			name:    "force puts a directory in place of a file",
			params:  func(_, f string) params { return params{"path": f + "/", "state": "exists", "force": true} },
			disturb: func(_, f string) error { return do(remove(f), write(f, "x")) },
		},
		{
			name:    "force puts a directory in place of a link",
			params:  func(_, f string) params { return params{"path": f + "/", "state": "exists", "force": true} },
			disturb: func(d, f string) error { return do(remove(f), link(d, f)) },
		},
		{
			name:    "force puts a file in place of a pipe",
			params:  func(_, _ string) params { return params{"content": "hello\n", "force": true} },
			disturb: func(_, f string) error { return do(remove(f), fifo(f)) },
		},
		{
			name:    "a symbolic link with another target",
			params:  func(_, _ string) params { return params{"symlink": "some/where"} },
			disturb: func(_, f string) error { return do(remove(f), link("else/where", f)) },
		},
		{
			name:    "a symbolic link that is a file",
			params:  func(_, _ string) params { return params{"symlink": "some/where", "state": "exists"} },
			disturb: func(_, f string) error { return do(remove(f), write(f, "x")) },
		},
		{
			name:    "the owner of a symbolic link",
			root:    true,
			params:  func(d, _ string) params { return params{"symlink": d, "owner": "1234", "group": "2345"} },
			disturb: func(_, f string) error { return os.Lchown(f, 0, 0) },
		},
		{
			name:    "a copy that is changed",
			params:  func(d, _ string) params { return params{"source": d + "/source"} },
			setup:   func(d, _ string) error { return write(d+"/source", "hello\n")() },
			disturb: func(_, f string) error { return os.WriteFile(f, []byte("blah\n"), 0o644) },
		},
		{
			name:    "a source that is changed",
			params:  func(d, _ string) params { return params{"source": d + "/source"} },
			setup:   func(d, _ string) error { return write(d+"/source", "hello\n")() },
			disturb: func(d, _ string) error { return appendTo(d+"/source", "more\n") },
		},
		{
			name:    "fragments, one of which changes",
			params:  func(d, _ string) params { return params{"fragments": []any{d + "/one", d + "/two"}} },
			setup:   func(d, _ string) error { return do(write(d+"/one", "1\n"), write(d+"/two", "2\n")) },
			disturb: func(d, _ string) error { return appendTo(d+"/one", "more\n") },
		},
		{
			name:   "fragments of a directory, where one more appears",
			params: func(d, _ string) params { return params{"fragments": d + "/parts"} },
			setup:  func(d, _ string) error { return do(write(d+"/parts/one", "1\n"), mkdir(d+"/parts/sub")) },
			disturb: func(d, _ string) error {
				n, err := os.ReadDir(d + "/parts")
				if err != nil {
					return err
				}
				return write(filepath.Join(d, "parts", "x"+string(rune('a'+len(n)))), "2\n")()
			},
		},
		{
			name:    "fragments of a directory behind a link",
			params:  func(d, _ string) params { return params{"fragments": d + "/parts"} },
			setup:   func(d, _ string) error { return do(write(d+"/real/one", "1\n"), link("real", d+"/parts")) },
			disturb: func(d, _ string) error { return appendTo(d+"/real/one", "more\n") },
		},
		{
			name:   "a copied tree behind a link",
			params: func(d, f string) params { return params{"path": f + "/", "source": d + "/link", "recurse": true} },
			setup: func(d, _ string) error {
				return do(func() error { return sampleTree(d + "/tree") }, link("tree", d+"/link"))
			},
			disturb: func(d, _ string) error { return appendTo(d+"/tree/sub/deep/file", "more") },
		},
		{
			name:    "a copied tree in which a file is changed",
			params:  func(d, f string) params { return params{"path": f + "/", "source": d + "/tree/", "recurse": true} },
			setup:   func(d, _ string) error { return sampleTree(d + "/tree") },
			disturb: func(_, f string) error { return os.WriteFile(f+"/sub/deep/file", []byte("x"), 0o644) },
		},
		{
			name:    "a copied tree that is gone",
			params:  func(d, f string) params { return params{"path": f + "/", "source": d + "/tree", "recurse": true} },
			setup:   func(d, _ string) error { return sampleTree(d + "/tree") },
			disturb: func(_, f string) error { return os.RemoveAll(f) },
		},
		{
			name: "a copied tree in which all kinds are mixed up",
			params: func(d, f string) params {
				return params{"path": f + "/", "source": d + "/tree", "recurse": true, "force": true}
			},
			setup: func(d, _ string) error { return sampleTree(d + "/tree") },
			disturb: func(_, f string) error {
				return do(remove(f+"/sub"), write(f+"/sub", "no directory"), remove(f+"/link"), mkdir(f+"/link"), remove(f+"/top"), link("..", f+"/top"))
			},
		},
		{
			name: "a copied tree to which something is added",
			params: func(d, f string) params {
				return params{"path": f + "/", "source": d + "/tree", "recurse": true, "purge": true}
			},
			setup:   func(d, _ string) error { return sampleTree(d + "/tree") },
			disturb: func(_, f string) error { return do(write(f+"/sub/new", "x"), write(f+"/more/new", "x")) },
		},
		{
			name:    "a purged directory",
			params:  func(_, f string) params { return params{"path": f + "/", "state": "exists", "purge": true} },
			disturb: func(_, f string) error { return do(write(f+"/a/b", "x"), link("..", f+"/link")) },
		},
		{
			name: "modes of a whole tree",
			params: func(_, f string) params {
				return params{"path": f + "/", "state": "exists", "recurse": true, "mode": "0640"}
			},
			setup:   func(_, f string) error { return sampleTree(f) },
			disturb: func(_, f string) error { return do(chmod(f+"/sub/deep/file", 0o600), chmod(f+"/sub", 0o700)) },
		},
		{
			name: "owners of a whole tree",
			root: true,
			params: func(_, f string) params {
				return params{"path": f + "/", "recurse": true, "owner": "1234", "group": "2345"}
			},
			setup:   func(_, f string) error { return sampleTree(f) },
			disturb: func(_, f string) error { return do(chown(f+"/sub/deep/file", 0, 0), chown(f+"/link", 0, 0)) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root && os.Geteuid() != 0 {
				t.Skip("needs root: only root gives files away")
			}
			d := t.TempDir()
			f := filepath.Join(d, "f")
			if tt.setup != nil {
				setup(t, func() error { return tt.setup(d, f) })
			}
			sinktest.Run(t, file.Spec, sinktest.Case{
				Name:     "conforms",
				Resource: f,
				Params:   tt.params(d, f),
				Disturb:  func() error { return tt.disturb(d, f) },
				State:    sinktest.Files(d),
			})
		})
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func sampleTree(d string) error {
	return do(write(d+"/top", "top"), write(d+"/sub/deep/file", "deep"), mkdir(d+"/sub/empty"),
		write(d+"/sub/program", "#!"), chmod(d+"/sub/program", 0o755), link("../elsewhere", d+"/link"))
}

func TestInvalid(t *testing.T) {
	tests := []struct {
		resource string
		params   params
		want     string
	}{
		{"motd", nil, `path "motd" is not absolute: give path, or an absolute path as name`},
		{"x", params{"path": "etc/motd"}, `path: path "etc/motd" is not absolute`},
		{"/etc/../motd", nil, "write it out"},
		{"/a\x00b", nil, "zero byte"},
		{"x", params{"path": "/a/f", "dirname": "/b"}, "dirname: it is /b, but path is /a/f"},
		{"x", params{"path": "/a/f", "basename": "g"}, "basename: it is g, but path is /a/f"},
		{"/x", params{"basename": "a/b"}, `basename: "a/b" is not the name of a file in a directory`},
		{"/x", params{"dirname": "b"}, `dirname: path "b" is not absolute`},
		{"/f", params{"state": "present"}, "present"},
		{"/f", params{"content": "", "source": "/g"}, "source: it can't be given together with content"},
		{"/f", params{"content": "", "fragments": []any{"/g"}}, "fragments: it can't be given together with content"},
		{"/f", params{"source": "/g", "symlink": "/g"}, "symlink: it can't be given together with source"},
		{"/d/", params{"content": "x"}, "content: /d/ is a directory"},
		{"/d/", params{"symlink": "x"}, "symlink: /d/ is a directory"},
		{"/f", params{"symlink": "x", "mode": "0644"}, "mode: a symbolic link has none"},
		{"/f", params{"recurse": true}, "recurse: /f is not a directory"},
		{"/f", params{"purge": true}, "purge: /f is not a directory"},
		{"/d/", params{"source": "/e/"}, "source: to copy a directory, set recurse"},
		{"/f", params{"source": "/e/"}, "path must end with a slash, too"},
		{"/f", params{"source": "e"}, `source: path "e" is not absolute`},
		{"/f", params{"source": "/f"}, "source: it is the path itself"},
		{"/d/", params{"source": "/d/e/", "recurse": true}, "lie in each other"},
		{"/d/e/", params{"source": "/d/", "recurse": true}, "lie in each other"},
		{"/f", params{"fragments": []any{"e"}}, `fragments: path "e" is not absolute`},
		{"/f", params{"fragments": []any{"/f"}}, "the path itself is among them"},
		{"/f", params{"mode": "0888"}, `mode: mode "0888" is not octal digits from 0000 to 7777`},
		{"/f", params{"mode": "u=rq"}, `'q' is not one of r w x X s t`},
		{"/f", params{"mode": "u=g,g=o,o=u"}, "has no end"},
		{"/f", params{"owner": "12x"}, "owner: "},
		{"/f", params{"group": "4294967295"}, "group: "},
		{"/", params{"purge": true}, "refused for the root directory"},
		{"/", params{"state": "absent", "force": true}, "refused for the root directory"},
		{"/f", params{"contents": "x"}, "content"},
	}
	for _, tt := range tests {
		sinktest.Invalid(t, file.Spec, tt.resource, tt.params, tt.want)
	}
}

func TestPath(t *testing.T) {
	tests := []struct {
		name     string
		resource string
		params   params
		want     string
	}{
		{"the name is the path", "/etc/motd", nil, "path /etc/motd"},
		{"the path goes before the name", "motd", params{"path": "/etc/motd"}, "path /etc/motd"},
		{"a slash at the end is not part of it", "/etc/motd/", nil, "path /etc/motd"},
		{"it is cleaned", "//etc/./motd", nil, "path /etc/motd"},
		{"dirname takes the place of the directory", "/a/b/f3a", params{"dirname": "/c/"}, "path /c/f3a"},
		{"dirname goes with a bare name", "f3a", params{"dirname": "/c"}, "path /c/f3a"},
		{"basename takes the place of the last element", "/a/b/f", params{"basename": "g"}, "path /a/b/g"},
		{"both make a path", "x", params{"dirname": "/a", "basename": "b"}, "path /a/b"},
		{"dirname may repeat what path says", "x", params{"path": "/a/f", "dirname": "/a/", "basename": "f"}, "path /a/f"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sinktest.Build(t, file.Spec, tt.resource, tt.params)
			if got := r.(sinks.Owner).Owns(); len(got) != 1 || got[0] != tt.want {
				t.Errorf("owns %q, want %q", got, tt.want)
			}
		})
	}
}
