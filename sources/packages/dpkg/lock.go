package dpkg

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Locks are the files that apt and dpkg lock while they change something, the first the
// one that is held for the whole of a transaction.
func Locks(dir string) []string {
	return []string{
		filepath.Join(dir, "lock-frontend"),
		filepath.Join(dir, "lock"),
		"/var/cache/apt/archives/lock",
	}
}

// Holder is a process that holds a lock.
type Holder struct {
	Path string // the file that is locked
	PID  int    // 0 or below if it is in another PID namespace
	Name string // of its program, empty if unknown
}

// String is the holder as a message names it: "apt-get (4711)".
func (h Holder) String() string {
	switch {
	case h.PID <= 0:
		return "a process of another container"
	case h.Name == "":
		return "process " + strconv.Itoa(h.PID)
	}
	return h.Name + " (" + strconv.Itoa(h.PID) + ")"
}

// Held looks at the locks without taking them, and returns the first that is held by
// another process, or nil. A file that is missing is not locked.
func Held(paths []string) (*Holder, error) {
	for _, path := range paths {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock)
		f.Close()
		if err != nil {
			return nil, &fs.PathError{Op: "looking at the lock", Path: path, Err: err}
		}
		if lock.Type != unix.F_UNLCK {
			h := &Holder{Path: path, PID: int(lock.Pid)}
			if comm, err := os.ReadFile("/proc/" + strconv.Itoa(h.PID) + "/comm"); err == nil {
				h.Name = strings.TrimSpace(string(comm))
			}
			return h, nil
		}
	}
	return nil, nil
}

// lookAgain is how long WaitFree waits for the kernel to report that a lock file was
// closed. A lock can also be given up without that.
const lookAgain = 5 * time.Second

// WaitFree returns when nobody else holds one of the locks, or with the cause when ctx is
// done. It calls waiting once for each process that it has to wait for.
func WaitFree(ctx context.Context, paths []string, waiting func(Holder)) error {
	h, err := Held(paths)
	if err != nil || h == nil {
		return err
	}
	n, err := NewNotifier()
	if err != nil {
		return err
	}
	defer n.Close()
	for _, path := range paths {
		if err := n.Add(path, unix.IN_CLOSE_WRITE|unix.IN_DELETE_SELF); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	told := 0
	for {
		if h, err = Held(paths); err != nil || h == nil { // it may have changed before the watch
			return err
		}
		if told != h.PID {
			told = h.PID
			waiting(*h)
		}
		if err := n.Wait(ctx, lookAgain); err != nil {
			return err
		}
	}
}
