package backend

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mgmtproject/mgmt/sources/packages/dpkg"
)

// environ is that of programs that ask nobody and speak English.
func environ() []string {
	env := os.Environ()
	path := os.Getenv("PATH")
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} { // dpkg insists
		if !strings.Contains(":"+path+":", ":"+dir+":") {
			path = strings.TrimPrefix(path+":"+dir, ":")
		}
	}
	return append(env, "PATH="+path, "LC_ALL=C.UTF-8", "LANGUAGE=", "DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
		"APT_LISTCHANGES_FRONTEND=none", "APT_LISTBUGS_FRONTEND=none", "NEEDRESTART_SUSPEND=1", "UCF_FORCE_CONFFOLD=1")
}

// ask runs a program that changes nothing, and returns its standard output.
func (a *apt) ask(ctx context.Context, name string, args ...string) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environ()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, complaint(name, stderr.String(), err)
	}
	return out, nil
}

// free waits until nobody holds one of the locks.
func (a *apt) free(ctx context.Context, locks []string) error {
	return waitFree(ctx, a.Options, locks)
}

func waitFree(ctx context.Context, o Options, locks []string) error {
	began, waited := time.Now(), false
	err := dpkg.WaitFree(ctx, locks, func(h dpkg.Holder) {
		waited = true
		o.Log.Info("waiting for the lock of the package manager", "held by", h.String(), "lock", h.Path)
	})
	if waited && err == nil {
		o.Log.Debug("the lock of the package manager is free", "after", time.Since(began))
	}
	return err
}

// pause is how long to wait when a lock could not be had that nobody seems to hold.
const pause = time.Second

// change runs a program that changes something, and returns what it said. It waits for
// the locks; if somebody else has taken one in the meantime, once more.
func (a *apt) change(ctx context.Context, locks []string, name string, args ...string) (string, error) {
	for {
		if err := a.free(ctx, locks); err != nil {
			return "", err
		}
		out, err := a.run(ctx, name, args...)
		if err == nil || ctx.Err() != nil || !lockTrouble(out) {
			return out, err
		}
		if h, err := dpkg.Held(locks); err == nil && h == nil {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
	}
}

// lockTrouble reports whether a program has failed since it did not get a lock.
func lockTrouble(out string) bool {
	return strings.Contains(out, "Could not get lock") || strings.Contains(out, "lock was locked by another process") ||
		strings.Contains(out, "is locked by another process")
}

// grace is how long a program may take to end that was asked to.
const grace = 5 * time.Second

// run starts a program in a process group of its own, so that Ctrl-C on a terminal does
// not reach dpkg. When ctx is done it ends the program, unless dpkg has begun to work:
// what that leaves when it is killed needs a hand to repair.
func (a *apt) run(ctx context.Context, name string, args ...string) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	a.Log.Debug("running", "program", name, "args", strings.Join(args, " "))
	var said tail
	status, end, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer status.Close()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir = environ(), "/"
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.ExtraFiles = []*os.File{end} // 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 2 * time.Second // a daemon that was started may keep the pipes
	err = cmd.Start()
	end.Close()
	if err != nil {
		return "", err
	}
	var working atomic.Bool
	working.Store(name == "dpkg")
	var readers sync.WaitGroup
	readers.Go(func() { a.follow(status, &working) })
	done := make(chan struct{})
	readers.Go(func() { a.guard(ctx, cmd.Process, &working, done) })
	err = cmd.Wait()
	close(done)
	status.Close()
	readers.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if err != nil && ctx.Err() != nil && !working.Load() {
		return said.String(), context.Cause(ctx)
	}
	if err != nil {
		err = complaint(name, said.String(), err)
	}
	return said.String(), err
}

// guard ends a program when ctx is done, until done is closed.
func (a *apt) guard(ctx context.Context, p *os.Process, working *atomic.Bool, done <-chan struct{}) {
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	if working.Load() {
		a.Log.Info("waiting for dpkg to complete what it has begun")
		return
	}
	_ = p.Signal(syscall.SIGINT)
	select {
	case <-done:
	case <-time.After(grace):
		if !working.Load() {
			_ = p.Kill()
		}
	}
}

// follow logs the progress that apt reports, in lines such as
// "pmstatus:hello:40.0000:Unpacking hello (amd64)", and notes when dpkg begins to work.
func (a *apt) follow(status io.Reader, working *atomic.Bool) {
	progress := Progress{Log: a.Log}
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		f := strings.SplitN(lines.Text(), ":", 4)
		if len(f) < 4 {
			continue
		}
		if f[0] == "pmstatus" {
			working.Store(true)
		}
		percent, err := strconv.ParseFloat(f[2], 64)
		if err != nil { // of a package with an architecture: one colon more
			name, rest, _ := strings.Cut(f[3], ":")
			percent, err = strconv.ParseFloat(name, 64)
			f[3] = rest
		}
		if err != nil {
			percent = -1
		}
		progress.Step(f[3], percent)
	}
}

// tail keeps the end of what a program says.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 64 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// complaint is the error of a program: what it said, in the order of how well that tells
// what was wrong.
func complaint(name, said string, err error) error {
	const removed = "The following packages will be REMOVED:\n"
	if i := strings.Index(said, removed); i >= 0 && strings.Contains(said, "remove is disabled") {
		list := said[i+len(removed):]
		for j := 0; j < len(list); j++ { // its lines are indented
			if list[j] == '\n' && (j+1 == len(list) || list[j+1] != ' ') {
				list = list[:j]
			}
		}
		return inTheWay(strings.Fields(list))
	}
	var lines []string
	all := strings.Split(strings.ReplaceAll(said, "\r", "\n"), "\n")
	for i, line := range all {
		text, broken := strings.CutPrefix(line, "dpkg: error processing ")
		if !broken {
			continue
		}
		if i+1 < len(all) && strings.HasPrefix(all[i+1], " ") {
			text += " " + strings.TrimSpace(all[i+1])
		}
		lines = append(lines, text)
	}
	if len(lines) == 0 {
		for _, line := range all {
			if text, ok := strings.CutPrefix(line, "E: "); ok {
				lines = append(lines, strings.TrimSpace(text))
			}
		}
	}
	if i := strings.Index(said, "The following packages have unmet dependencies:"); i >= 0 {
		for line := range strings.Lines(said[i:]) {
			if strings.HasPrefix(line, " ") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	const most = 5
	if len(lines) > most {
		lines = append(lines[:most], "…")
	}
	if len(lines) == 0 {
		last := strings.TrimSpace(said)
		if i := strings.LastIndexByte(last, '\n'); i >= 0 {
			last = last[i+1:]
		}
		if last == "" {
			return fmt.Errorf("%s: %w", name, err)
		}
		return fmt.Errorf("%s: %w: %s", name, err, last)
	}
	return fmt.Errorf("%s: %s", name, strings.Join(lines, "; "))
}

// inTheWay is the error of an installation for which others would have to go.
func inTheWay(names []string) error {
	return fmt.Errorf("it can't be installed beside %s: have a pkg resource that is uninstalled for what shall go", strings.Join(names, ", "))
}
