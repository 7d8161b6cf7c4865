// Package pipelines_test runs the programs of this folder as their users do.
package pipelines_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take that should happen at once.
const patience = 10 * time.Second

// build makes one of the programs, with the race detector if the test has it.
func build(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	args := []string{"build", "-buildvcs=false", "-o", program}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(t.Context(), "go", append(args, "./"+name)...).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	return program
}

// running is a program under test.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string
	stderr bytes.Buffer
	ended  func() error
}

func start(t *testing.T, program string, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(program, args...), lines: make(chan string, 1000)}
	r.cmd.Stderr = &r.stderr
	r.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // or it waits a second before it exits
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			r.lines <- s.Text()
		}
	}()
	r.ended = sync.OnceValue(func() error { <-read; return r.cmd.Wait() })
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.ended()
	})
	return r
}

// says waits until the program has printed a line that contains what.
func (r *running) says(what string) {
	r.t.Helper()
	late := time.After(patience)
	var said []string
	for {
		select {
		case line := <-r.lines:
			if strings.Contains(line, what) {
				return
			}
			said = append(said, line)
		case <-late:
			r.t.Fatalf("the program has not said %q but %q", what, said)
		}
	}
}

// ends asks the program to end, and sees that it does, and well.
func (r *running) ends(signal os.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(signal); err != nil {
		r.t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = r.cmd.Process.Kill() })
	defer late.Stop()
	if err := r.ended(); err != nil || r.stderr.Len() > 0 {
		r.t.Errorf("the program ended with %v\n%s", err, &r.stderr)
	}
}

// becomes waits until a condition holds.
func becomes(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for late := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("not within", patience, "-", what)
		}
	}
}

func holds(path, text string) func() bool {
	return func() bool { got, _ := os.ReadFile(path); return string(got) == text }
}

// write replaces a file in one instant: what is written bit by bit is repaired in between.
func write(t *testing.T, path, text string) {
	t.Helper()
	part := path + ".part"
	if err := errors.Join(os.WriteFile(part, []byte(text), 0o644), os.Rename(part, path)); err != nil {
		t.Fatal(err)
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	motd := filepath.Join(t.TempDir(), "motd")
	program := build(t, "keep")
	p := start(t, program, motd, "be nice")
	p.says("absent -> exists")
	becomes(t, "the file is made", holds(motd, "be nice\n"))
	if err := os.Remove(motd); err != nil {
		t.Fatal(err)
	}
	p.says("absent -> exists")
	becomes(t, "it is back", holds(motd, "be nice\n"))
	write(t, motd, "be nasty\n")
	p.says(`"be nasty\n" -> "be nice\n"`)
	becomes(t, "it is right again", holds(motd, "be nice\n"))
	p.ends(syscall.SIGTERM)

	refused(t, program, "usage:")
	refused(t, program, "not absolute", "motd", "text")
}

// refused sees that a program ends with an error.
func refused(t *testing.T, program, want string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 || !strings.Contains(string(out), want) || strings.Contains(string(out), "goroutine") {
		t.Errorf("%s %q ended with %v and %q, want %q", filepath.Base(program), args, err, out, want)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	motd, draft := filepath.Join(dir, "motd"), filepath.Join(dir, "draft")
	// All of 127.0.0.0/8 is this host, so nobody else has this address.
	addr := fmt.Sprintf("127.%d.%d.%d:4000", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	program := build(t, "merge")
	p := start(t, program, motd, draft, addr)

	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	becomes(t, "a datagram is what the file says", func() bool {
		_, _ = conn.Write([]byte("is anybody there?")) // again and again, until somebody listens
		return holds(motd, "is anybody there?")()
	})
	if _, err := conn.Write([]byte("by datagram")); err != nil { // behind all the others
		t.Fatal(err)
	}
	becomes(t, "the file says the newest datagram", holds(motd, "by datagram"))
	write(t, draft, "by draft")
	becomes(t, "a draft is what the file says", holds(motd, "by draft"))
	write(t, motd, "by somebody else")
	becomes(t, "the file is kept", holds(motd, "by draft"))
	if err := os.Remove(draft); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("by another datagram")); err != nil {
		t.Fatal(err)
	}
	becomes(t, "the file says the newest", holds(motd, "by another datagram"))
	p.ends(os.Interrupt)

	refused(t, program, "usage:")
	refused(t, program, "nowhere", motd, draft, "nowhere:1:2")
}

func TestMonitor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	motd, graph := filepath.Join(dir, "motd"), filepath.Join(dir, "graph.yaml")
	write(t, graph, `
graph: monitored
resources:
  file:
  - {name: `+motd+`, content: be nice}
  exec:
  - {name: broken, cmd: "false", meta: {retry: -1, delay: 50}}
`)
	program := build(t, "monitor")
	p := start(t, program, graph, "100ms")
	p.says(" x failed: exec[broken]: ")
	becomes(t, "the file is made", holds(motd, "be nice"))
	write(t, motd, "be nasty")
	p.says("ALERT 1 x repaired: file[" + motd + "]")
	p.ends(os.Interrupt)

	write(t, graph, "graph: broken\nresources: {fiel: []}\n")
	refused(t, program, `did you mean "file"?`, graph, "1s")
	refused(t, program, "time: ", filepath.Join(dir, "no-graph"), "a while")
	refused(t, program, "usage:")
}
