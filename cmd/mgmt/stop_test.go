package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sleeper runs a command that has a child of its own and writes both numbers to DIR/pids.
const sleeper = `
graph: sleeper
resources:
  exec:
  - name: x
    shell: /bin/sh
    cmd: |
      TRAP
      sleep 1000 & echo $$ $! >DIR/pids.new && mv DIR/pids.new DIR/pids
      wait; wait; wait
`

// pids waits for the command of sleeper and returns the processes of it.
func (s *scene) pids() []int {
	s.t.Helper()
	var list []int
	eventually(s.t, "the command runs", func() bool {
		text, err := os.ReadFile(s.host("pids"))
		if err != nil {
			return false
		}
		for _, f := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				s.t.Fatal(err)
			}
			list = append(list, pid)
		}
		return true
	})
	s.t.Cleanup(func() {
		for _, pid := range list {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return list
}

func (s *scene) gone(pids []int) {
	s.t.Helper()
	for _, pid := range pids {
		if alive(pid) {
			s.t.Errorf("process %d of the command is still there", pid)
		}
	}
}

func TestSignalsStopInOrder(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		name   string
		code   int
	}{{syscall.SIGINT, "SIGINT", 130}, {syscall.SIGTERM, "SIGTERM", 143}} {
		for _, stubborn := range []string{":", "trap '' TERM INT"} {
			t.Run(c.name+" with "+stubborn, func(t *testing.T) {
				s := newScene(t, strings.Replace(sleeper, "TRAP", stubborn, 1))
				p := start(t, "run", "--file", s.file, "--events=json")
				pids := s.pids()
				p.signal(c.signal)
				p.exits(c.code, 5*time.Second)
				s.gone(pids)
				list := events(t, p.stdout.String())
				if last := list[len(list)-1]; last.Type != "exit" || last.Reason != "signal" || last.Signal != c.name || last.Code != c.code {
					t.Errorf("the last line of the event stream is %+v", last)
				}
			})
		}
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	s := newScene(t, strings.Replace(sleeper, "TRAP", "trap '' TERM INT", 1))
	p := start(t, "run", "--file", s.file)
	pids := s.pids()
	p.signal(syscall.SIGTERM)
	p.says("stopping")
	p.signal(syscall.SIGINT)
	p.exits(130, 1900*time.Millisecond) // before the first signal would have ended it
	eventually(t, "nothing is left behind", func() bool { return !alive(pids[0]) && !alive(pids[1]) })
}

func TestSignalBeforeTheGraph(t *testing.T) {
	p := command(t, "run", "--file", "-", "--log-level=debug", "--events=json")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	p.cmd.Stdin = r
	p.start()
	eventually(t, "it runs", func() bool { return strings.Contains(p.stdout.String(), "mgmt-events") })
	p.signal(syscall.SIGTERM)
	p.exits(143, 5*time.Second)
}

func TestSignalWhenConverged(t *testing.T) {
	s := newScene(t, twoFiles)
	p := start(t, "run", "--file", s.file, "--log-level=debug")
	p.says("converged")
	p.settles()
	p.signal(syscall.SIGTERM)
	p.exits(0, 5*time.Second)
}

func TestSignalWithFailuresOutstanding(t *testing.T) {
	s := newScene(t, "graph: g\nresources:\n  exec:\n  - {name: x, cmd: \"false\"}\n  - {name: y, cmd: sleep 1000}\n")
	p := start(t, "run", "--file", s.file)
	p.says("failed")
	p.signal(syscall.SIGTERM)
	p.exits(1, 5*time.Second)
	if !strings.Contains(p.stderr.String(), "\nexec[x]: ") {
		t.Error("the failure is not in the summary")
	}
}

func TestHangup(t *testing.T) {
	t.Run("reads the graph file without a terminal", func(t *testing.T) {
		s := newScene(t, twoFiles)
		p := start(t, "run", "--file", s.file, "--log-level=debug")
		p.says("converged")
		p.signal(syscall.SIGHUP)
		p.says("graph swapped  files  added=0  changed=0  removed=0  kept=2")
		if err := os.Remove(s.host("f1")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "f1 is back", func() bool { return s.has("f1", "i am f1\n") })
		p.settles()
		p.signal(syscall.SIGTERM)
		p.exits(0, 5*time.Second)
	})
	t.Run("means that the terminal is gone", func(t *testing.T) {
		s := newScene(t, strings.Replace(sleeper, "TRAP", ":", 1))
		theirs, _ := terminal(t)
		p := command(t, "run", "--file", s.file)
		p.cmd.Stdin = theirs
		p.start()
		pids := s.pids()
		p.signal(syscall.SIGHUP)
		p.exits(129, 5*time.Second)
		s.gone(pids)
	})
}

func TestColours(t *testing.T) {
	for _, c := range []struct {
		name string
		env  string
		args []string
		want bool
	}{
		{"on a terminal", "X=", nil, true},
		{"not with NO_COLOR", "NO_COLOR=1", nil, false},
		{"not on a dumb terminal", "TERM=dumb", nil, false},
		{"not with --no-color", "X=", []string{"--no-color"}, false},
		{"not as JSON", "X=", []string{"--log-format=json"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, "graph: g\nresources:\n  noop:\n  - name: a\n")
			theirs, ours := terminal(t)
			p := command(t, append([]string{"run", "--file", s.file, "--converged-timeout=0"}, c.args...)...)
			p.cmd.Env = append(p.cmd.Env, c.env)
			p.cmd.Stderr = theirs
			p.stderr = drain(ours)
			p.start()
			p.exits(0, patience)
			p.says("converged")
			if got := strings.Contains(p.stderr.String(), "\x1b["); got != c.want {
				t.Errorf("the log has colours: %v, want %v", got, c.want)
			}
		})
	}
}

// busy makes plenty of lines in the event stream, and keeps a file in place.
const busy = twoFiles + "  noop:\n" +
	"  - {name: a, meta: {poll: 1ms}}\n  - {name: b, meta: {poll: 1ms}}\n  - {name: c, meta: {poll: 1ms}}\n  - {name: d, meta: {poll: 1ms}}\n"

func TestReaderWhoDoesNotRead(t *testing.T) {
	s := newScene(t, busy)
	p := command(t, "run", "--file", s.file, "--events=json")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p.cmd.Stdout = w
	p.start()
	w.Close()
	p.says("converged")
	// The pipe holds 64 KiB, so it is full after some hundred lines.
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		if err := os.Remove(s.host("f1")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "f1 is back although nobody reads the events", func() bool { return s.has("f1", "i am f1\n") })
	}
	p.signal(syscall.SIGTERM)
	eventually(t, "it has exited although nobody reads the events", func() bool {
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
	buffered := make([]byte, 64<<10)
	n, err := r.Read(buffered)
	if err != nil || n < 4096 || bytes.Count(buffered[:n], []byte("\n")) < 20 {
		t.Errorf("%d bytes were in the pipe (%v), want plenty", n, err)
	}
}

func TestReaderWhoIsLateGetsEverything(t *testing.T) {
	s := newScene(t, busy)
	p := command(t, "run", "--file", s.file, "--events=json")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p.cmd.Stdout = w
	p.start()
	w.Close()
	p.says("converged")
	time.Sleep(300 * time.Millisecond) // what is late is the point
	p.signal(syscall.SIGTERM)
	var all output
	buffer := make([]byte, 1<<20)
	for {
		n, err := r.Read(buffer)
		_, _ = all.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	<-p.done
	list := events(t, all.String())
	for i, e := range list {
		if e.Seq != uint64(i+1) {
			t.Fatalf("line %d has the number %d: %+v", i+1, e.Seq, e)
		}
	}
	if last := list[len(list)-1]; last.Type != "exit" || last.Reason != "signal" || len(list) < 500 {
		t.Errorf("of %d lines the last is %+v", len(list), last)
	}
}

func TestReaderWhoHasGone(t *testing.T) {
	s := newScene(t, busy)
	p := command(t, "run", "--file", s.file, "--events=json")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = w
	p.start()
	w.Close()
	p.says("converged")
	r.Close()
	p.says("event stream ended")
	if err := os.Remove(s.host("f1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "f1 is back although nobody is there", func() bool { return s.has("f1", "i am f1\n") })
	p.signal(syscall.SIGTERM)
	<-p.done
	if n := strings.Count(p.stderr.String(), "event stream ended"); n != 1 {
		t.Errorf("the log tells %d times that the reader has gone, want once", n)
	}
	if !p.cmd.ProcessState.Exited() {
		t.Errorf("it did not exit: %v", p.cmd.ProcessState)
	}
}

func TestLogThatNobodyReads(t *testing.T) {
	for _, closed := range []bool{true, false} {
		s := newScene(t, twoFiles)
		p := command(t, "run", "--file", s.file, "--log-level=debug", "--flapping=off")
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p.cmd.Stderr = w
		p.start()
		w.Close()
		if closed {
			r.Close()
		}
		eventually(t, "f1 is there", func() bool { return s.has("f1", "i am f1\n") })
		for range 300 {
			if err := os.Remove(s.host("f1")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "f1 is back", func() bool { return s.has("f1", "i am f1\n") })
		}
		p.signal(syscall.SIGTERM)
		<-p.done
		if !p.cmd.ProcessState.Exited() {
			t.Errorf("it did not exit: %v", p.cmd.ProcessState)
		}
	}
}

func TestCommandsInheritNoIgnoredSignals(t *testing.T) {
	s := newScene(t, "graph: g\nresources:\n  exec:\n  - {name: x, shell: /bin/sh, cmd: \"grep SigIgn /proc/self/status >DIR/ignored\"}\n")
	start(t, "run", "--file", s.file, "--converged-timeout=0").exits(0, patience)
	text, err := os.ReadFile(filepath.Join(s.dir, "host", "ignored"))
	if err != nil {
		t.Fatal(err)
	}
	mask, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(string(text), "SigIgn:")), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if mask&(1<<(syscall.SIGPIPE-1)) != 0 {
		t.Errorf("a command ignores SIGPIPE: %x", mask)
	}
}
