package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is a service manager: what it has been told.
type manager struct {
	t    *testing.T
	path string
	mu   sync.Mutex
	told []string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, path: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: m.path})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 1<<16); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.told = append(m.told, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
		if t.Failed() {
			t.Logf("the service manager was told: %q", m.told)
		}
	})
	return m
}

// service is a run under the manager.
func (m *manager) service(watchdog time.Duration, args ...string) *process {
	m.t.Helper()
	p := command(m.t, append([]string{"run", "--log-level=debug"}, args...)...)
	p.cmd.Env = append(p.cmd.Env, "NOTIFY_SOCKET="+m.path)
	if watchdog > 0 {
		p.cmd.Env = append(p.cmd.Env, "WATCHDOG_USEC="+strconv.FormatInt(watchdog.Microseconds(), 10))
	}
	return p
}

// forget makes hears count from now on.
func (m *manager) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = nil
}

// hears waits for messages, each of which has all the given lines, in this order, with
// any others between them.
func (m *manager) hears(messages ...[]string) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("the service manager hears %q", messages), func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		next := 0
		for _, told := range m.told {
			if next < len(messages) && hasLines(told, messages[next]) {
				next++
			}
		}
		return next == len(messages)
	})
}

func hasLines(message string, want []string) bool {
	for _, w := range want {
		if !strings.Contains("\n"+message, "\n"+w) {
			return false
		}
	}
	return true
}

func TestServiceManagerIsTold(t *testing.T) {
	s := newScene(t, "graph: g\nresources:\n  file:\n  - {name: DIR/f, content: \"x\\n\"}\n  exec:\n  - {name: e, cmd: \"env >DIR/env\", shell: /bin/sh, creates: DIR/env}\n")
	m := newManager(t)
	p := m.service(100*time.Millisecond, "--file", s.file)
	p.cmd.Env = append(p.cmd.Env, "WATCHDOG_PID=") // which is not known before the start
	p.start()
	m.hears([]string{"READY=1", "STATUS=g: "}, []string{"WATCHDOG=1"}, []string{"WATCHDOG=1"})
	m.hears([]string{"STATUS=g: 2 right; 2 resources changed so far"})
	env, err := os.ReadFile(s.host("env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if bytes.Contains(env, []byte(name+"=")) {
			t.Errorf("commands are given %s", name)
		}
	}
	p.settles()
	p.signal(syscall.SIGTERM)
	p.exits(0, 5*time.Second)
	m.hears([]string{"STOPPING=1"})
}

func TestServiceReloads(t *testing.T) {
	const graph = "graph: NAME\nresources:\n  file:\n  - {name: DIR/f, content: \"NAME\\n\"}\n"
	s := newScene(t, strings.ReplaceAll(graph, "NAME", "one"))
	m := newManager(t)
	p := m.service(0, "--file", s.file).start()
	p.says("converged")
	m.hears([]string{"READY=1"})
	reload := func(status string) {
		t.Helper()
		m.forget()
		p.signal(syscall.SIGHUP)
		m.hears([]string{"RELOADING=1", "MONOTONIC_USEC="}, []string{"READY=1", "STATUS=" + status})
	}

	rejected := []string{"STATUS=two: 1 right; 1 resource changed so far; the newest version of the graph file is rejected"}
	t.Run("a graph file that has not changed", func(*testing.T) { reload("one: 1 right") })
	t.Run("a new one, which is in force when the reload is over", func(*testing.T) {
		s.save(strings.ReplaceAll(graph, "NAME", "two"))
		reload("two: ")
		eventually(t, "the file is that of the new graph", func() bool { return s.has("f", "two\n") })
	})
	t.Run("one with mistakes", func(*testing.T) {
		s.save("graph: three\nresources:\n  fiel: []\n")
		reload("two: ")
		m.hears(rejected)
	})
	t.Run("one that is gone", func(t *testing.T) {
		if err := os.Remove(s.file); err != nil {
			t.Fatal(err)
		}
		reload("two: ")
		m.hears(rejected)
		s.save(strings.ReplaceAll(graph, "NAME", "four"))
		reload("four: ")
	})
	t.Run("several at once", func(*testing.T) {
		for range 5 {
			p.signal(syscall.SIGHUP)
		}
		reload("four: ")
	})
}

// A service manager that does not read must not hold up the run, nor its end.
func TestServiceManagerThatDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fill, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer fill.Close()
	for err == nil {
		if err = fill.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err == nil {
			_, err = fill.Write([]byte("STATUS=full"))
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	s := newScene(t, twoFiles)
	p := (&manager{t: t, path: path}).service(10*time.Millisecond, "--file", s.file).start()
	p.says("converged")
	if err := os.Remove(s.host("f1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "f1 is back", func() bool { return s.has("f1", "i am f1\n") })
	p.settles()
	p.signal(syscall.SIGTERM)
	p.exits(0, 5*time.Second)
}

func TestServiceManagerThatIsGone(t *testing.T) {
	s := newScene(t, twoFiles)
	p := (&manager{t: t, path: filepath.Join(t.TempDir(), "nobody")}).service(0, "--file", s.file, "--converged-timeout=0.5").start()
	p.says("the service manager is not told")
	p.exits(0, patience)
}

// Where there is no journal, its stream takes the messages, with their priorities.
func TestLogToTheJournal(t *testing.T) {
	if _, err := os.Stat("/run/systemd/journal/socket"); err == nil {
		t.Skip("needs a machine without a journal; the other half is tested in a test host")
	}
	for _, c := range []struct {
		name   string
		args   []string
		wrong  bool // JOURNAL_STREAM is that of another stream
		begins string
	}{
		{"standard error is a stream of the journal", nil, false, "<6>graph loaded  files"},
		{"it is not, as that of a command that has redirected it", nil, true, ""},
		{"another format was asked for", []string{"--log-format=json"}, false, "{"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, twoFiles)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			var st unix.Stat_t
			if err := unix.Fstat(int(w.Fd()), &st); err != nil {
				t.Fatal(err)
			}
			if c.wrong {
				st.Ino++
			}
			p := command(t, append([]string{"run", "--file", s.file, "--converged-timeout=0"}, c.args...)...)
			p.cmd.Env = append(p.cmd.Env, fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
			p.cmd.Stderr = w
			p.start()
			w.Close()
			log, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			p.exits(0, 5*time.Second)
			if !strings.HasPrefix(string(log), c.begins) || strings.HasPrefix(string(log), "<") != (c.begins != "" && c.begins[0] == '<') {
				t.Errorf("the log is %q", log)
			}
		})
	}
}
