package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Host is a place on a network where programs run.
type Host struct {
	// Name and Addr are what it is known by.
	Name string
	Addr netip.Addr

	ns *os.File
}

// Host adds a host to the network.
func (n *Network) Host(name string, addr netip.Addr) (*Host, error) {
	ns, err := n.plug(addr)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	return &Host{Name: name, Addr: addr, ns: ns}, nil
}

// Start starts a program on the host, in a process group of its own.
func (h *Host) Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := inNamespace(h.ns, cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s on %s: %w", cmd.Path, h.Name, err)
	}
	return &Process{cmd: cmd}, nil
}

// Dial connects to an address as a program on the host would.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := inNamespace(h.ns, func() error {
		var err error
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens as a program on the host would.
func (h *Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.Listener
	err := inNamespace(h.ns, func() error {
		var err error
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// Process is a program on a host, with all that it has started.
type Process struct{ cmd *exec.Cmd }

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Wait waits for its end.
func (p *Process) Wait() error { return p.cmd.Wait() }

// Signal sends a signal to the program alone.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the program and all that it has started, as a power cut would: none of them
// gets to do anything about it.
func (p *Process) Kill() error {
	list, err := p.pause()
	if err != nil {
		return err
	}
	return signal(syscall.SIGKILL, append(list, p.PID())...)
}

// Pause stops them all in the middle of whatever they do.
func (p *Process) Pause() error {
	_, err := p.pause()
	return err
}

// pause returns what the program has started: the program is stopped before that is looked
// up, and so are those that could start more.
func (p *Process) pause() ([]int, error) {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	for stopped := 0; ; {
		list, err := descendants(p.PID())
		if err != nil || len(list) == stopped {
			return list, err
		}
		if err := signal(syscall.SIGSTOP, list...); err != nil {
			return nil, err
		}
		stopped = len(list)
	}
}

// Resume lets them go on.
func (p *Process) Resume() error {
	list, err := descendants(p.PID())
	return errors.Join(err, signal(syscall.SIGCONT, append(list, p.PID())...))
}

// signal sends a signal to processes, some of which may have ended.
func signal(s syscall.Signal, pids ...int) error {
	var errs []error
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, os.NewSyscallError("kill", err))
		}
	}
	return errors.Join(errs...)
}

// descendants lists what a process has started, and what that has.
func descendants(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid; the name may hold anything
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		child, err1 := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, err2 := strconv.Atoi(fields[1])
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		children[parent] = append(children[parent], child)
	}
	list := slices.Clone(children[pid])
	for i := 0; i < len(list); i++ {
		list = append(list, children[list[i]]...)
	}
	return list, nil
}
