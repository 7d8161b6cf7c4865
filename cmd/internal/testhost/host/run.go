package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Command is what Run runs.
type Command struct {
	Args []string // the program, by path or to be looked for in the PATH of the host
	Dir  string   // where; "/" if empty
	Env  []string // NAME=value, besides what systemd gives a service

	Stdin          io.Reader // nothing if nil
	Stdout, Stderr io.Writer // nowhere if nil. An *os.File is handed over as it is

	// Signals are handed to the program, by number.
	Signals <-chan int
}

// Run runs a command as root, as a transient service of its own, and waits for its
// end. All that it started ends with it. The error is an [exec.ExitError] with the
// program's exit status if that is not zero; 255 stands for a program that a signal
// killed. It is another one if contact was lost: a client of systemd's hears of the end
// over the system bus, and the program may have restarted that, or systemd. When ctx ends,
// the service is killed.
func (h *Host) Run(ctx context.Context, c Command) error {
	h.mu.Lock()
	h.units++
	unit := "testhost-run-" + strconv.Itoa(h.units) + ".service"
	h.mu.Unlock()

	verdict := "/run/" + unit
	args := []string{
		"systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--service-type=exec", "--unit=" + unit,
		"--property=TasksMax=infinity", "--property=TimeoutStopSec=1s",
		"--property=ExecStopPost=/bin/sh " + noteScript + " " + verdict,
	}
	if err := h.put(noteScript, noteText); err != nil {
		return err
	}
	if c.Dir != "" {
		args = append(args, "--working-directory="+c.Dir)
	}
	for _, e := range c.Env {
		args = append(args, "--setenv="+e)
	}
	args = append(args, "--", c.Args[0])
	for _, a := range c.Args[1:] {
		args = append(args, strings.ReplaceAll(a, "$", "$$")) // systemd expands variables
	}
	cmd := exec.CommandContext(ctx, "nsenter", h.enter(args)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.Env = []string{"PATH=" + searchPath}
	signal := func(number int) error {
		// Not with ctx, which may have ended.
		return exec.Command("nsenter", h.enter([]string{"systemctl", "kill", "--kill-who=main", "--signal=" + strconv.Itoa(number), unit})...).Run()
	}
	// The client is not killed: it ends when the service does, or the host. The service
	// may not have started yet.
	cmd.Cancel = func() error {
		for signal(9) != nil && cmd.Process.Signal(syscall.Signal(0)) == nil {
			<-time.After(10 * time.Millisecond)
		}
		return nil
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		for {
			select {
			case <-ended:
				return
			case s := <-c.Signals:
				_ = signal(s) // nothing to do if it has ended
			}
		}
	}()
	watched := make(chan bool)
	go func() { watched <- h.hangUp(cmd.Process.Pid, verdict, ended) }()
	err := cmd.Wait()
	close(ended)
	if <-watched {
		err = errDeaf
	}
	<-forwarded
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if ee, ok := errors.AsType[*exec.ExitError](err); ok && ee.ExitCode() < 0 {
		return fmt.Errorf("the test host ended before %s did: %w", c.Args[0], err)
	}
	return h.confirm(ctx, c, unit, verdict, signal, err)
}

// errDeaf says that a client has not heard of the end of its service: systemd leaves the
// system bus for a moment when it has more to say than the bus takes.
var errDeaf = errors.New("the client of systemd did not hear of the end")

// hangUp ends a client that goes on although its service has ended, and returns whether it
// had to. The client is a child of the process.
func (h *Host) hangUp(process int, verdict string, ended <-chan struct{}) bool {
	const every, patience = 200 * time.Millisecond, 5 * time.Second
	var since time.Time
	for tick := time.NewTicker(every); ; {
		select {
		case <-ended:
			tick.Stop()
			return false
		case now := <-tick.C:
			if _, err := os.Stat(h.path(verdict)); err != nil {
				continue
			}
			if since.IsZero() {
				since = now
			}
			if now.Sub(since) < patience {
				continue
			}
		}
		tick.Stop()
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", process))
		for _, child := range append(strings.Fields(string(children)), strconv.Itoa(process)) {
			if pid, err := strconv.Atoi(child); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return true
	}
}

// noteScript is a script that writes down how a service has ended. It is a file since systemd
// garbles a command with semicolons when it reads a transient unit anew.
const (
	noteScript = "/run/testhost-note"
	noteText   = `echo "$EXIT_CODE $EXIT_STATUS" >"$1.new" && mv "$1.new" "$1"` + "\n"
)

// put writes a file in the host.
func (h *Host) put(path, text string) error {
	err := os.WriteFile(h.path(path), []byte(text), 0o600)
	if err != nil {
		return fmt.Errorf("the test host has ended: %w", err)
	}
	return nil
}

// path is how a path of the host is reached from here.
func (h *Host) path(path string) string { return fmt.Sprintf("/proc/%d/root%s", h.Leader, path) }

// confirm waits until a command has ended, of which its client says told: that may be that
// it has lost contact, or nothing, by mistake.
func (h *Host) confirm(ctx context.Context, c Command, unit, verdict string, signal func(int) error, told error) error {
	ended := false
	for {
		text, err := os.ReadFile(h.path(verdict))
		switch {
		case err == nil:
			_ = os.Remove(h.path(verdict))
			return judge(c.Args[0], strings.TrimSpace(string(text)), told)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("the test host ended before %s did: %w", c.Args[0], err)
		case ended:
			return told // it could not even be tried
		}
		if told != nil {
			// By a socket of systemd's own.
			state, err := exec.CommandContext(ctx, "nsenter", h.enter([]string{"systemctl", "show", "--value", "--property=ActiveState", unit})...).Output()
			switch strings.TrimSpace(string(state)) {
			case "inactive", "failed":
				ended = err == nil
				continue
			}
		}
		select {
		case <-ctx.Done():
			_ = signal(9)
			return context.Cause(ctx)
		case <-h.Exited():
			return fmt.Errorf("the test host ended before %s did", c.Args[0])
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// judge makes an error of how a program has ended, as systemd.exec(5) has it for
// $EXIT_CODE and $EXIT_STATUS, and of what was told about it.
func judge(program, how string, told error) error {
	if how == "exited 0" {
		return nil
	}
	if ee, ok := errors.AsType[*exec.ExitError](told); ok {
		if status, exited := strings.CutPrefix(how, "exited "); !exited || status == strconv.Itoa(ee.ExitCode()) {
			return told
		}
	}
	return fmt.Errorf("contact with %s was lost, and then it ended: %s", program, how)
}

// Output runs a command and returns what it printed, without the last line end. Its
// error has what it printed on standard error.
func (h *Host) Output(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	err := h.Run(ctx, Command{Args: args, Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		err = fmt.Errorf("%s in a test host: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSuffix(stdout.String(), "\n"), err
}

// searchPath finds systemd's programs, here and in a host.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (h *Host) enter(args []string) []string {
	return append([]string{"--target=" + strconv.Itoa(h.Leader), "--all", "--"}, args...)
}
