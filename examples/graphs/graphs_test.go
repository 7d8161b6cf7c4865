// Package graphs_test runs the graph files of this folder with the program, as a reader
// would.
package graphs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/all"
)

// place begins every path in the graph files: it is what the test replaces.
const place = "/tmp/mgmt"

// patience is how long anything may take that should happen at once.
const patience = 20 * time.Second

var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run builds the program, with the race detector if the test has it.
func run(m *testing.M) int {
	syscall.Umask(0o022)
	dir, err := os.MkdirTemp("", "mgmt-graphs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "mgmt")
	args := []string{"build", "-buildvcs=false", "-o", program}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "github.com/mgmtproject/mgmt/cmd/mgmt")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building mgmt: %v\n%s", err, out)
		return 1
	}
	// A program with the race detector would wait a second before each exit.
	if err := errors.Join(os.Setenv("GORACE", "atexit_sleep_ms=0"), os.Setenv("MGMT_PREFIX", filepath.Join(dir, "prefix"))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// absent is the content of a file that must not be there.
const absent = "\x00"

// graphs lists what each file is to come to.
var graphs = map[string]struct {
	before func(dir string) error // prepares the host
	want   map[string]string      // contents by path
	check  func(dir string) error
	fails  []string    // the last lines of standard error, and exit status 1
	order  [][2]string // what comes before what
	once   bool        // too long to run twice
	root   bool
}{
	"hello.yaml": {want: map[string]string{"hello": "hello, world\n"}},
	"file-state.yaml": {
		before: writes("not-there", "but it is"),
		want: map[string]string{
			"with-content": "two\nlines\n", "empty": "", "there": "", "not-there": absent, "by-path": "named otherwise",
		},
	},
	"file-source.yaml": {
		want:  map[string]string{"template": "the original\n", "copy": "the original\n"},
		check: modes(map[string]os.FileMode{"template": 0o640, "copy": 0o640}),
	},
	"file-fragments.yaml": {want: map[string]string{"hosts": "127.0.0.1 localhost\n192.0.2.1 printer\n"}},
	"directory.yaml": {
		before: writes("conf.d/stray", "x", "conf.d/sub/stray", "x", "copy.d/stray", "x"),
		want: map[string]string{
			"conf.d/managed": "keep me\n", "copy.d/managed": "keep me\n",
			"conf.d/stray": absent, "conf.d/sub": absent, "copy.d/stray": absent,
		},
		check: modes(map[string]os.FileMode{"spool": 0o700 | os.ModeDir}),
	},
	"symlink.yaml": {want: map[string]string{"current/version": "2"}},
	"mode.yaml": {
		before: func(dir string) error {
			return errors.Join(writes("somebody-elses", "text")(dir), os.Chmod(dir+"/somebody-elses", 0o666))
		},
		want:  map[string]string{"somebody-elses": "text"},
		check: modes(map[string]os.FileMode{"secret": 0o600, "script": 0o755, "somebody-elses": 0o644}),
	},
	"owner.yaml": {root: true, check: func(dir string) error {
		info, err := os.Stat(dir + "/mail")
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 65534 || st.Gid != 65534 || info.Mode() != 0o660 {
			return fmt.Errorf("mail belongs to %d:%d with mode %v", st.Uid, st.Gid, info.Mode())
		}
		return nil
	}},
	"exec-guards.yaml": {want: map[string]string{"index": "32\n", "list": "filled\n", "switch": "on\n", "never": absent}},
	"exec-watch.yaml":  {want: map[string]string{"messages": "", "copy": "", "lines": "again\n"}},
	"retry.yaml":       {want: map[string]string{"tries": "try\ntry\ntry\n", "done": ""}},
	"backoff.yaml":     {want: map[string]string{"attempts": "\n\n\n\n", "share": ""}},
	"limit.yaml":       {want: map[string]string{"count": "0\n"}},
	"realize.yaml":     {want: map[string]string{"disk": "done\n"}},
	"semaphores.yaml": {want: map[string]string{"meanwhile": ""}, order: [][2]string{
		{"end exec[meanwhile]", "end exec[copy a]"}, {"end exec[meanwhile]", "end exec[copy b]"},
	}},
	"failure.yaml": {
		want: map[string]string{"behind-it": absent, "beside-it": "made"},
		fails: []string{
			`exec[broken]: cmd "false" exited with status 1`,
			`file[/tmp/mgmt/behind-it]: not run, because exec[broken] has failed`,
		},
	},
	"chain-and-parallel.yaml": {order: [][2]string{
		{"end exec[first]", "start exec[second]"}, {"end exec[second]", "start exec[third]"}, {"start exec[beside]", "end exec[first]"},
	}},
	"notify.yaml":    {want: map[string]string{"app.conf": "listen 8080\n", "reloads": "reloaded\n", "never": absent}},
	"timer.yaml":     {},
	"poll.yaml":      {want: map[string]string{"polled": ""}},
	"noop.yaml":      {want: map[string]string{"ab": "ab"}},
	"meta-noop.yaml": {want: map[string]string{"imagined": absent, "real": "what is\n"}},
	"hidden.yaml":    {want: map[string]string{"hidden": absent, "shown": "here"}},
	"automatic-edges.yaml": {
		want: map[string]string{"app/current/app.conf": "colour blue\n", "app/greeting": "hello\n"},
		check: func(dir string) error {
			out, err := exec.Command("tar", "-xOf", dir+"/backup.tar", "conf/app.conf").CombinedOutput()
			if err != nil || string(out) != "colour blue\n" {
				return fmt.Errorf("tar says %q (%w)", out, err)
			}
			return modes(map[string]os.FileMode{"app/greeting": 0o600, "app/conf": 0o750 | os.ModeDir})(dir)
		},
		order: [][2]string{
			{"end file[app]", "start file[conf-dir]"}, {"end file[app]", "start file[program]"},
			{"end file[conf-dir]", "start file[conf]"}, {"end file[conf-dir]", "start file[link]"},
			{"end file[conf]", "start line[colour]"}, {"end line[colour]", "start tar[backup]"},
			{"end file[link]", "start exec[greet]"}, {"end file[program]", "start exec[greet]"},
			{"end exec[greet]", "start file[log]"},
		},
	},
	"line.yaml": {
		before: writes("hosts", "127.0.0.1 localhost\n  192.0.2.7 oldprinter\n"),
		want:   map[string]string{"hosts": "127.0.0.1 localhost\n192.0.2.1 printer\n"},
	},
	"grouping.yaml": {
		before: writes("hosts", "127.0.0.1 localhost\n192.0.2.7 oldprinter\n"),
		check: func(dir string) error {
			got, err := os.ReadFile(dir + "/hosts")
			lines := slices.Sorted(strings.Lines(string(got)))
			if want := []string{"127.0.0.1 localhost\n", "192.0.2.1 gateway\n", "192.0.2.2 printer\n", "192.0.2.3 nas\n"}; !slices.Equal(lines, want) {
				return fmt.Errorf("hosts has the lines %q, want %q (%w)", lines, want, err)
			}
			return nil
		},
	},
	"reverse.yaml": {
		before: writes("motd", "welcome\n", "hosts", "127.0.0.1 localhost\n"),
		want: map[string]string{
			"maintenance/notice": "back soon\n", "motd": "under maintenance\n", "hosts": "127.0.0.1 localhost\n192.0.2.1 spare\n",
		},
	},
	"archive.yaml": {
		want: map[string]string{"conf/app.conf": "listen 8080\n"},
		check: func(dir string) error {
			out, err := exec.Command("tar", "-xzOf", dir+"/conf.tar.gz", "conf/app.conf").CombinedOutput()
			if err != nil || string(out) != "listen 8080\n" {
				return fmt.Errorf("tar says %q (%w)", out, err)
			}
			return nil
		},
	},
	"authorized-key.yaml": {
		before: writes("authorized_keys", "# keys\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDGJ3JLqd4+xVGbl3Oj7CsGRJtm2WahK8Arab6WDZlt7 at home\n"),
		want: map[string]string{"authorized_keys": "# keys\n" + `restrict,command="backup --serve" ` +
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBgW1oD+huxYlpkD/65Au2pTmkr2VZl3PLiDtJx447zp\n"},
	},
	"template.yaml": {want: map[string]string{
		"resolv.conf": "search example.org\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n", "motd": "Welcome to \"the machine room\"!\n",
	}},
	"http-server.yaml": {want: map[string]string{"downloaded": "welcome\n"}},
	"password.yaml":    {check: modes(map[string]os.FileMode{"database.password": 0o600})},
	"send-receive.yaml": {want: map[string]string{
		"greeting": "hello\n", "copy": "hello\n",
		"record": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 20\n",
	}},
	"messages.yaml":         {},
	"short-edges.yaml":      {},
	"references.yaml":       {},
	"older-generation.yaml": {want: map[string]string{"message": "i am a file\n", "shown": "i am a file\n"}},
	"newer-generation.yaml": {want: map[string]string{"message": "i am a file\n", "shown": "i am a file\n"}},
	"sleep.yaml": {once: true, order: [][2]string{
		{"end exec[exec1]", "start exec[exec2]"}, {"end exec[exec2]", "start exec[exec3]"}, {"start exec[exec4]", "end exec[exec1]"},
	}},
	"collect.yaml": {want: map[string]string{"../mgmtC/f1c": "i am f1\n", "../mgmtC/f3c": "i am f3, exported from host C\n"}},
	"mesh-a.yaml":  {want: fourFiles("a", "A")},
	"mesh-b.yaml":  {want: fourFiles("b", "B")},
	"mesh-c.yaml":  {want: fourFiles("c", "C")},
}

// fourFiles are what a host of the mesh makes as long as it is alone.
func fourFiles(host, dir string) map[string]string {
	files := map[string]string{}
	for i, text := range []string{"i am f1 of %s\n", "i am f2 of %s\n", "i am f3, exported from %s\n", "i am f4, exported from %s\n"} {
		files[fmt.Sprintf("../mgmt%s/f%d%s", dir, i+1, host)] = fmt.Sprintf(text, host)
	}
	return files
}

func writes(pathAndText ...string) func(dir string) error {
	return func(dir string) error {
		for file := range slices.Chunk(pathAndText, 2) {
			path := filepath.Join(dir, file[0])
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(file[1]), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
}

func modes(want map[string]os.FileMode) func(dir string) error {
	return func(dir string) error {
		for path, mode := range want {
			if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode() != mode {
				return fmt.Errorf("%s has %v, want mode %v (%w)", path, info, mode, err)
			}
		}
		return nil
	}
}

// TestGraphs runs each graph file until it has converged, looks at what it did to the
// host, and sees that it has nothing to do when it is run again.
func TestGraphs(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) != len(graphs) {
		t.Errorf("there are %d graph files, and %d are listed here (%v)", len(files), len(graphs), err)
	}
	for _, name := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, ok := graphs[name]
			switch {
			case !ok:
				t.Fatal("nobody says what this graph is to come to")
			case g.once && testing.Short():
				t.Skip("takes too long for a short test")
			case g.root && os.Getuid() != 0:
				t.Skip("needs root: it gives a file away")
			}
			h := newHost(t, name)
			if g.before != nil {
				if err := g.before(h.dir); err != nil {
					t.Fatal(err)
				}
			}
			first := h.converge()
			h.judge(first, g.fails)
			for path, text := range g.want {
				got, err := os.ReadFile(filepath.Join(h.dir, path))
				if text == absent != errors.Is(err, os.ErrNotExist) || err == nil && string(got) != text {
					t.Errorf("%s holds %q (%v), want %q", path, got, err, text)
				}
			}
			if g.check != nil {
				if err := g.check(h.dir); err != nil {
					t.Error(err)
				}
			}
			for _, pair := range g.order {
				if a, b := slices.Index(first.trace, pair[0]), slices.Index(first.trace, pair[1]); a < 0 || b < a {
					t.Errorf("%q does not come before %q in %q", pair[0], pair[1], first.trace)
				}
			}
			if g.once {
				return
			}
			second := h.converge()
			h.judge(second, g.fails)
			if changed := slices.DeleteFunc(second.changed, h.acts); len(changed) > 0 {
				t.Errorf("the second run changed %q", changed)
			}
		})
	}
}

// host is a directory that takes the place of the host, and a graph for it.
type host struct {
	t     *testing.T
	dir   string // where the graph says /tmp/mgmt
	file  string
	graph *pipeline.Graph
}

func newHost(t *testing.T, name string) *host {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), "/tmp/") != strings.Count(string(text), place) {
		t.Fatalf("a path of %s does not begin with %s", name, place)
	}
	dir := filepath.Join(t.TempDir(), "mgmt")
	h := &host{t: t, dir: dir, file: filepath.Join(t.TempDir(), name)}
	text = bytes.ReplaceAll(text, []byte(place), []byte(dir))
	if err := os.WriteFile(h.file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	h.graph = load(t, h.file)
	return h
}

func load(t *testing.T, file string) *pipeline.Graph {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := sinks.NewRegistry(all.Specs...)
	if err != nil {
		t.Fatal(err)
	}
	g, err := pipeline.Load(file, text, reg)
	if err == nil {
		err = g.Compile(sinks.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// acts says that a resource acts each time, or lives no longer than the run, so that a second
// run is no different.
func (h *host) acts(res string) bool {
	for _, v := range h.graph.Vertices {
		if v.String() == res {
			actor, ok := v.Resource.(sinks.Actor)
			return ok && actor.Acts() || slices.Contains([]string{"timer", "http_server", "http_server_file"}, v.Kind)
		}
	}
	return false
}

// outcome is how a run of the program went.
type outcome struct {
	code    int
	stderr  string
	changed []string
	trace   []string // starts and ends of CheckApplys
}

// converge runs the graph until it has converged.
func (h *host) converge() outcome {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "run", "--file", h.file, "--converged-timeout=50ms", "--events=json")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	o := outcome{code: cmd.ProcessState.ExitCode(), stderr: strings.ReplaceAll(stderr.String(), h.dir, place)}
	for line := range strings.Lines(stdout.String()) {
		var event struct {
			Type, Resource string
			Changed, Noop  bool
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			h.t.Fatalf("%v: %s", err, line)
		}
		if event.Type == "start" || event.Type == "end" {
			o.trace = append(o.trace, event.Type+" "+event.Resource)
		}
		if event.Type == "end" && event.Changed && !event.Noop {
			o.changed = append(o.changed, event.Resource)
		}
	}
	return o
}

// judge looks at the exit status and at the last lines of standard error.
func (h *host) judge(o outcome, fails []string) {
	h.t.Helper()
	want := 0
	if len(fails) > 0 {
		want = 1
	}
	if o.code != want || !strings.HasSuffix(o.stderr, strings.Join(append(fails, ""), "\n")) || !strings.Contains(o.stderr, "converged") {
		h.t.Errorf("it ended with status %d, want %d; it said\n%s", o.code, want, o.stderr)
	}
}

// TestKeeping runs graphs without an end, does what their comments suggest, and stops
// them.
func TestKeeping(t *testing.T) {
	tests := []struct {
		graph, ready string // the file that says that the graph is in force
		change       func(dir string) error
		path, text   string // what becomes of it
	}{
		{"hello.yaml", "hello", removes("hello"), "hello", "hello, world\n"},
		{"file-source.yaml", "copy", puts("copy", "damaged"), "copy", "the original\n"},
		{"file-fragments.yaml", "hosts", puts("hosts.d/15-nas", "192.0.2.2 nas\n"), "hosts", "127.0.0.1 localhost\n192.0.2.2 nas\n192.0.2.1 printer\n"},
		{"directory.yaml", "copy.d/managed", puts("conf.d/stray", ""), "conf.d/stray", absent},
		{"exec-watch.yaml", "copy", puts("messages", "one\n"), "copy", "one\n"},
		{"notify.yaml", "reloads", puts("app.conf", "listen 80"), "reloads", "reloaded\nreloaded\n"},
		{"template.yaml", "motd", puts("motd", "damaged"), "motd", "Welcome to \"the machine room\"!\n"},
		{"poll.yaml", "polled", removes("polled"), "polled", ""},
		{"line.yaml", "hosts", puts("hosts", "a\n192.0.2.7 oldprinter\nb\n"), "hosts", "a\nb\n192.0.2.1 printer\n"},
	}
	for _, tt := range tests {
		t.Run(tt.graph+" keeps "+tt.path, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tt.graph)
			p := h.start()
			p.until("converged")
			if _, err := os.Lstat(filepath.Join(h.dir, tt.ready)); err != nil {
				t.Fatal(err)
			}
			if err := tt.change(h.dir); err != nil {
				t.Fatal(err)
			}
			becomes(t, tt.path+" is as it should be", func() bool {
				got, err := os.ReadFile(filepath.Join(h.dir, tt.path))
				return string(got) == tt.text || tt.text == absent && errors.Is(err, os.ErrNotExist)
			})
			p.stop()
		})
	}
}

func removes(path string) func(dir string) error {
	return func(dir string) error { return os.Remove(filepath.Join(dir, path)) }
}

// puts replaces a file in one instant: what is written bit by bit is repaired in between.
func puts(path, text string) func(dir string) error {
	return func(dir string) error {
		part := filepath.Join(dir, "part")
		return errors.Join(os.WriteFile(part, []byte(text), 0o644), os.Rename(part, filepath.Join(dir, path)))
	}
}

func TestEachLineOfAWatchIsAnEvent(t *testing.T) {
	t.Parallel()
	h := newHost(t, "exec-watch.yaml")
	p := h.start()
	p.until("converged")
	messages, err := os.OpenFile(h.dir+"/messages", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Close()
	becomes(t, "the command has run again", func() bool {
		if _, err := messages.WriteString("line\n"); err != nil { // again and again: nobody knows when tail begins to read
			t.Fatal(err)
		}
		got, _ := os.ReadFile(h.dir + "/lines")
		return bytes.Count(got, []byte("\n")) > 1
	})
	p.stop()
}

// TestReverse has all but one of the resources leave the graph between two runs.
func TestReverse(t *testing.T) {
	t.Parallel()
	h := newHost(t, "reverse.yaml")
	if err := graphs["reverse.yaml"].before(h.dir); err != nil {
		t.Fatal(err)
	}
	h.judge(h.converge(), nil)
	text, err := os.ReadFile(h.file)
	if err != nil {
		t.Fatal(err)
	}
	rest, _, ok := strings.Cut(string(text), "  file:\n")
	if !ok {
		t.Fatal("there is nothing to take out")
	}
	if err := os.WriteFile(h.file, []byte(rest), 0o644); err != nil {
		t.Fatal(err)
	}
	h.judge(h.converge(), nil)
	for path, want := range map[string]string{"motd": "welcome\n", "hosts": "127.0.0.1 localhost\n"} {
		if got, err := os.ReadFile(filepath.Join(h.dir, path)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
		}
	}
	if _, err := os.Lstat(h.dir + "/maintenance"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there (%v)", err)
	}
}

func TestTimerTicks(t *testing.T) {
	t.Parallel()
	h := newHost(t, "timer.yaml")
	p := h.start()
	becomes(t, "it has ticked three times", func() bool {
		got, _ := os.ReadFile(h.dir + "/ticks")
		return bytes.Count(got, []byte("\n")) > 3
	})
	p.stop()
}

// process is a run without an end.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func (h *host) start() *process {
	h.t.Helper()
	p := &process{t: h.t, cmd: exec.Command(program, "run", "--file", h.file, "--max-runtime=1m")}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	p.lines = bufio.NewScanner(stderr)
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	return p
}

// until reads the log up to a line that contains what.
func (p *process) until(what string) {
	p.t.Helper()
	var log []string
	for p.lines.Scan() {
		if log = append(log, p.lines.Text()); strings.Contains(p.lines.Text(), what) {
			return
		}
	}
	p.t.Fatalf("it has not said %q:\n%s", what, strings.Join(log, "\n"))
}

// stop ends the program as a user does.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	var log []string
	for p.lines.Scan() {
		log = append(log, p.lines.Text())
	}
	// 130: the signal came while something was still being done about the change.
	if err := p.cmd.Wait(); err != nil && p.cmd.ProcessState.ExitCode() != 130 {
		p.t.Errorf("it ended with %v:\n%s", err, strings.Join(log, "\n"))
	}
}

func becomes(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// TestEquals sees that files which say the same in other words load as the same graph.
func TestEquals(t *testing.T) {
	for _, pair := range [][2]string{
		{"older-generation.yaml", "newer-generation.yaml"},
		{"short-edges.yaml", "references.yaml"},
	} {
		a, b := shape(load(t, pair[0])), shape(load(t, pair[1]))
		if !slices.Equal(a, b) {
			t.Errorf("%s is %q, but %s is %q", pair[0], a, pair[1], b)
		}
	}
}

// shape lists the resources and edges of a graph.
func shape(g *pipeline.Graph) []string {
	var list []string
	for _, v := range g.Vertices {
		list = append(list, v.String())
	}
	for _, e := range g.Edges {
		list = append(list, fmt.Sprintf("%v before %v, notify %v", g.Vertices[e.From], g.Vertices[e.To], e.Notify))
	}
	slices.Sort(list)
	return list
}
