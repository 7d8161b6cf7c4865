package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mgmtproject/mgmt/sinks/all"
)

// everyKind has resources of every kind that read whatever they can: files, directories,
// sources, fragments, trees, inputs, records and the databases of users and groups.
const everyKind = `
graph: all
resources:
  file:
  - {name: DIR/a, content: "text of a\n", owner: root, group: root, mode: "0644"}
  - {name: DIR/absent, state: absent}
  - {name: DIR/copy, source: DIR/src/1}
  - {name: DIR/tree/, source: DIR/src/, recurse: true, purge: true}
  - {name: DIR/settled/, recurse: true, mode: "0644", owner: root}
  - {name: DIR/purged/, state: exists, recurse: true, purge: true}
  - {name: DIR/whole, fragments: [DIR/src/, DIR/a]}
  - {name: DIR/empty/, state: absent}
  - {name: DIR/filled, template_file: DIR/template, data: {x: "y"}}
  line:
  - {name: l, file: DIR/lines, content: two}
  - {name: m, file: DIR/lines, content: nine, state: absent}
  ssh_authorized_key:
  - {name: k, file: DIR/keys, type: ssh-ed25519, key: AAAAC3NzaC1lZDI1NTE5AAAAIHRoaXNpc25vdGFrZXlidXRpdGhhc3RoZWxlbmd0aDE=}
  tar:
  - {name: DIR/src.tar, inputs: [DIR/src]}
  gzip:
  - {name: DIR/lines.gz, input: DIR/lines}
  - {name: DIR/text.gz, content: text}
  password:
  - {name: p, length: 12, saved: true, path: DIR/password}
  http_client:
  - {name: DIR/fetched, url: "http://127.0.0.1:1/none", sha256: f6e379b0639054c51806fd5d67948cbcaebd354b0e91a7683932b043c5c3ba32}
  http_server:
  - {name: "127.0.0.1:0", root: DIR/src}
  http_server_file:
  - {name: /served, server: "127.0.0.1:0", path: DIR/src/1}
  exec:
  - {name: e, cmd: "cat DIR/a", creates: DIR/a, mtimes: [DIR/src/1], ifcmd: "cat DIR/a"}
  print:
  - {name: said, refresh_only: true}
  msg:
  - {name: told}
  noop:
  - {name: nothing}
  timer:
  - {name: tick, interval: 3600}
  value:
  - {name: v, value: x}
  user:
  - {name: root, state: exists}
  group:
  - {name: root, state: exists}
`

// ofTheSystem are the kinds that ask the kernel, a service or the mesh and not files that could be
// here. To be run for real they need a host of their own, as the tests of each have.
var ofTheSystem = []string{"cron", "hostname", "kv", "mount", "net", "nspawn", "pkg", "schedule", "svc", "sysctl"}

// TestPlanLeavesNoTrace compares the access times of all files and directories before and
// after plans of a host on a file system that notes each access.
func TestPlanLeavesNoTrace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a file system")
	}
	s := newScene(t, everyKind)
	host := filepath.Join(s.dir, "host")
	if err := syscall.Mount("none", host, "tmpfs", syscall.MS_STRICTATIME, ""); err != nil {
		t.Skipf("needs root: it mounts a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(host, 0); err != nil {
			t.Error(err)
		}
	})
	for _, spec := range all.Specs {
		if !slices.Contains(ofTheSystem, spec.Kind) && !strings.Contains(everyKind, "\n  "+spec.Kind+":\n") {
			t.Errorf("the graph has no %s: add one that reads what it can", spec.Kind)
		}
	}
	for _, dir := range []string{"src/sub", "settled/sub", "purged/sub", "empty", "tree"} {
		if err := os.MkdirAll(filepath.Join(host, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"a": "text of a\n", "absent": "x", "copy": "1", "src/1": "1", "src/2": "2", "src/sub/3": "3", "settled/4": "4", "settled/sub/5": "5", "purged/sub/6": "6",
		"whole": "12text of b\n", "lines": "one\ntwo\n", "keys": "ssh-ed25519 AAAA other\n", "password": "abcdefghijkl\n", "fetched": "fetched\n",
		"src.tar": "no archive", "lines.gz": "not compressed", "filled": "y\n", "template": "{{ .x }}\n", "tree/1": "1", "tree/more": "more",
	} {
		if err := os.WriteFile(filepath.Join(host, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	graph := filepath.Join(host, "graph.yaml")
	text, err := os.ReadFile(s.file)
	if err == nil {
		err = os.WriteFile(graph, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}

	plan := func(when, want string) {
		t.Helper()
		paths := below(t, host)
		before := accessed(t, paths)
		code, stdout, stderr := inProcess(t, "", "plan", graph, "--prefix", filepath.Join(host, "prefix"))
		if code != 2 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit status %d, no %q:\n%s%s", when, code, want, stdout, stderr)
		}
		for i, now := range accessed(t, paths) {
			if now != before[i] {
				t.Errorf("%s: %s was read", when, paths[i])
			}
		}
		if made := len(below(t, host)) - len(paths); made != 0 {
			t.Errorf("%s: %d files were made", when, made)
		}
	}
	plan("at first", "would change  file["+host+"/tree/]\n")
	// What is right then is read to its end.
	if code, _, stderr := inProcess(t, "", "run", "--file", s.file, "--converged-timeout=0", "--tmp-prefix"); code != 0 {
		t.Errorf("exit status %d: %s", code, stderr)
	}
	plan("when it has converged", "3 to change, ") // which are those that act each time

	// The mount notes what is read at all.
	read := []string{filepath.Join(host, "src/1")}
	before := accessed(t, read)
	eventually(t, "a read leaves a trace", func() bool {
		if _, err := os.ReadFile(read[0]); err != nil {
			t.Fatal(err)
		}
		return accessed(t, read)[0] != before[0]
	})
}

// below lists all files and directories at and below dir.
func below(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// accessed is when each was last read.
func accessed(t *testing.T, paths []string) []syscall.Timespec {
	t.Helper()
	times := make([]syscall.Timespec, len(paths))
	for i, path := range paths {
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		times[i] = st.Atim
	}
	return times
}
