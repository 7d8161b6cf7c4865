package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// asMgmt is set in the environment of a copy of the test program that is to be mgmt: a
// real process, with whatever the test was built with, such as the race detector.
const asMgmt = "TEST_BINARY_IS_MGMT"

func TestMain(m *testing.M) {
	if os.Getenv(asMgmt) != "" {
		_ = os.Unsetenv(asMgmt) // not for the commands that it starts
		main()
	}
	os.Exit(run(m))
}

// run keeps what survives a run in a directory of the tests.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mgmt-prefix-")
	if err == nil {
		err = os.Setenv("MGMT_PREFIX", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	return m.Run()
}

// process is a running mgmt.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *output // of which nothing comes if the test has given another one
	stderr *output
	done   chan struct{}
}

// output is what a process has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// command is mgmt with arguments, to be started.
func command(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, stdout: &output{}, stderr: &output{}, done: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], args...)
	p.cmd.Env = append(os.Environ(), asMgmt+"=1", "NO_COLOR=", "TERM=xterm")
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.WaitDelay = time.Second
	return p
}

func (p *process) start() *process {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if p.t.Failed() {
			p.t.Logf("standard output:\n%.20000sstandard error:\n%.20000s", p.stdout, p.stderr)
		}
	})
	return p
}

func start(t *testing.T, args ...string) *process { t.Helper(); return command(t, args...).start() }

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("sending %v: %v", s, err)
	}
}

// exits waits for the end, which must come within limit, and checks the exit status.
func (p *process) exits(code int, limit time.Duration) {
	p.t.Helper()
	began := time.Now()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("it does not exit")
	}
	if took := time.Since(began); took > limit {
		p.t.Errorf("it took %v to exit, longer than %v", took, limit)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("it exited with %d (%v), want %d", got, p.cmd.ProcessState, code)
	}
	if strings.Contains(p.stderr.String(), "goroutine ") {
		p.t.Error("standard error has a Go stack")
	}
}

// says waits until the log has a text.
func (p *process) says(text string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("the log says %q", text), func() bool { return strings.Contains(p.stderr.String(), text) })
}

// settles waits until nothing is pending, to judge by the last line of a log at level
// debug: that all has converged, and that nothing has come after it for a while, since
// what was done a moment ago may not be in the log yet.
func (p *process) settles() {
	p.t.Helper()
	const quiet = 200 * time.Millisecond
	var last string
	var since time.Time
	eventually(p.t, "nothing is pending", func() bool {
		log := strings.TrimSpace(p.stderr.String())
		if log != last {
			last, since = log, time.Now()
		}
		return strings.Contains(log[strings.LastIndexByte(log, '\n')+1:], " converged ") && time.Since(since) > quiet
	})
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never comes to pass that %s", what)
		}
	}
}

// scene is a directory with a graph file, whose text has DIR for the directory.
type scene struct {
	t    *testing.T
	dir  string
	file string
}

func newScene(t *testing.T, text string) *scene {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "host"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &scene{t, dir, filepath.Join(dir, "graph.yaml")}
	s.save(text)
	return s
}

// save replaces the graph file as an editor does, by a rename.
func (s *scene) save(text string) {
	s.t.Helper()
	text = strings.ReplaceAll(text, "DIR", s.host(""))
	if err := errors.Join(os.WriteFile(s.file+".new", []byte(text), 0o644), os.Rename(s.file+".new", s.file)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) host(name string) string { return filepath.Join(s.dir, "host", name) }

func (s *scene) has(name, content string) bool {
	got, err := os.ReadFile(s.host(name))
	return err == nil && string(got) == content
}

// event is a line of the event stream.
type event struct {
	Type, Stream, Resource, Reason, Signal, Error, By string
	Seq, Count                                        uint64
	Version, Code                                     int
	Changed, Noop                                     bool
	Failures                                          []string
	Problems                                          []struct{ Message string }
	Cause                                             struct{ Kind, Source, Watch string }
}

// events decodes the lines that are complete.
func events(t *testing.T, text string) []event {
	t.Helper()
	var list []event
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		list = append(list, e)
	}
	return list
}

// alive reports whether a process runs: a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

// inProcess runs the command line in this process.
func inProcess(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, err bytes.Buffer
	code = cli.Run(ctx, cli.Program{In: strings.NewReader(stdin), Out: &out, Err: &err}, args)
	return code, out.String(), err.String()
}

// terminal opens a pseudo-terminal: what a process gets, and where its output comes out.
func terminal(t *testing.T) (theirs, ours *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { ours.Close() })
	theirs, err = openPeer(ours)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { theirs.Close() })
	return theirs, ours
}

// drain reads a terminal until its other side is closed.
func drain(f *os.File) *output {
	o := &output{}
	go func() { _, _ = io.Copy(o, f) }()
	return o
}
