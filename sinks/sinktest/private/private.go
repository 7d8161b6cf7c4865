// Package private gives the tests of a package mounts, a network and an /etc of their own,
// so that they can do to them what they like and the machine's are never touched. It
// starts the test binary anew in namespaces, which needs root and no other program. In a
// test host it has nothing to do.
package private

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// host is set in a test host, which is private as a whole, with a systemd at that.
const host = "MGMT_TESTHOST"

// env marks a test binary that has been started anew; it holds what went wrong then.
const env = "MGMT_TEST_PRIVATE"

// errPrivate is why the mounts and the network are not private, nil if they are.
var errPrivate = errors.New("TestMain does not call private.Main")

// Main is what TestMain of such a package calls. It does not return. Tests that must not
// run elsewhere call Need. As any TestMain should, it looks for goroutines that leak.
func Main(m *testing.M) {
	switch _, again := os.LookupEnv(env); {
	case os.Getenv(host) != "":
		errPrivate = nil
	case again:
		errPrivate = furnish()
	case os.Geteuid() != 0:
		errPrivate = errors.New("only root may have mounts and a network of its own")
	default:
		code, err := restart()
		if err == nil {
			os.Exit(code)
		}
		errPrivate = err
	}
	goleak.VerifyTestMain(m)
}

// Need skips the test unless its mounts, its network and its /etc are private.
func Need(t testing.TB) {
	t.Helper()
	if errPrivate != nil {
		t.Skipf("needs root: %v", errPrivate)
	}
}

// restart runs this program in new namespaces and returns its exit code. The child dies
// with the thread that has started it, so that is kept.
func restart() (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), env+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		Pdeathsig:    unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("making namespaces: %w", err)
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// furnish puts a layer over /etc that takes all changes.
func furnish() error {
	const layers = "/run"
	for _, m := range []struct{ source, point, kind, options string }{
		{"tmpfs", layers, "tmpfs", "mode=755"},
		{"overlay", "/etc", "overlay", "lowerdir=/etc,upperdir=" + layers + "/upper,workdir=" + layers + "/work"},
	} {
		if err := unix.Mount(m.source, m.point, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", m.kind, m.point, err)
		}
		if m.point == layers {
			if err := errors.Join(os.Mkdir(layers+"/upper", 0o755), os.Mkdir(layers+"/work", 0o755)); err != nil {
				return err
			}
		}
	}
	return nil
}
