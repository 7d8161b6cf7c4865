package local_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/accounts/local"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
)

// lockEnv has the test program lock a file, as lckpwdf(3) does, until its input ends.
const lockEnv = "MGMT_TEST_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(lockEnv); path != "" {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			err = unix.FcntlFlock(f.Fd(), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK})
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// another has another process lock the databases until release is called.
func another(t *testing.T) (pid int, release func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), lockEnv+"=/etc/.pwd.lock")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() { in.Close(); _ = cmd.Wait() })
	t.Cleanup(release)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return cmd.Process.Pid, release
}

// journal is a log that a test can look at while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) wait(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(j.String(), want); {
		if time.Now().After(deadline) {
			t.Fatalf("it logs %q, want %q", j, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// host has the test run in a test host, which has its accounts back afterwards.
func host(t *testing.T) {
	t.Helper()
	needs.Systemd(t)
	sinktest.Restore(t, "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid")
}

var discard = slog.New(slog.DiscardHandler)

func there(t *testing.T, group string) bool {
	t.Helper()
	groups, err := local.ReadGroups()
	if err != nil {
		t.Fatal(err)
	}
	_, ok := groups.Named(group)
	return ok
}

// Without the turns that they take most of these would fail.
func TestManyAtOnce(t *testing.T) {
	host(t)
	var running sync.WaitGroup
	for i := range 20 {
		name := fmt.Sprintf("many%d", i)
		running.Go(func() {
			if err := local.Run(t.Context(), discard, local.Groupadd, "--", name); err != nil {
				t.Error(err)
			}
			if err := local.Run(t.Context(), discard, local.Useradd, "--gid", name, "--", name); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	users, err := local.ReadUsers()
	for i := range 20 {
		if _, ok := users.Named(fmt.Sprintf("many%d", i)); err != nil || !ok {
			t.Errorf("user %d is not there (%v)", i, err)
		}
	}
}

func TestLockOfAnotherProcessIsWaitedFor(t *testing.T) {
	host(t)
	for _, tt := range []struct {
		name string
		lock func(t *testing.T) (what string, release func())
	}{
		{"lckpwdf", func(t *testing.T) (string, func()) {
			pid, release := another(t)
			program, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // whatever it was built as
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("locked by %s (process %d)", strings.TrimSpace(string(program)), pid), release
		}},
		{"open file description", func(t *testing.T) (string, func()) {
			f, err := os.OpenFile("/etc/.pwd.lock", os.O_RDWR, 0)
			if err == nil {
				err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
			}
			if err != nil {
				t.Fatal(err)
			}
			return "locked by another process", func() { f.Close() }
		}},
		{"lock file of a tool", func(t *testing.T) (string, func()) {
			if err := os.WriteFile("/etc/group.lock", fmt.Appendf(nil, "%d\x00", os.Getpid()), 0o600); err != nil {
				t.Fatal(err)
			}
			return "lock /etc/group.lock already used by PID", func() { os.Remove("/etc/group.lock") }
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			what, release := tt.lock(t)
			defer release()
			var log journal
			ended := make(chan error, 1)
			name := "waits-" + tt.name[:4]
			go func() {
				ended <- local.Run(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), local.Groupadd, "--", name)
			}()
			log.wait(t, "waiting for the databases of accounts")
			if got := log.String(); !strings.Contains(got, what) {
				t.Errorf("it logs %q, want %q in it", got, what)
			}
			if there(t, name) {
				t.Error("it does not wait")
			}
			release()
			select {
			case err := <-ended:
				if err != nil || !there(t, name) {
					t.Errorf("after the release: %v, the group is there: %v", err, there(t, name))
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it goes on waiting")
			}
			if n := strings.Count(log.String(), "\n"); n != 1 {
				t.Errorf("it logs %d lines, want 1: %s", n, log.String())
			}
		})
	}
}

// Also those are woken that wait for their turn behind one that waits for the lock.
func TestCancelWhileItWaits(t *testing.T) {
	host(t)
	pid, release := another(t)
	defer release()
	if got := local.Holder(); int(got) != pid {
		t.Errorf("the lock is held by %d, want %d", got, pid)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	var log journal
	ended := make(chan error, 3)
	for i := range 3 {
		go func() {
			ended <- local.Run(ctx, slog.New(slog.NewTextHandler(&log, nil)), local.Groupadd, "--", fmt.Sprint("never", i))
		}()
	}
	log.wait(t, "waiting")
	cancel(cause)
	for range 3 {
		select {
		case err := <-ended:
			if !errors.Is(err, cause) {
				t.Errorf("got %v, want the cause of the cancel", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it goes on waiting")
		}
	}
}

// What is begun is ended, so that nothing half done is left.
func TestToolMayFinish(t *testing.T) {
	host(t)
	for _, tt := range []struct {
		name, script string
		want         error
	}{
		{"a tool that is nearly done", "touch /run/began; sleep 0.2; touch /run/ended", nil},
		{"a tool that hangs", "touch /run/began; sleep 100", context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			os.Remove("/run/began")
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- local.Run(ctx, discard, "/bin/sh", "-c", tt.script) }()
			for _, err := os.Stat("/run/began"); err != nil; _, err = os.Stat("/run/began") {
				time.Sleep(time.Millisecond)
			}
			cancel()
			if err := <-ended; !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := os.Stat("/run/ended"); err != nil {
		t.Error("the tool was killed")
	}
}

func TestWhatIsMissingIsTold(t *testing.T) {
	host(t)
	missing := "/usr/sbin/no-such-tool"
	if err := local.Run(t.Context(), discard, missing); err == nil || !strings.Contains(err.Error(), "there is no "+missing+" on this host, by which accounts are changed: install the package passwd") {
		t.Errorf("got %v", err)
	}
	if err := local.Run(t.Context(), discard, "/usr/sbin/sh", "-c", "true"); err != nil {
		t.Errorf("a tool that is elsewhere is not found: %v", err)
	}

	if err := syscall.Setreuid(-1, 65534); err != nil {
		t.Fatal(err)
	}
	err := local.Run(t.Context(), discard, local.Groupadd, "--", "never")
	if err := syscall.Setreuid(-1, 0); err != nil {
		t.Fatal(err)
	}
	if want := "only root can change accounts, and this process runs as the user 65534"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestAccountsOfAnotherDatabase(t *testing.T) {
	host(t)
	err := local.Run(t.Context(), discard, local.Groupadd, "--", "root")
	if got := local.Elsewhere(err, local.GroupFile); got == nil || !errors.Is(got, err) || !strings.Contains(got.Error(), "it comes from another database") {
		t.Errorf("got %v of %v", got, err)
	}
	err = local.Run(t.Context(), discard, local.Groupdel, "--", "root")
	if got := local.Elsewhere(err, local.GroupFile); got != err || err == nil {
		t.Errorf("got %v of %v", got, err)
	}
}
