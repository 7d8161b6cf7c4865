package state_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// saver is a process that saves.
type saver struct {
	cmd    *exec.Cmd
	orders io.WriteCloser
	says   *bufio.Scanner
}

func startSaver(t *testing.T, dir string, wrapped ...string) *saver {
	t.Helper()
	args := append(wrapped, os.Args[0])
	s := &saver{cmd: exec.Command(args[0], args[1:]...)}
	s.cmd.Env = append(os.Environ(), asSaver+"="+dir, "GORACE=atexit_sleep_ms=0")
	s.cmd.Stderr = os.Stderr
	var err error
	if s.orders, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.says = bufio.NewScanner(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// next returns the number up to which all is saved, as the process says, and false when it says
// no more.
func (s *saver) next(t *testing.T) (int, bool) {
	t.Helper()
	if !s.says.Scan() {
		return 0, false
	}
	var n int
	if _, err := fmt.Sscanf(s.says.Text(), "has %d", &n); err != nil {
		t.Fatalf("%q: %v", s.says.Text(), err)
	}
	return n, true
}

// TestKill kills a process while it saves, over and over: what it has said to be saved is there
// when the next one opens the state, and all of the change after it or nothing.
func TestKill(t *testing.T) {
	const kills, files = 120, 12
	midway := 0
	for range files {
		dir := filepath.Join(t.TempDir(), "state")
		saved := 0
		for range kills / files {
			s := startSaver(t, dir)
			has, ok := s.next(t)
			if !ok || has < saved || has > saved+1 {
				t.Fatalf("after change %d, the state is at %d (%v)", saved, has, ok)
			}
			saved = has
			killer := time.AfterFunc(time.Duration(rand.IntN(12000))*time.Microsecond, func() { _ = s.cmd.Process.Kill() })
			_, _ = io.WriteString(s.orders, strings.Repeat("\n", 10000))
			for has, ok := s.next(t); ok; has, ok = s.next(t) {
				saved = has
			}
			killer.Stop()
			if err := s.cmd.Wait(); err == nil {
				t.Fatal("it was not killed")
			}
		}
		s := startSaver(t, dir)
		has, ok := s.next(t)
		if !ok || has < saved || has > saved+1 {
			t.Fatalf("after change %d, the state is at %d (%v)", saved, has, ok)
		}
		if has > saved {
			midway++
		}
		s.orders.Close()
		if err := s.cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of %d files were left between a save and the word of it", midway, files)
}

// TestSaveIsOnTheDisk looks at the system calls: before a change is said to be saved, all that
// was written has been flushed, as has the directory after the rename.
func TestSaveIsOnTheDisk(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs the program strace")
	}
	trace := filepath.Join(t.TempDir(), "trace")
	s := startSaver(t, filepath.Join(t.TempDir(), "state"), strace, "-f", "-o", trace, "-e", "trace=write,pwrite64,fsync,fdatasync,ftruncate,renameat")
	const changes = 5
	_, _ = io.WriteString(s.orders, strings.Repeat("\n", changes))
	s.orders.Close()
	for _, ok := s.next(t); ok; _, ok = s.next(t) {
	}
	if err := s.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var written, renamed, said int
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.Contains(line, "pwrite64("), strings.Contains(line, "ftruncate("):
			written++
		case strings.Contains(line, "fdatasync("):
			written = 0
		case strings.Contains(line, "renameat("):
			renamed++
		case strings.Contains(line, "fsync("):
			written, renamed = 0, 0
		case strings.Contains(line, `write(1, "has 0`):
		case strings.Contains(line, `write(1, "has `):
			said++
			if written+renamed > 0 {
				t.Errorf("change %d is said to be saved when it need not be on the disk:\n%s", said, text)
			}
		}
	}
	if said != changes {
		t.Errorf("%d changes are said to be saved, want %d:\n%s", said, changes, text)
	}
}
