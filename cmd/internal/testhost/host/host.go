// Package host boots throw-away machines for tests: a systemd that really runs, with
// its buses, its journal and its log-ins, over a copy-on-write view of a root file
// system. It takes less than a second.
//
// A machine dies with the process that booted it, however that ends: its mounts are in
// a mount namespace that nobody else sees, and all of its processes in a PID namespace
// whose process 1, systemd-nspawn, the kernel kills then. What can outlast a killed
// process is empty control groups and a file of a few lines in /run/mgmt-testhost; the
// next Boot removes them.
package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrImpossible is what Boot's error wraps when this machine doesn't let us: we are not
// root, a program is missing, or the kernel refuses to mount.
var ErrImpossible = errors.New("a test host can't be booted here")

// Options say what to boot. The zero value is a copy of this machine, without network.
type Options struct {
	Base    string   // the root file system that it is a copy of; "/" if empty. It is only read
	Name    string   // its host name; "testhost" if empty
	Binds   []Bind   // what it sees of this machine, other than Base
	Network *Network // what it is plugged into; nil for none. Needs an Address
	Address string   // of its link host0, such as 10.0.0.1/24
	NetNS   string   // a network namespace for it, in place of Network
	Nspawn  []string // further arguments for systemd-nspawn
}

// Bind shows a file or folder of this machine to a host.
type Bind struct {
	Source   string // absolute, and not below /run
	Target   string // absolute; Source if empty
	Writable bool
}

// Host is a machine that runs, from Boot to Stop.
type Host struct {
	// Leader is its process 1, by the number that it has here. Another boot changes it.
	Leader int

	process *os.Process // systemd-nspawn
	exited  chan struct{}
	console *tail

	mu      sync.Mutex // guards the rest
	units   int
	again   *start   // what follows the end of systemd-nspawn; nil for nothing
	remains *remains // nil once they are removed
}

// start is one start of systemd-nspawn.
type start struct {
	address string     // of who is told of process 1
	result  chan error // tells whether it has worked
}

// stopGrace is how long a host may take to shut down, about ten times what it takes.
const stopGrace = 3 * time.Second

// bootGrace bounds Boot, besides its context.
const bootGrace = 60 * time.Second

// Boot boots a host and waits until its start jobs have ended. ctx is for the boot
// alone: the host runs until Stop, or until this process ends. The error is an
// ErrImpossible, or has the last lines of the console.
func Boot(ctx context.Context, opts Options) (_ *Host, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootGrace, fmt.Errorf("not ready after %v", bootGrace))
	defer cancel()
	opts.Base, opts.Name = cmp.Or(opts.Base, "/"), cmp.Or(opts.Name, "testhost")
	if err := opts.check(); err != nil {
		return nil, err
	}
	sweep()
	h := &Host{exited: make(chan struct{}), console: &tail{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.end())
		}
	}()
	if h.remains, err = newRemains(); err != nil {
		return nil, impossible(err)
	}
	netns, err := opts.namespace(ctx)
	if err != nil {
		return nil, err
	}
	if netns != nil {
		defer netns.Close() // the host is in it by then
	}
	notify, first, err := h.listen()
	if err != nil {
		return nil, impossible(err)
	}
	go h.power(opts, netns, first)
	if err := <-first.result; err != nil {
		<-h.exited
		return nil, errors.Join(impossible(err), notify.Close())
	}
	if err := h.ready(ctx, notify); err != nil {
		h.kill()
		return nil, fmt.Errorf("booting a test host: %w%s", err, h.console)
	}
	return h, nil
}

// Reboot shuts the host down and boots it again, with what is on its disk, and waits as
// Boot does. What doesn't end within three seconds is killed. Nothing may run in it
// meanwhile by Run. After an error the host has ended.
func (h *Host) Reboot(ctx context.Context) error {
	nspawn := h.process
	return h.reboot(ctx, func() { _ = nspawn.Signal(syscall.SIGTERM) }) // fails only if it has ended
}

// Reset is Reboot for a host whose power fails, and comes back.
func (h *Host) Reset(ctx context.Context) error {
	leader := h.Leader
	return h.reboot(ctx, func() { _ = syscall.Kill(leader, syscall.SIGKILL) })
}

func (h *Host) reboot(ctx context.Context, end func()) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootGrace, fmt.Errorf("not ready after %v", bootGrace))
	defer cancel()
	select {
	case <-h.exited:
		return errors.New("the test host has ended: boot another one")
	default:
	}
	notify, next, err := h.listen()
	if err != nil {
		return err
	}
	if err = h.restart(next, end); err == nil {
		if err = h.ready(ctx, notify); err == nil {
			return nil
		}
		h.kill()
	}
	return fmt.Errorf("booting a test host again: %w%s", errors.Join(err, notify.Close()), h.console)
}

// restart has next follow the end of systemd-nspawn, which it brings about.
func (h *Host) restart(next *start, end func()) error {
	nspawn, leader := h.process, h.Leader // the next start changes them
	h.mu.Lock()
	h.again = next
	h.mu.Unlock()
	for _, force := range []func(){
		end,
		func() { _ = syscall.Kill(leader, syscall.SIGKILL) }, // all of these fail only if it has ended
		func() { _ = nspawn.Kill() },
	} {
		select {
		case <-h.exited: // Leader may be the number of another process now
			return errors.New("it has ended by itself")
		default:
		}
		force()
		select {
		case err := <-next.result:
			return err
		case <-h.exited:
			return errors.New("it has ended by itself")
		case <-time.After(stopGrace):
		}
	}
	return errors.New("it does not end")
}

// listen makes the socket at which nspawn tells of process 1, and that it is ready. The
// address is abstract: no file, so none to remove.
func (h *Host) listen() (*net.UnixConn, *start, error) {
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: "@mgmt-testhost-" + h.remains.id})
	if err != nil {
		return nil, nil, err
	}
	return notify, &start{notify.LocalAddr().String(), make(chan error, 1)}, nil
}

// check finds what makes a boot impossible before anything is touched.
func (o Options) check() error {
	if os.Geteuid() != 0 {
		return impossible(errors.New("only root can"))
	}
	for _, program := range []string{"systemd-nspawn", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return impossible(fmt.Errorf("the program %s is missing (on Debian: apt-get install systemd-container dbus)", program))
		}
	}
	for _, program := range []string{"lib/systemd/systemd", "usr/bin/systemd-run", "usr/bin/dbus-daemon"} {
		if _, err := os.Stat(filepath.Join(o.Base, program)); err != nil {
			return impossible(fmt.Errorf("there is no %s in %s (on Debian: apt-get install systemd dbus)", program, o.Base))
		}
	}
	for _, b := range o.Binds {
		if !filepath.IsAbs(b.Source) || b.Source == "/run" || strings.HasPrefix(b.Source, "/run/") {
			return fmt.Errorf("%s can't be shown to a test host: give an absolute path that is not below /run", b.Source)
		}
		if _, err := os.Stat(b.Source); err != nil {
			return fmt.Errorf("to be shown to a test host: %w", err)
		}
		if target := cmp.Or(b.Target, b.Source); b.Writable && Keeps(target) {
			return fmt.Errorf("%s can't be written to by a test host as its %s, which it would clean when it boots: give a folder below it", b.Source, target)
		}
	}
	return nil
}

// Keeps says that a folder is one that a host arranges, and cleans, when it boots.
func Keeps(dir string) bool {
	switch filepath.Clean(dir) {
	case "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/sbin", "/srv", "/sys", "/tmp",
		"/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/local/bin", "/var", "/var/cache", "/var/lib", "/var/log", "/var/tmp":
		return true
	}
	return false
}

// namespace opens the network namespace that a host is given, or nil for one of its own.
// It is opened here, since launch hides /run, where named ones are.
func (o Options) namespace(ctx context.Context) (*os.File, error) {
	switch {
	case o.Network != nil:
		return o.Network.plug(ctx, o.Address)
	case o.NetNS != "":
		f, err := os.Open(o.NetNS)
		if err != nil {
			return nil, err
		}
		// ioctl_ns(2): on other files it is an error
		if kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
			return nil, errors.Join(fmt.Errorf("%s is no network namespace", o.NetNS), f.Close())
		}
		return f, nil
	}
	return nil, nil
}

func impossible(err error) error { return fmt.Errorf("%w: %w", ErrImpossible, err) }

// power starts systemd-nspawn in a mount namespace of its own, again when it has ended and
// that is asked for. The thread that it runs on lives as long as the host and owns that
// namespace; nspawn dies with the thread, so with us.
func (h *Host) power(opts Options, netns *os.File, next *start) {
	defer close(h.exited)
	runtime.LockOSThread()  // for good: the thread ends with this function
	plugged := netns != nil // it is closed later
	err := prepare(opts, netns)
	for {
		var cmd *exec.Cmd
		if err == nil {
			cmd, err = h.launch(opts, plugged, next.address)
		}
		if next.result <- err; err != nil {
			return
		}
		_ = cmd.Wait() // whoever asks for the end knows why
		if next = h.next(); next == nil {
			return
		}
		err = h.remains.renew()
	}
}

// next is what follows the end of systemd-nspawn.
func (h *Host) next() *start {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.again
	h.again = nil
	return next
}

// join is the script that joins control groups, gets a /proc for its PID namespace, and
// becomes nspawn.
const join = `n=$1; shift
while [ "$n" -gt 0 ]; do echo 0 >"$1/cgroup.procs" || exit; shift; n=$((n-1)); done
mount -t proc proc /proc || exit
exec systemd-nspawn "$@"`

// launch runs on the thread of power.
func (h *Host) launch(opts Options, plugged bool, notify string) (*exec.Cmd, error) {
	args := append([]string{"-c", join, "sh", strconv.Itoa(len(h.remains.cgroups))}, h.remains.cgroups...)
	cmd := exec.Command("sh", append(args, nspawnArgs(opts, plugged)...)...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify)
	if plugged {
		// As with --private-network: else /sys/class/net is of the real machine.
		cmd.Env = append(cmd.Env, "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network")
	}
	cmd.Stdout, cmd.Stderr = h.console, h.console
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Nspawn dies with us, and as process 1 of its namespace takes the host along.
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Setpgid:    true, // Ctrl-C is for us: we stop it in order
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h.process, h.Leader = cmd.Process, 0
	return cmd, nil
}

func nspawnArgs(opts Options, plugged bool) []string {
	args := []string{
		"--quiet", "--boot", "--directory=" + rootDir, "--hostname=" + opts.Name,
		"--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--console=pipe", "--kill-signal=SIGRTMIN+4", "--notify-ready=yes",
	}
	if plugged {
		args = append(args, "--network-namespace-path="+netFile, "--capability=CAP_NET_ADMIN")
	} else {
		args = append(args, "--private-network")
	}
	colon := strings.NewReplacer(`\`, `\\`, ":", `\:`)
	for _, b := range opts.Binds {
		flag := "--bind-ro="
		if b.Writable {
			flag = "--bind="
		}
		args = append(args, flag+colon.Replace(b.Source)+":"+colon.Replace(cmp.Or(b.Target, b.Source)))
	}
	return append(append(args, opts.Nspawn...), "--", "--unit="+target)
}

// ready reads what nspawn tells until the host has booted, and closes notify.
func (h *Host) ready(ctx context.Context, notify *net.UnixConn) error {
	done := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-h.exited:
		case <-done:
		}
		_ = notify.Close() // nothing is written to it
	})
	for buf := make([]byte, 4096); ; {
		n, err := notify.Read(buf)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return errors.New("systemd-nspawn ended")
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			if pid, ok := strings.CutPrefix(line, "X_NSPAWN_LEADER_PID="); ok {
				if h.Leader, err = childOf(h.process.Pid, pid); err != nil {
					return err
				}
			}
			if line == "READY=1" && h.Leader != 0 {
				return nil
			}
		}
	}
}

// childOf finds the child of a process that has the number inner in the PID namespace
// that the process is the first of.
func childOf(parent int, inner string) (int, error) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent))
	if err != nil {
		return 0, err
	}
	for pid := range strings.FieldsSeq(string(children)) {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); len(f) >= 3 && f[0] == "NSpid:" && f[len(f)-2] == inner && f[len(f)-1] == "1" {
				return strconv.Atoi(pid)
			}
		}
	}
	return 0, fmt.Errorf("process 1 of the host, %s to systemd-nspawn, is not among its children %s", inner, children)
}

// Stop shuts the host down and removes all that there was of it. What doesn't end
// within three seconds is killed.
func (h *Host) Stop() error {
	_ = h.process.Signal(syscall.SIGTERM) // fails only if it has ended
	select {
	case <-h.exited:
	case <-time.After(stopGrace):
	}
	return h.Kill()
}

// Kill ends the host as if its power failed, and removes all that there was of it.
func (h *Host) Kill() error {
	h.kill()
	return h.end()
}

// Exited is closed when the host has ended, by Stop or Kill or by itself. Stop is
// needed even then.
func (h *Host) Exited() <-chan struct{} { return h.exited }

// kill kills process 1, and with it all in the host. Nspawn waits for it, removes what
// it made, and ends.
func (h *Host) kill() {
	select {
	case <-h.exited: // Leader may be the number of another process now
		return
	default:
	}
	if h.Leader != 0 {
		_ = syscall.Kill(h.Leader, syscall.SIGKILL) // fails only if it has ended
		select {
		case <-h.exited:
			return
		case <-time.After(stopGrace):
		}
	}
	_ = h.process.Kill() // likewise
	<-h.exited
}

// end removes what is left when no process is, once.
func (h *Host) end() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.remains == nil {
		return nil
	}
	err := h.remains.remove()
	h.remains = nil
	return err
}

// tail keeps the last that was written to it.
type tail struct {
	mu   sync.Mutex
	last []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	t.last = t.last[max(0, len(t.last)-tailSize):]
	return len(p), nil
}

// String is what an error message ends with.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := strings.TrimSpace(string(t.last)); text != "" {
		return "; the last of its console:\n" + text
	}
	return ""
}

// random returns 32 hexadecimal digits.
func random() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails, as its page says
	return hex.EncodeToString(b)
}
