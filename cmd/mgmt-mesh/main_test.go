package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// asMgmt is set in the environment of a copy of the test program that is to be mgmt. One
// that is called mgmt-mesh is that. So both are real processes, with whatever the test was
// built with, such as the race detector.
const asMgmt = "TEST_BINARY_IS_MGMT"

func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == mesh.Program:
		main()
	case os.Getenv(asMgmt) != "":
		_ = os.Unsetenv(asMgmt) // not for what it starts
		p := cli.Program{Exits: true, In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
		os.Exit(cli.Run(context.Background(), p, os.Args[1:]))
	}
	os.Exit(run(m))
}

// run makes the test program be mgmt-mesh where PATH says.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mgmt-mesh-")
	if err == nil {
		err = errors.Join(
			os.Symlink(executable(), filepath.Join(dir, mesh.Program)),
			os.Setenv("PATH", dir+":"+os.Getenv("PATH")),
			os.Setenv("GORACE", "atexit_sleep_ms=0"),
			os.Unsetenv("NOTIFY_SOCKET"),
		)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	return m.Run()
}

func executable() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

// process is a running mgmt.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *output
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

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, stdout: &output{}, stderr: &output{}, done: make(chan struct{})}
	p.cmd = exec.Command(executable(), args...)
	p.cmd.Env = append(os.Environ(), asMgmt+"=1", "NO_COLOR=1")
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%q\nstandard output:\n%.20000sstandard error:\n%.20000s", args, p.stdout, p.stderr)
		}
	})
	return p
}

// stop ends the process in order, if it still runs, and at once if that fails.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Error("it does not stop")
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// kill ends the process without a word.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// exits waits for the end, and checks the exit status.
func (p *process) exits(code int) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("it does not exit")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("it exited with %d (%v), want %d", got, p.cmd.ProcessState, code)
	}
}

// says waits until the log has a text.
func (p *process) says(text string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("the log says %q", text), func() bool { return strings.Contains(p.stderr.String(), text) })
}

var clientURL = regexp.MustCompile(`mesh ready .*(https?://[0-9.:]+)`)

// seed waits until the mesh is there, and returns where others reach it.
func (p *process) seed() string {
	p.t.Helper()
	var url string
	eventually(p.t, "the mesh is there", func() bool {
		found := clientURL.FindStringSubmatch(p.stderr.String())
		if found != nil {
			url = found[1]
		}
		return found != nil
	})
	return url
}

// peer returns the process of the peer, 0 if there is none.
func (p *process) peer() int {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	if err != nil {
		panic(err) // the pattern is wrong
	}
	var children []string
	for _, list := range lists {
		text, _ := os.ReadFile(list) // the thread may have ended
		children = append(children, strings.Fields(string(text))...)
	}
	for _, field := range children {
		args, err := os.ReadFile("/proc/" + field + "/cmdline")
		if name, _, _ := strings.Cut(string(args), "\x00"); err == nil && filepath.Base(name) == mesh.Program {
			pid, err := strconv.Atoi(field)
			if err == nil {
				return pid
			}
		}
	}
	return 0
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

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never comes to pass that %s", what)
		}
	}
}
