package dpkg

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Notifier is an inotify instance for the few folders and files that packages are about,
// with the masks that fit them: a lock file is opened and closed all the time by those who
// only look. Its reader sleeps in the network poller.
type Notifier struct {
	file *os.File
	raw  syscall.RawConn
	dirs map[int32]string
	buf  [4096]byte
}

// Notice is one thing that the kernel has reported.
type Notice struct {
	Path string // as it was added; empty after an overflow
	Name string // the entry of the folder, if Path is one
	Lost bool   // the kernel's queue has overflowed
}

// NewNotifier makes an instance that watches nothing.
func NewNotifier() (*Notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if errors.Is(err, unix.EMFILE) {
		return nil, fmt.Errorf("making an inotify instance: %w: raise the sysctl fs.inotify.max_user_instances", err)
	}
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Notifier{file: file, raw: raw, dirs: map[int32]string{}}, nil
}

// Add watches a path for the events of mask, as inotify_add_watch has them. It must not be
// called while Take or Ready are.
func (n *Notifier) Add(path string, mask uint32) error {
	var wd int
	var err error
	if ctl := n.raw.Control(func(fd uintptr) { wd, err = unix.InotifyAddWatch(int(fd), path, mask) }); ctl != nil {
		return ctl
	}
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("watching %s: %w: raise the sysctl fs.inotify.max_user_watches", path, err)
	}
	if err != nil {
		return &fs.PathError{Op: "watching", Path: path, Err: err}
	}
	n.dirs[int32(wd)] = path
	return nil
}

// Close ends it; Ready returns with an error.
func (n *Notifier) Close() { n.file.Close() }

// Ready waits until there is something to Take. It takes nothing.
func (n *Notifier) Ready() error {
	waited := false
	return n.raw.Read(func(fd uintptr) bool {
		if waited {
			return true
		}
		waited = true
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && ready > 0
	})
}

// Take returns what is in the kernel's queue now, without waiting. It must not be called
// by two at once, but may be beside Ready.
func (n *Notifier) Take() []Notice {
	var notices []Notice
	for {
		size := 0
		err := n.raw.Control(func(fd uintptr) { size, _ = unix.Read(int(fd), n.buf[:]) })
		if err != nil || size <= 0 {
			return notices
		}
		notices = append(notices, n.decode(n.buf[:size])...)
	}
}

// decode reads struct inotify_event: wd, mask, cookie, len, and a name of len bytes.
func (n *Notifier) decode(b []byte) []Notice {
	var notices []Notice
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
		b = b[end:]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			notices = append(notices, Notice{Lost: true})
		case mask&unix.IN_IGNORED != 0:
			delete(n.dirs, wd)
		default:
			notices = append(notices, Notice{Path: n.dirs[wd], Name: name})
		}
	}
	return notices
}

// Wait returns when something was reported, when the time is over, or with the cause when
// ctx is done.
func (n *Notifier) Wait(ctx context.Context, limit time.Duration) error {
	if err := n.file.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = n.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := n.Ready()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	n.Take()
	return nil
}
