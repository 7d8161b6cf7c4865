package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/testhost/host"
)

// tool is the program, built once.
var tool = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "testhost")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "testhost"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

func built(t *testing.T) string {
	t.Helper()
	path, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// impossible says why no host can be booted.
var impossible = sync.OnceValue(func() error {
	h, err := host.Boot(context.Background(), host.Options{})
	if err == nil {
		err = h.Kill()
	}
	return err
})

// possible skips where no host can be booted.
func possible(t *testing.T) {
	t.Helper()
	if err := impossible(); errors.Is(err, host.ErrImpossible) {
		t.Skipf("needs a test host: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
}

// call runs the tool and returns its exit status and what it printed.
func call(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), built(t), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{"no command", nil, 2, "", "usage: testhost boot"},
		{"help", []string{"help"}, 0, "usage: testhost boot", ""},
		{"an unknown command", []string{"reboot"}, 2, "", `there is no command "reboot"`},
		{"an unknown flag", []string{"boot", "--colour"}, 2, "", "flag provided but not defined: -colour"},
		{"the flags of a command", []string{"exec", "-h"}, 0, "", "-bind-ro SRC[:DST]"},
		{"boot with a program", []string{"boot", "ls"}, 2, "", `what is "ls"?`},
		{"exec without a program", []string{"exec"}, 2, "", "usage: testhost boot"},
		{"exec of what is not there", []string{"exec", "./nowhere"}, 125, "", "./nowhere"},
		{"a base that is no system", []string{"exec", "--base", t.TempDir(), "true"}, 125, "", "can't be booted here: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := call(t, tt.args...)
			if code != tt.code || !strings.HasPrefix(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("exit status %d, standard output %q, standard error %q", code, stdout, stderr)
			}
		})
	}
}

func TestExecEndsAsTheProgramDoes(t *testing.T) {
	possible(t)
	code, stdout, stderr := call(t, "exec", "--name", "oak", "--", "sh", "-c", "hostname; cat /proc/1/comm; pwd; echo why >&2; exit 7")
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if code != 7 || stdout != "oak\nsystemd\n"+dir+"\n" || stderr != "why\n" {
		t.Errorf("exit status %d, standard output %q, standard error %q", code, stdout, stderr)
	}
}

func TestBindFlags(t *testing.T) {
	possible(t)
	dir := t.TempDir()
	code, _, stderr := call(t, "exec", "--bind", dir+":/mnt/rw", "--bind-ro", dir+":/mnt/ro", "sh", "-c", "touch /mnt/rw/a; test -e /mnt/ro/a && ! touch /mnt/ro/b")
	if _, err := os.Stat(filepath.Join(dir, "a")); code != 0 || err != nil {
		t.Errorf("exit status %d, %v: %s", code, err, stderr)
	}
}

// A module whose tests tell where they run.
var module = map[string]string{
	"go.mod":                 "module example.org/m\n\ngo 1.26\n",
	"in/testdata/testhost":   "",
	"in/testdata/words":      "some words",
	"in/in.go":               "package in\n\nfunc One() int { return 1 }\n",
	"out/out.go":             "package out\n",
	"hang/testdata/testhost": "",
	"hang/hang_test.go": `package hang
import "testing"
func TestHang(t *testing.T) { <-t.Context().Done() }
`,
	"where_test.go": `
import ("os"; "path/filepath"; "testing")
func TestOne(t *testing.T) {
	comm, _ := os.ReadFile("/proc/1/comm")
	dir, _ := os.Getwd()
	words, _ := os.ReadFile("testdata/words")
	t.Logf("process 1 is %s, the folder %s, the words %q, MGMT_X=%s, host %q, missing %q", comm[:len(comm)-1], filepath.Base(dir), words,
		os.Getenv("MGMT_X"), os.Getenv("MGMT_TESTHOST"), os.Getenv("MGMT_TESTHOST_MISSING"))
	if err := os.WriteFile(filepath.Join(t.TempDir(), "x"), nil, 0o600); err != nil { t.Error(err) }
	if os.Getenv("MGMT_FAIL") != "" { t.Error("as told") }
}
`,
}

func TestGoTestExec(t *testing.T) {
	possible(t)
	dir := t.TempDir()
	for name, text := range module {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "where_test.go" {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"in", "out"} {
		text := "package " + name + module["where_test.go"]
		if name == "in" {
			text += "func TestCovered(t *testing.T) { if One() != 1 { t.Error() } }\n"
		}
		if err := os.WriteFile(filepath.Join(dir, name, "where_test.go"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	gotest := func(t *testing.T, exec1 string, args ...string) (string, error) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"test", "-v", "-exec", exec1}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "MGMT_X=y")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	command := built(t) + " exec"

	t.Run("a marked package runs inside, others don't", func(t *testing.T) {
		out, err := gotest(t, command+" --if-marked", "-coverprofile", "cover.out", "./in", "./out")
		inside := `process 1 is systemd, the folder in, the words "some words", MGMT_X=y, host "testhost", missing ""`
		if err != nil || !strings.Contains(out, inside) || !strings.Contains(out, `MGMT_X=y, host "", missing ""`) {
			t.Errorf("%v\n%s", err, out)
		}
		cover, err := os.ReadFile(filepath.Join(dir, "cover.out"))
		if err != nil || !strings.Contains(string(cover), "example.org/m/in/in.go:3.16,3.28 1 1") {
			t.Errorf("coverage: %v\n%s", err, cover)
		}
	})
	t.Run("what a host did is not kept as a result", func(t *testing.T) {
		for range 2 {
			if out, err := gotest(t, command+" --if-marked", "./in"); err != nil || strings.Contains(out, "(cached)") {
				t.Errorf("%v\n%s", err, out)
			}
		}
	})
	t.Run("profiles come out", func(t *testing.T) {
		if out, err := gotest(t, command, "-cpuprofile", "cpu.prof", "-o", filepath.Join(dir, "in.test"), "./in"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "cpu.prof")); err != nil {
			t.Error(err)
		}
	})
	t.Run("a failing test fails", func(t *testing.T) {
		t.Setenv("MGMT_FAIL", "1")
		if out, err := gotest(t, command, "./in"); err == nil || !strings.Contains(out, "as told") || !strings.Contains(out, "FAIL\texample.org/m/in") {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("a test that hangs is ended by its time", func(t *testing.T) {
		if out, err := gotest(t, command, "-timeout", "1s", "./hang"); err == nil || !strings.Contains(out, "test timed out after 1s") {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("where no host is possible, tests run here and know why", func(t *testing.T) {
		out, err := gotest(t, command+" --if-marked --base "+t.TempDir(), "./in")
		if err != nil || !strings.Contains(out, `host "", missing "a test host can't be booted here: there is no`) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// running is a tool at work.
type running struct {
	*exec.Cmd
	out    io.ReadCloser // standard output, of all that runs in the host too
	traces []string
}

// launch starts the tool and waits until it has printed a line.
func launch(t *testing.T, name string, args ...string) (*running, string) {
	t.Helper()
	r := &running{Cmd: exec.Command(name, args...)}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out, r.Stdout = out, w
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		r.Process.Kill()
		r.Wait()
		out.Close()
	})
	var line []byte
	for b := make([]byte, 1); len(line) == 0 || line[len(line)-1] != '\n'; line = append(line, b[0]) {
		if _, err := out.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	return r, strings.TrimSpace(string(line))
}

// note finds what there is of the host of a process on this machine, by the lock that
// it holds.
func (r *running) note(t *testing.T, pid int) {
	t.Helper()
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("/run/mgmt-testhost/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			continue
		}
		inode := strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, fmt.Sprintf(" WRITE %d ", pid)) && strings.Contains(line, ":"+inode+" ") {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				r.traces = append(strings.Fields(string(text)), f)
				return
			}
		}
	}
	t.Fatalf("the process %d holds none of %q", pid, files)
}

// gone waits until all that had our pipe has ended, and lists what is left.
func (r *running) gone(t *testing.T) []string {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, r.out)
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("processes are left after ten seconds")
	}
	var left []string
	for _, path := range r.traces {
		if _, err := os.Stat(path); err == nil {
			left = append(left, path)
		}
	}
	return left
}

func TestBootKeepsAHostUntilItIsTold(t *testing.T) {
	possible(t)
	r, line := launch(t, built(t), "boot")
	r.note(t, r.Process.Pid)
	comm, err := os.ReadFile("/proc/" + line + "/comm")
	if err != nil || string(comm) != "systemd\n" {
		t.Errorf("process 1 of the host, %s, is %q: %v", line, comm, err)
	}
	r.Process.Signal(syscall.SIGTERM)
	if err := r.Wait(); err != nil {
		t.Error(err)
	}
	if left := r.gone(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestSignalsEndAll(t *testing.T) {
	possible(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			r, _ := launch(t, built(t), "exec", "sh", "-c", "trap '' TERM INT HUP; echo; sleep 1000 & wait")
			r.note(t, r.Process.Pid)
			r.Process.Signal(sig)
			r.Wait()
			if code := r.ProcessState.ExitCode(); code != 128+int(sig) {
				t.Errorf("exit status %d", code)
			}
			if left := r.gone(t); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestQuitIsForTheProgram(t *testing.T) {
	possible(t)
	r, _ := launch(t, built(t), "exec", "sh", "-c", "trap 'exit 9' QUIT; echo; while :; do sleep 0.01; done")
	r.note(t, r.Process.Pid)
	r.Process.Signal(syscall.SIGQUIT)
	r.Wait()
	if code := r.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit status %d", code)
	}
	if left := r.gone(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// Whoever is killed can't clean up: the kernel ends all processes, and the next boot
// removes the rest.
func TestKilledToolLeavesNothingForLong(t *testing.T) {
	possible(t)
	r, _ := launch(t, built(t), "exec", "sh", "-c", "echo; sleep 1000")
	r.note(t, r.Process.Pid)
	r.Process.Kill()
	r.Wait()
	r.gone(t)
	// The first may come while process 1 of this machine has still to take note of the dead.
	if code, _, stderr := call(t, "exec", "true"); code != 0 {
		t.Errorf("the next one ends with %d: %s", code, stderr)
	}
	if left := r.gone(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestHostEndsWithWhoStartedTheTool(t *testing.T) {
	possible(t)
	r, line := launch(t, "sh", "-c", `"$0" exec sh -c 'echo '$$'; sleep 1000' & echo $!; wait`, built(t))
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1); b[0] != '\n'; { // the program in the host runs
		if _, err := r.out.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	r.note(t, pid)
	r.Process.Kill()
	r.Wait()
	if left := r.gone(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// Where no host is possible the program runs as if there were no tool, which had asked
// for a signal at the end of its parent by then.
func TestProgramThatRunsHereIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"testdata", "empty"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "testdata/testhost"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r, _ := launch(t, "sh", "-c", `cd "$1"; "$0" exec --if-marked --base empty sh -c 'echo; while [ ! -e go ]; do sleep 0.01; done; echo alive' & wait`, built(t), dir)
	r.Process.Kill()
	r.Wait()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(r.out); string(out) != "alive\n" {
		t.Errorf("read %q (%v) after the parent was killed", out, err)
	}
}
