// Package mesh connects an agent with the mesh: it starts the peer of the host, a program
// of its own that holds what a mesh needs, the first time that something of the mesh is
// asked for, speaks with it over a socket that nobody else has, and starts it again if it
// ends. So an agent without a mesh carries none of that, and one whose peer has died keeps
// its machine as it was.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/wire"
)

const (
	// Socket is the file descriptor at which a peer finds its agent.
	Socket = 3

	// RefusedStatus is the exit status of a peer that can't do what it was asked for, and
	// never will: the settings contradict themselves, or what is safe. It is EX_CONFIG of
	// sysexits.h, and not that of a panic, after which the agent must go on.
	RefusedStatus = 78

	// soonest and latest bound the wait before a peer is started again.
	soonest, latest = 100 * time.Millisecond, 15 * time.Second

	// steady is how long a peer has to live for its end to count as the first one.
	steady = time.Minute
)

// Options are for New.
type Options struct {
	// Settings are passed on to the peer.
	Settings Settings

	// Dir is the directory in which it keeps what has to survive it. Without one it is
	// not started.
	Dir string

	// Program is the peer's; Find looks for it if it is empty.
	Program string

	// Log gets what the peer logs, and what becomes of it.
	Log *slog.Logger

	// Refused is called if the first peer refuses to begin.
	Refused func(error)
}

// Link is a mesh.Store, and a mesh.Vault, behind a peer that is started when it is used.
type Link struct {
	*Current
	opts Options

	failed int // how many peers in a row have ended by themselves

	begin sync.Once
	ended chan struct{}      // closed once there is no peer any more
	stop  context.CancelFunc // has the peer leave
	haste context.CancelFunc // ends the wait for a peer that leaves
}

// New returns a link that has not begun. Close has to be called.
func New(opts Options) *Link {
	opts.Settings.Host = Host(opts.Settings.Name())
	l := &Link{opts: opts, ended: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	hasty, haste := context.WithCancel(context.Background())
	l.stop, l.haste = stop, haste
	l.Current = NewCurrent(opts.Settings.Host.String(), func() {
		l.begin.Do(func() { go l.keep(ctx, hasty) })
	})
	return l
}

// Close has the peer leave the mesh in order, and ends it at once when ctx is done.
func (l *Link) Close(ctx context.Context) {
	l.begin.Do(func() { close(l.ended) })
	l.stop()
	select {
	case <-l.ended:
	case <-ctx.Done():
		l.haste()
		<-l.ended
	}
	l.haste()
	l.End(errors.New("the run has ended"))
}

// keep starts peers, one after the other.
func (l *Link) keep(ctx, hasty context.Context) {
	defer close(l.ended)
	wait := &backoff.ExponentialBackOff{InitialInterval: soonest, MaxInterval: latest, Multiplier: 2, RandomizationFactor: 0.2}
	wait.Reset()
	for first := true; ; first = false {
		began := time.Now()
		err := l.live(ctx, hasty)
		if ctx.Err() != nil {
			return
		}
		if refused, ok := errors.AsType[*Refusal](err); ok && first && l.opts.Refused != nil {
			l.opts.Refused(refused)
		}
		if time.Since(began) > steady {
			wait.Reset()
			l.failed = min(l.failed, 1)
		}
		again := wait.NextBackOff()
		l.opts.Log.Warn("peer ended", "error", err, "again_in", again.Round(time.Millisecond), "why", "the mesh is out of reach meanwhile; what is known of it stays in force")
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}

// Refusal says why a peer does not begin.
type Refusal struct{ error }

// Unwrap gives the reason.
func (r *Refusal) Unwrap() error { return r.error }

// live is the life of one peer.
func (l *Link) live(ctx, hasty context.Context) error {
	p, err := l.spawn()
	if err != nil {
		l.Set(nil, err)
		return err
	}
	defer p.conn.Close()
	client := wire.Dial(p.conn, l.opts.Log)
	defer client.Close()
	l.Set(client, nil)
	select {
	case <-p.done:
	case <-ctx.Done():
		p.leave(hasty)
	}
	err = p.outcome()
	if state := p.cmd.ProcessState; state != nil && state.Exited() {
		l.failed++
	}
	l.Set(nil, err)
	return err
}

// peer is a process.
type peer struct {
	cmd  *exec.Cmd
	conn net.Conn
	said *tail
	done chan struct{}
	err  error // once done is closed
}

// spawn starts a process at the other end of a socket.
func (l *Link) spawn() (*peer, error) {
	program := l.opts.Program
	if program == "" {
		var err error
		if program, err = Find(); err != nil {
			return nil, err
		}
	}
	if l.opts.Dir == "" {
		return nil, &Refusal{errors.New("a mesh needs a directory for what has to survive the run; say which with --prefix DIR, or that it need not with --tmp-prefix")}
	}
	conn, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	p := &peer{conn: conn, said: &tail{}, done: make(chan struct{})}
	args := append([]string{"serve", "--dir=" + l.opts.Dir}, l.opts.Settings.Args()...)
	if l.failed > 0 {
		args = append(args, fmt.Sprintf("--failed=%d", l.failed))
	}
	if l.opts.Log.Enabled(context.Background(), slog.LevelDebug) {
		args = append(args, "--debug")
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Stderr = p.said
	p.cmd.WaitDelay = time.Second
	// A signal of the terminal is for the agent, which ends the peer when the time has come.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if token := l.opts.Settings.Join; token != "" {
		p.cmd.Env = append(os.Environ(), JoinVariable+"="+token.String())
	}
	if err := p.cmd.Start(); err != nil {
		conn.Close()
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// pair makes two ends of a socket, the second for another process.
func pair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "peer"), os.NewFile(uintptr(fds[1]), "agent")
	defer ours.Close() // FileConn makes a copy
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// leave lets the peer take its leave, until hasty is done.
func (p *peer) leave(hasty context.Context) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-hasty.Done():
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// outcome says how the process has ended, which it has.
func (p *peer) outcome() error {
	said := p.said.last()
	state := p.cmd.ProcessState
	switch {
	case state == nil:
		return p.err
	case state.ExitCode() == RefusedStatus && said != "":
		return &Refusal{errors.New(said)}
	case said != "":
		return fmt.Errorf("%v: %s", state, said)
	}
	return errors.New(state.String())
}

var _ mesh.Vault = (*Link)(nil)
