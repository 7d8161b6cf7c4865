package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Grace is how long a process group may take to end after SIGTERM, before it gets
	// SIGKILL.
	Grace = 2 * time.Second

	// killLimit bounds the wait for a process after SIGKILL: one that hangs in the
	// kernel, or whom we may not signal, must not hold us.
	killLimit = time.Second

	// drainLimit bounds the wait for the end of the output after the end of the
	// process. What it has written is there at once; but what it left in the
	// background may hold the output open for ever.
	drainLimit = 500 * time.Millisecond

	// drainMost bounds what is read after drainLimit: the most that a pipe may hold
	// with the kernel's defaults, and so the most that the process left in it.
	drainMost = 1 << 20
)

// errStuck is in the error of a process that outlives SIGKILL.
var errStuck = errors.New("it hangs in the kernel, or may not be signalled by us")

// An ExitError says that a command ended in another way than with status 0.
type ExitError struct {
	Command Command
	Status  syscall.WaitStatus
	Last    string // the last line of its standard error; empty if not known
}

// Error is such as: "false" exited with status 1: the last line of its standard error.
func (e *ExitError) Error() string {
	how := fmt.Sprintf("exited with status %d", e.Status.ExitStatus())
	if e.Status.Signaled() {
		how = "was killed by " + unix.SignalName(e.Status.Signal())
	}
	if e.Last != "" {
		how += ": " + e.Last
	}
	return e.Command.String() + " " + how
}

// WithLastLine completes an *ExitError of Wait with what the command has written to
// standard error; it returns any other error as it is.
func WithLastLine(err error, stderr *Capture) error {
	if e, ok := errors.AsType[*ExitError](err); ok {
		e.Last = lastLine(stderr.String())
	}
	return err
}

// Process is a command that has been started and must be waited for.
type Process struct {
	command Command
	process *os.Process
	exit    exit
	outputs []output
}

// output is one stream of a process and where it goes.
type output struct {
	pipe *os.File
	to   io.Writer
}

// Start starts a command whose standard input is empty. Its output is written to stdout
// and stderr while Wait runs, by a goroutine each; a writer that fails gets no more. The
// caller must call Wait.
func Start(c Command, stdout, stderr io.Writer) (_ *Process, err error) {
	cmd, err := c.prepare()
	if err != nil {
		return nil, err
	}
	p := &Process{command: c}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, o := range []struct {
		to    io.Writer
		child *io.Writer
	}{{stdout, &cmd.Stdout}, {stderr, &cmd.Stderr}} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
		defer w.Close()
		p.outputs = append(p.outputs, output{r, o.to})
		*o.child = w
	}
	started, err := start(cmd)
	if err != nil {
		return nil, c.explain(cmd, err)
	}
	p.process = started.Process
	p.exit = newExit(p.process.Pid)
	return p, nil
}

// prepare finds the program and who it runs as.
func (c Command) prepare() (*exec.Cmd, error) {
	argv, err := c.argv()
	if err != nil {
		return nil, err
	}
	who, err := identify(c.User, c.Group)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", argv[0], err)
	}
	file, err := c.find(argv[0])
	if err != nil {
		if e, ok := errors.AsType[*exec.Error](err); ok {
			err = e.Err
		}
		return nil, fmt.Errorf("%q: %w", argv[0], err)
	}
	return &exec.Cmd{
		Path:        file,
		Args:        argv,
		Env:         c.environ(who.env),
		Dir:         c.Dir,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Credential: who.credential},
	}, nil
}

// start starts cmd, or a copy of it. A program that has just been written is busy for
// as long as another child, forked meanwhile, has not yet closed the file that it
// inherited: a moment, during which it is tried again.
func start(cmd *exec.Cmd) (*exec.Cmd, error) {
	for pause := time.Millisecond; ; pause *= 2 {
		try := *cmd
		err := try.Start()
		if !errors.Is(err, syscall.ETXTBSY) || pause > 200*time.Millisecond {
			return &try, err
		}
		time.Sleep(pause)
	}
}

// explain finds out what the kernel meant by the error with which it refused to start
// a program.
func (c Command) explain(cmd *exec.Cmd, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	if c.Dir != "" {
		if info, e := os.Stat(c.Dir); e != nil || !info.IsDir() {
			if !errors.As(e, new(*fs.PathError)) {
				e = &fs.PathError{Op: "chdir", Path: c.Dir, Err: syscall.ENOTDIR}
			}
			return fmt.Errorf("%q: working directory: %w", cmd.Args[0], e)
		}
	}
	hint := ""
	switch {
	case errors.Is(err, syscall.EPERM) && cmd.SysProcAttr.Credential != nil:
		hint = " (only root may run a command as another user or group)"
	case errors.Is(err, syscall.ENOEXEC):
		hint = " (a script needs a first line such as #!/bin/sh)"
	case errors.Is(err, fs.ErrNotExist):
		file := cmd.Path
		if !filepath.IsAbs(file) {
			file = filepath.Join(c.Dir, file)
		}
		if _, e := os.Stat(file); e == nil {
			hint = " (the file is there, but the interpreter that it names is not)"
		}
	}
	return fmt.Errorf("%q: %w%s", cmd.Args[0], err, hint)
}

// Wait returns when the command has ended: nil after status 0, an *ExitError otherwise.
// When ctx is done before that, it ends the whole process group, with SIGTERM and after
// Grace with SIGKILL, and returns once that is gone, with an error that wraps the cause
// of ctx. What the command left in the background lives on after it has ended by itself,
// but its output is no longer read.
func (p *Process) Wait(ctx context.Context) error {
	defer p.close()
	var readers sync.WaitGroup
	for _, o := range p.outputs {
		readers.Go(o.copy)
	}

	exited, signalled := make(chan struct{}), make(chan struct{})
	var deadline time.Time
	stop := context.AfterFunc(ctx, func() {
		defer close(signalled)
		deadline = time.Now().Add(Grace)
		p.end(exited)
	})
	gone := p.exit.wait()
	close(exited)
	ended := !stop()
	if ended {
		<-signalled
	}

	if !gone {
		go p.process.Wait() //nolint:errcheck // whenever that is: it must not stay a zombie
		for _, o := range p.outputs {
			_ = o.pipe.SetReadDeadline(time.Now())
		}
		readers.Wait()
		return fmt.Errorf("%s was to be ended (%w), but %w", p.command, context.Cause(ctx), errStuck)
	}
	state, err := p.process.Wait()

	limit := time.Now()
	if ended {
		p.endRest(deadline)
	} else {
		limit = limit.Add(drainLimit)
	}
	for _, o := range p.outputs {
		_ = o.pipe.SetReadDeadline(limit)
	}
	readers.Wait()

	switch {
	case ended:
		return fmt.Errorf("%s was ended: %w", p.command, context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("waiting for %s: %w", p.command, err)
	case !state.Success():
		return &ExitError{Command: p.command, Status: state.Sys().(syscall.WaitStatus)}
	}
	return nil
}

// end asks the group to end, and kills it if its leader is still there after Grace.
func (p *Process) end(exited <-chan struct{}) {
	timer := time.NewTimer(Grace)
	defer timer.Stop()
	_ = p.group().signal(syscall.SIGTERM)
	_ = p.group().signal(syscall.SIGCONT) // what is stopped would not notice
	select {
	case <-exited:
		return
	case <-timer.C:
	}
	_ = p.group().signal(syscall.SIGKILL)
	timer.Reset(killLimit)
	select {
	case <-exited:
	case <-timer.C:
		p.exit.giveUp()
	}
}

// endRest returns when nobody is left in the group after its leader has been reaped: it
// lets the others live until deadline and then kills them.
func (p *Process) endRest(deadline time.Time) {
	if !p.group().wait(deadline) {
		_ = p.group().signal(syscall.SIGKILL)
		p.group().wait(time.Now().Add(killLimit))
	}
}

func (p *Process) group() group { return group(p.process.Pid) }

// close gives the descriptors back.
func (p *Process) close() {
	for _, o := range p.outputs {
		_ = o.pipe.Close()
	}
	p.exit.close()
}

// copy writes the output until its end, or until the read deadline and then what is
// there already.
func (o output) copy() {
	buf := make([]byte, 4<<10) // small, since thousands may be waiting
	for {
		n, err := o.pipe.Read(buf)
		if n > 0 {
			if _, err := o.to.Write(buf[:n]); err != nil {
				return
			}
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			o.copyRest(buf)
			return
		case err != nil:
			return
		}
	}
}

// copyRest writes what the pipe holds, and waits for no more.
func (o output) copyRest(buf []byte) {
	_ = o.pipe.SetReadDeadline(time.Time{})
	conn, err := o.pipe.SyscallConn()
	if err != nil {
		return
	}
	for total := 0; total < drainMost; {
		n := 0
		err := conn.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), buf)
			return true
		})
		if err != nil || n <= 0 {
			return
		}
		if _, err := o.to.Write(buf[:n]); err != nil {
			return
		}
		total += n
	}
}
