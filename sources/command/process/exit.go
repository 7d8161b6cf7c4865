package process

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// exit tells when a child has ended, without reaping it: as long as it is not reaped,
// its number, which is also that of its group, means nothing else.
type exit struct {
	pid int
	fd  *os.File // a non-blocking pidfd in Go's network poller, or nil
}

// newExit watches a child. Waiting through the poller costs a goroutine, where waitid
// costs a thread; kernels before 5.10 have nothing better than the latter.
func newExit(pid int) exit {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return exit{pid: pid}
	}
	return exit{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd")}
}

// wait returns true when the child has ended, and false after giveUp.
func (x exit) wait() bool {
	if x.fd != nil {
		switch err := x.poll(); {
		case err == nil:
			return true
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false
		}
	}
	for {
		err := unix.Waitid(unix.P_PID, x.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return true
		}
	}
}

// poll waits until the pidfd is readable, which is when its process has ended.
func (x exit) poll() error {
	conn, err := x.fd.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Read(func(fd uintptr) bool {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(set, 0)
		if err != nil && err != unix.EINTR {
			failed = err
			return true
		}
		return n > 0
	})
	return errors.Join(err, failed)
}

// giveUp makes wait return although the child lives, where that is possible.
func (x exit) giveUp() {
	if x.fd != nil {
		_ = x.fd.SetReadDeadline(time.Unix(1, 0))
	}
}

func (x exit) close() {
	if x.fd != nil {
		_ = x.fd.Close()
	}
}
