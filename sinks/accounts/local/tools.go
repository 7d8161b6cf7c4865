package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources/command/process"
)

// The tools, by the path at which most systems have them.
const (
	Useradd  = "/usr/sbin/useradd"
	Usermod  = "/usr/sbin/usermod"
	Userdel  = "/usr/sbin/userdel"
	Groupadd = "/usr/sbin/groupadd"
	Groupmod = "/usr/sbin/groupmod"
	Groupdel = "/usr/sbin/groupdel"
)

// tail is how long a tool may go on when its caller is in a hurry. It takes milliseconds
// for its work, and one that is killed in the middle of it leaves lock files behind, or a
// user without a password entry.
const tail = time.Second

// turn is held by whoever runs a tool: of two at once one would fail, since the tools do
// not wait for each other.
var turn = make(chan struct{}, 1)

// lockFile is locked by whoever changes a database of accounts, see lckpwdf(3).
var lockFile = "/etc/.pwd.lock"

// Run runs a tool to change the databases, after those of other resources. While another
// process has the databases locked it waits for that, and says so in the log. A tool that
// runs when ctx is done may finish its work, if that takes no longer than a second.
//
// It fails if this process is not root, if there is no such tool, with the cause of ctx,
// and with what the tool says.
func Run(ctx context.Context, log *slog.Logger, tool string, args ...string) error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("only root can change accounts, and this process runs as the user %d", uid)
	}
	path, err := find(tool)
	if err != nil {
		return err
	}
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w := waiter{log: log}
	for {
		if err := w.unlocked(ctx); err != nil {
			return err
		}
		said, err := run(ctx, path, args)
		if err == nil || !strings.Contains(said, "cannot lock") {
			return err
		}
		if err := w.pause(ctx, firstLine(said)); err != nil {
			return err
		}
	}
}

// run returns what the tool writes to standard error.
func run(ctx context.Context, path string, args []string) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	own, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	defer context.AfterFunc(ctx, func() {
		timer := time.NewTimer(tail)
		defer timer.Stop()
		select {
		case <-timer.C:
			end(context.Cause(ctx))
		case <-own.Done():
		}
	})()
	c := process.Command{Cmd: path, Args: args, Env: map[string]string{"LC_ALL": "C"}} // "cannot lock" is looked for
	result, err := process.Run(own, c, 0)
	return result.Stderr, err
}

// find is the tool's path on this host: /usr/bin and /sbin are others that are in use.
func find(tool string) (string, error) {
	_, err := os.Stat(tool)
	if !errors.Is(err, fs.ErrNotExist) {
		return tool, nil
	}
	name := tool[strings.LastIndexByte(tool, '/')+1:]
	for _, path := range []string{name, "/sbin/" + name} {
		if path, err := exec.LookPath(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s on this host, by which accounts are changed: install the package passwd (Debian, Ubuntu), shadow-utils (Fedora, SUSE) or shadow (Arch, Alpine)", tool)
}

// waiter waits for others who have the databases locked.
type waiter struct {
	log  *slog.Logger
	next time.Duration // 0 if it has not waited yet
}

// unlocked returns when nobody holds the lock. It does not take it, since the tool will.
func (w *waiter) unlocked(ctx context.Context) error {
	for {
		pid := holder()
		if pid == 0 {
			return nil
		}
		who := "another process"
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil {
			who = fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(comm)), pid)
		}
		if err := w.pause(ctx, "locked by "+who); err != nil {
			return err
		}
	}
}

// patience is how long it waits without a word: others are done in milliseconds.
const patience = 160 * time.Millisecond

// pause waits a moment, each time a longer one, up to a second.
func (w *waiter) pause(ctx context.Context, why string) error {
	if w.next == 0 {
		w.next = 5 * time.Millisecond
	}
	if w.next == patience {
		w.log.Warn("waiting for the databases of accounts", "why", why)
	}
	timer := time.NewTimer(min(w.next, time.Second))
	defer timer.Stop()
	w.next *= 2
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the databases of accounts are busy: %s: %w", why, context.Cause(ctx))
	}
}

// holder is the process that has locked the databases, -1 if it is not known which, and 0
// if there is none.
func holder() int32 {
	f, err := os.Open(lockFile)
	if err != nil {
		return 0 // nobody has ever locked it, or the tool will say what is wrong
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return 0
	}
	if lock.Pid <= 0 { // it is in another PID namespace, or has an open file description lock
		return -1
	}
	return lock.Pid
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// Elsewhere explains the error of a tool that refuses to make an account since there is one
// of that name, to whoever has not found it in the database.
func Elsewhere(err error, database string) error {
	const inUse = 9 // see useradd(8) and groupadd(8)
	if e, ok := errors.AsType[*process.ExitError](err); ok && e.Status.ExitStatus() == inUse {
		return fmt.Errorf("%w: it is not in %s, so it comes from another database of /etc/nsswitch.conf, where it can't be managed from here", err, database)
	}
	return err
}
