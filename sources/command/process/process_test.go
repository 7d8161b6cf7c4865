package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources/command/process"
)

func TestMain(m *testing.M) {
	if os.Getenv("TEST_AS_NOBODY") != "" {
		if err := asNobody(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const sh = "/bin/sh"

func TestRun(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "hello"), "#!/bin/sh\necho hello from $PWD\n", 0o755)
	tests := []struct {
		name    string
		command process.Command
		want    string // on standard output
	}{
		{"words", process.Command{Cmd: `printf '%s|' a  "b c" d\ e '' "it's" '\n'`}, `a|b c|d e||it's|\n|`},
		{"without a shell nothing is expanded", process.Command{Cmd: `printf %s| $HOME * ; a&b >x`}, `$HOME|*|;|a&b|>x|`},
		{"with args the command is one word", process.Command{Cmd: "printf", Args: []string{"%s|", "a b", "", "'"}}, "a b||'|"},
		{"a shell runs a script", process.Command{Cmd: "for i in 1 2 3; do printf $i; done | tr 2 x", Shell: sh}, "1x3"},
		{"the arguments of a script begin with $1", process.Command{Cmd: `printf '%s|' "$0" "$@"`, Shell: sh, Args: []string{"a b", "c"}}, "/bin/sh|a b|c|"},
		{"a working directory", process.Command{Cmd: "pwd", Dir: dir}, dir + "\n"},
		{"the working directory is in PWD", process.Command{Cmd: "printenv PWD", Dir: dir}, dir + "\n"},
		{"a relative program is found from the working directory", process.Command{Cmd: "./hello", Dir: dir}, "hello from " + dir + "\n"},
		{"the environment is ours and more", process.Command{Cmd: "echo $OURS $MORE", Shell: sh, Env: map[string]string{"MORE": "a b"}}, "ours a b\n"},
		{"a variable replaces ours", process.Command{Cmd: "printenv OURS", Env: map[string]string{"OURS": "other"}}, "other\n"},
		{"PATH of the environment finds the program", process.Command{Cmd: "hello", Env: map[string]string{"PATH": "relative:/nowhere:" + dir}, Dir: "/"}, "hello from /\n"},
		{"standard input is empty", process.Command{Cmd: "cat"}, ""},
		{"a group of its own", process.Command{Cmd: "test $$ = $(ps -o pgid= -p $$) && echo yes", Shell: sh}, "yes\n"},
	}
	t.Setenv("OURS", "ours")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.command.Validate(); err != nil {
				t.Fatal(err)
			}
			r, err := process.Run(t.Context(), tt.command, 0)
			if err != nil || r.Stdout != tt.want || r.Stderr != "" || r.Output != tt.want || r.Status != 0 || !r.Started {
				t.Errorf("got %+v, %v; want %q", r, err, tt.want)
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "plain"), "#!/bin/sh\n", 0o644)
	write(t, filepath.Join(dir, "noshebang"), "echo\n", 0o755)
	write(t, filepath.Join(dir, "interpreter"), "#!/no/such/interpreter\n", 0o755)
	tests := []struct {
		name    string
		command process.Command
		want    string
		is      error
		status  int
	}{
		{"a status", process.Command{Cmd: "false"}, `"false" exited with status 1`, nil, 1},
		{"the last line of standard error", process.Command{Cmd: "echo a >&2; echo out; echo ' b c ' >&2; echo >&2; exit 42", Shell: sh},
			`"echo a >&2; echo out; echo ' b c ' >&2; echo >&2; exit 42" exited with status 42: b c`, nil, 42},
		{"a signal", process.Command{Cmd: "kill -9 $$", Shell: sh}, `"kill -9 $$" was killed by SIGKILL`, nil, -1},
		{"no such program", process.Command{Cmd: "no-such-program a b"}, `"no-such-program": executable file not found in $PATH`, exec.ErrNotFound, -1},
		{"no such program in a PATH of its own", process.Command{Cmd: "ls", Env: map[string]string{"PATH": "/nowhere"}}, `"ls": executable file not found in $PATH`, exec.ErrNotFound, -1},
		{"no such file", process.Command{Cmd: "/no/such/program"}, `"/no/such/program": no such file or directory`, fs.ErrNotExist, -1},
		{"not executable", process.Command{Cmd: "./plain", Dir: dir}, `"./plain": permission denied`, fs.ErrPermission, -1},
		{"no interpreter", process.Command{Cmd: "./interpreter", Dir: dir},
			`"./interpreter": no such file or directory (the file is there, but the interpreter that it names is not)`, fs.ErrNotExist, -1},
		{"neither a binary nor a script", process.Command{Cmd: filepath.Join(dir, "noshebang")},
			fmt.Sprintf("%q: exec format error (a script needs a first line such as #!/bin/sh)", filepath.Join(dir, "noshebang")), syscall.ENOEXEC, -1},
		{"no such directory", process.Command{Cmd: "true", Dir: "/no/such"}, `"true": working directory: stat /no/such: no such file or directory`, fs.ErrNotExist, -1},
		{"a directory that is a file", process.Command{Cmd: "true", Dir: "/etc/passwd"}, `"true": working directory: chdir /etc/passwd: not a directory`, syscall.ENOTDIR, -1},
		{"no such user", process.Command{Cmd: "true", User: "no-such-user"}, `"true": there is no user "no-such-user"`, nil, -1},
		{"no such group", process.Command{Cmd: "true", Group: "no-such-group"}, `"true": there is no group "no-such-group"`, nil, -1},
		{"a number that is no user's, without a group", process.Command{Cmd: "true", User: "54321"}, `"true": user 54321 is not in the user database: give a group too`, nil, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := process.Run(t.Context(), tt.command, 0)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got error %v, want %s", err, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("the error is not %v", tt.is)
			}
			exit, ok := errors.AsType[*process.ExitError](err)
			if r.Status != tt.status || ok != r.Started || ok && tt.status >= 0 && exit.Status.ExitStatus() != tt.status {
				t.Errorf("got %+v, want status %d", r, tt.status)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name    string
		command process.Command
		want    string
	}{
		{"nothing", process.Command{}, "the command is empty"},
		{"only blanks", process.Command{Cmd: " \n"}, "the command is empty"},
		{"an open quote", process.Command{Cmd: "echo it's"}, `"echo it's" can't be split into words: unterminated single-quoted string (with a shell or with args it is not split)`},
		{"an empty program", process.Command{Cmd: "'' a"}, `"'' a" begins with an empty word, where the program should be`},
		{"a zero byte", process.Command{Cmd: "a", Args: []string{"b\x00"}}, `"b\x00" has a zero byte, which no command can be given`},
		{"a variable without a name", process.Command{Cmd: "a", Env: map[string]string{"": "x"}}, `""="x" can't be an environment variable`},
		{"a variable with a sign in its name", process.Command{Cmd: "a", Env: map[string]string{"a=b": "x"}}, `"a=b"="x" can't be an environment variable`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.command.Validate(); err == nil || err.Error() != tt.want {
				t.Errorf("got error %v, want %s", err, tt.want)
			}
		})
	}
	if err := (process.Command{Cmd: "echo it's", Shell: sh}).Validate(); err != nil {
		t.Errorf("a script is not split, and got %v", err)
	}
}

func TestStringIsShort(t *testing.T) {
	c := process.Command{Cmd: "echo", Args: []string{"line\n" + strings.Repeat("é", 100)}}
	if got, want := c.String(), `"echo line\n`+strings.Repeat("é", 45)+`…"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: only root may run commands as others")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("needs a user nobody:", err)
	}
	const show = "echo $(id -u):$(id -g):$(id -G):$HOME:$USER:$LOGNAME"
	home := nobody.HomeDir + ":nobody:nobody\n"
	ours := os.Getenv("HOME") + ":" + os.Getenv("USER") + ":" + os.Getenv("LOGNAME") + "\n"
	tests := []struct {
		name    string
		command process.Command
		want    string
	}{
		{"a user by name", process.Command{User: "nobody"}, nobody.Uid + ":" + nobody.Gid + ":" + nobody.Gid + ":" + home},
		{"a user by number", process.Command{User: nobody.Uid}, nobody.Uid + ":" + nobody.Gid + ":" + nobody.Gid + ":" + home},
		{"a user and a group", process.Command{User: "nobody", Group: "daemon"}, nobody.Uid + ":1:1 " + nobody.Gid + ":" + home},
		{"numbers that nobody has", process.Command{User: "54321", Group: "54322"}, "54321:54322:54322:" + ours},
		{"the environment wins", process.Command{User: "nobody", Env: map[string]string{"HOME": "/x"}}, nobody.Uid + ":" + nobody.Gid + ":" + nobody.Gid + ":/x:nobody:nobody\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.command.Cmd, tt.command.Shell, tt.command.Dir = show, sh, "/"
			r, err := process.Run(t.Context(), tt.command, 0)
			if err != nil || r.Stdout != tt.want {
				t.Errorf("got %q, %v; want %q", r.Stdout, err, tt.want)
			}
		})
	}
	t.Run("a group alone keeps the user", func(t *testing.T) {
		r, err := process.Run(t.Context(), process.Command{Cmd: "echo $(id -u):$(id -g)", Shell: sh, Group: "daemon"}, 0)
		if err != nil || r.Stdout != "0:1\n" {
			t.Errorf("got %q, %v", r.Stdout, err)
		}
	})
	t.Run("only root switches users", func(t *testing.T) {
		// The test program runs again, from a place that this user can read: see asNobody.
		bin := filepath.Join("/tmp", fmt.Sprintf("process-test-%d", os.Getpid()))
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		write(t, bin, string(self), 0o755)
		t.Cleanup(func() { _ = os.Remove(bin) })
		r, err := process.Run(t.Context(), process.Command{Cmd: bin, Dir: "/",
			User: "nobody", Env: map[string]string{"TEST_AS_NOBODY": "1"}}, 0)
		if err != nil {
			t.Errorf("%v\n%s", err, r.Output)
		}
	})
}

// asNobody runs in a process of that user.
func asNobody() error {
	_, err := process.Run(context.Background(), process.Command{Cmd: "/bin/true", User: "root"}, 0)
	if want := `"/bin/true": operation not permitted (only root may run a command as another user or group)`; err == nil || err.Error() != want {
		return fmt.Errorf("got error %v, want %s", err, want)
	}
	r, err := process.Run(context.Background(), process.Command{Cmd: "id -un", User: "nobody"}, 0)
	if err != nil || r.Stdout != "nobody\n" {
		return fmt.Errorf("who asks for the user that it is got %q, %v", r.Stdout, err)
	}
	return nil
}

func TestTimeout(t *testing.T) {
	start := time.Now()
	r, err := process.Run(t.Context(), process.Command{Cmd: "echo before; sleep 100", Shell: sh}, 200*time.Millisecond)
	if want := `"echo before; sleep 100" timed out after 200ms`; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if r.Output != "before\n" || r.Status != -1 || !r.Started {
		t.Errorf("got %+v", r)
	}
	if d := time.Since(start); d < 200*time.Millisecond || d >= process.Grace {
		t.Errorf("it took %v, although sleep ends at once", d)
	}
}

// TestCancelEndsTheGroup looks whether anybody is left of a command with children when
// Wait returns.
func TestCancelEndsTheGroup(t *testing.T) {
	tests := []struct {
		name   string
		script string
		slow   bool // somebody must be killed
	}{
		{"a pipe of programs", "echo $$; sleep 1000 | sleep 1000", false},
		{"children in the background", "sleep 1000 & sleep 1000 & echo $$; wait", false},
		{"a leader that exits with 0", "trap 'exit 0' TERM; echo $$; while :; do sleep 0.01; done", false},
		{"a stopped leader", "echo $$; kill -STOP $$; sleep 1000", false},
		{"a leader that ignores SIGTERM", "trap '' TERM; echo $$; sleep 1000", true},
		{"a child that outlives its leader", "(trap '' TERM; echo $$; while :; do sleep 1; done) & wait", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			out := newLines(1)
			p, err := process.Start(process.Command{Cmd: tt.script, Shell: sh}, out, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- p.Wait(ctx) }()
			pgid, err := strconv.Atoi(out.next(t))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(tt.script, "STOP") {
				waitFor(t, "the leader to stop", func() bool { return state(pgid) == "T" })
			}
			start := time.Now()
			cancel(errors.New("enough"))
			err = receive(t, done)
			took := time.Since(start)
			if err == nil || !strings.HasSuffix(err.Error(), "was ended: enough") {
				t.Errorf("got error %v", err)
			}
			if left := members(t, pgid); len(left) > 0 {
				t.Errorf("of the group are left %v", left)
			}
			if killed := took >= process.Grace; killed != tt.slow {
				t.Errorf("it took %v, and SIGKILL is sent after %v", took, process.Grace)
			}
		})
	}
}

func TestCancelledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "ran")
	if r, err := process.Run(ctx, process.Command{Cmd: "touch " + file}, 0); !errors.Is(err, context.Canceled) || r.Started {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the command ran: %v", err)
	}
}

func TestBackgroundHoldsTheOutput(t *testing.T) {
	start := time.Now()
	r, err := process.Run(t.Context(), process.Command{Cmd: "sleep 1000 & echo $!; echo error >&2", Shell: sh}, 0)
	took := time.Since(start)
	pid, _ := strconv.Atoi(strings.TrimSpace(r.Stdout))
	if err != nil || pid == 0 || r.Stderr != "error\n" {
		t.Fatalf("got %+v, %v", r, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("what was left in the background did not live on: %v", err)
	}
	if took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestSlowReader writes more than a pipe holds, to somebody who is slower than the
// time that output may take after the end of the process.
func TestSlowReader(t *testing.T) {
	var got strings.Builder
	slow := writerFunc(func(b []byte) (int, error) {
		if got.Len() == 0 {
			time.Sleep(time.Second)
		}
		return got.Write(b)
	})
	p, err := process.Start(process.Command{Cmd: "seq 10000; sleep 1000 2>/dev/null & echo $!", Shell: sh}, slow, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(got.String()), "\n")
	if len(lines) != 10001 || lines[9999] != "10000" {
		t.Fatalf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	pid, _ := strconv.Atoi(lines[10000])
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

func TestWriterFails(t *testing.T) {
	failing := writerFunc(func([]byte) (int, error) { return 0, errors.New("full") })
	p, err := process.Start(process.Command{Cmd: "yes"}, failing, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end by the context", err)
	}
}

func TestLongOutputIsCut(t *testing.T) {
	const size = 10 << 20
	r, err := process.Run(t.Context(), process.Command{Cmd: fmt.Sprintf("echo begin; head -c %d /dev/zero | tr '\\0' x; echo end", size), Shell: sh}, 0)
	if err != nil {
		t.Fatal(err)
	}
	note := fmt.Sprintf("\n… %d bytes cut …\n", size+len("begin\nend\n")-2*process.Keep)
	head, tail, ok := strings.Cut(r.Stdout, note)
	if !ok || len(head) != process.Keep || len(tail) != process.Keep || !strings.HasPrefix(head, "begin\nx") || !strings.HasSuffix(tail, "xend\n") {
		t.Errorf("got %d bytes, and the note %q is there: %v", len(r.Stdout), note, ok)
	}
	if r.Output != r.Stdout {
		t.Error("the combined output differs")
	}
}

func TestCapture(t *testing.T) {
	for _, size := range []int{0, 1, process.Keep, 2 * process.Keep, 2*process.Keep + 1, 3 * process.Keep, 7*process.Keep + 123} {
		for _, step := range []int{1, 1000, process.Keep, 3*process.Keep - 1} {
			t.Run(fmt.Sprintf("%d bytes in steps of %d", size, step), func(t *testing.T) {
				all := make([]byte, size)
				for i := range all {
					all[i] = byte('a' + i%23)
				}
				var c process.Capture
				for rest := all; len(rest) > 0; rest = rest[min(step, len(rest)):] {
					if n, err := c.Write(rest[:min(step, len(rest))]); n != min(step, len(rest)) || err != nil {
						t.Fatal(n, err)
					}
				}
				want := string(all)
				if size > 2*process.Keep {
					want = fmt.Sprintf("%s\n… %d bytes cut …\n%s", all[:process.Keep], size-2*process.Keep, all[size-process.Keep:])
				}
				if got := c.String(); got != want {
					t.Errorf("got %d bytes, want %d", len(got), len(want))
				}
			})
		}
	}
}

// TestBusyProgram runs a program while somebody has it open for writing, as a fork at
// the wrong moment does.
func TestBusyProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "busy")
	write(t, file, "#!/bin/sh\necho ran\n", 0o755)
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { time.Sleep(20 * time.Millisecond); _ = f.Close() })
	defer wg.Wait()
	if r, err := process.Run(t.Context(), process.Command{Cmd: file}, 0); err != nil || r.Stdout != "ran\n" {
		t.Errorf("got %q, %v", r.Stdout, err)
	}
}

// TestThreads waits for many commands at once and counts our threads.
func TestThreads(t *testing.T) {
	const commands, most = 500, 100
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	started := newLines(commands)
	for range commands {
		running.Go(func() {
			p, err := process.Start(process.Command{Cmd: "echo; exec sleep 1000", Shell: sh}, started, io.Discard)
			if err != nil {
				t.Error(err)
				cancel()
				return
			}
			if err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	for range commands {
		if ctx.Err() == nil {
			started.next(t)
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nThreads:")
	threads, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil || threads >= most {
		t.Errorf("%d threads wait for %d commands (%v), want fewer than %d", threads, commands, err, most)
	}
	t.Logf("%d threads for %d commands", threads, commands)
	cancel()
	running.Wait()
}

func TestWithoutPidfd(t *testing.T) {
	cmd := exec.Command("sleep", "0.05")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !process.WaitID(cmd.Process.Pid) {
		t.Error("it gave up")
	}
	if s := state(cmd.Process.Pid); s != "Z" {
		t.Errorf("the process is in state %q, want a zombie that can still be signalled", s)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNoDescriptorIsLeftOpen(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	commands := []process.Command{{Cmd: "true"}, {Cmd: "no-such-program"}, {Cmd: "/etc/passwd"}, {Cmd: "false"}}
	run := func() {
		for _, c := range commands {
			_, _ = process.Run(t.Context(), c, time.Minute)
		}
	}
	run() // opens what the process keeps open
	before := count()
	for range 10 {
		run()
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before and %d after", before, after)
	}
}

func BenchmarkRun(b *testing.B) {
	b.Run("process.Run", func(b *testing.B) {
		for b.Loop() {
			if _, err := process.Run(b.Context(), process.Command{Cmd: "/bin/true"}, time.Minute); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("os.exec", func(b *testing.B) {
		for b.Loop() {
			if _, err := exec.CommandContext(b.Context(), "/bin/true").Output(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// lines is a writer whose lines can be waited for.
type lines struct {
	ch   chan string
	mu   sync.Mutex
	part string
}

func newLines(n int) *lines { return &lines{ch: make(chan string, n)} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part += string(b)
	for {
		line, rest, ok := strings.Cut(l.part, "\n")
		if !ok {
			return len(b), nil
		}
		l.ch <- line
		l.part = rest
	}
}

func (l *lines) next(t *testing.T) string {
	t.Helper()
	return receive(t, l.ch)
}

func receive[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(30 * time.Second):
		t.Fatal("waited too long")
	}
	return v
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// members are the living processes of a group.
func members(t *testing.T, pgid int) (pids []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stats {
		b, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 2 && f[0] != "Z" && f[2] == strconv.Itoa(pgid) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}

// state is the letter that ps shows for a process.
func state(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	s, _, _ := strings.Cut(rest, " ")
	return s
}

func write(t *testing.T, file, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
