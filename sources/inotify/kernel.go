package inotify

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources/mounts/table"
)

// kernel is what the source has open while anything is watched.
type kernel struct {
	fs      *fsnotify.Watcher // nil if there is no instance to be had
	cause   *cause            // why not
	cookie  cookie
	table   *table.Table // nil without /proc
	stop    chan struct{}
	ask     chan struct{} // see settled
	wg      sync.WaitGroup
	polling bool          // the polling goroutine runs
	took    time.Duration // the last look at mounts

	overflow atomic.Bool           // events have been lost
	failure  atomic.Pointer[error] // of reading from the kernel, not yet logged
}

// open makes sure that everything is open.
func (s *Source) open() {
	if s.k != nil {
		return
	}
	s.k = &kernel{stop: make(chan struct{}), ask: make(chan struct{})}
	s.k.start(s.wake)
	s.watchMounts()
	signal(s.wake)
}

// start opens the inotify instance. The buffer saves a switch of goroutines per event in
// a burst (a third of the price of an event that concerns nobody), and costs nothing else.
func (k *kernel) start(wake chan<- struct{}) {
	fs, err := fsnotify.NewBufferedWatcher(burst)
	if err != nil {
		k.cause = noInstance(err)
		return
	}
	k.fs, k.cause = fs, nil
	k.cookie = newCookie(fs)
	k.wg.Go(func() { k.errors(fs, wake) })
}

// errors receives what fsnotify reports beside its events. It takes no lock: fsnotify
// may hold the one that Add and Remove need until its error is received.
func (k *kernel) errors(fs *fsnotify.Watcher, wake chan<- struct{}) {
	for {
		select {
		case err, open := <-fs.Errors:
			switch {
			case !open:
				return
			case errors.Is(err, unix.EINVAL):
				// Of ending a watch that the kernel has ended itself.
			case errors.Is(err, fsnotify.ErrEventOverflow):
				k.overflow.Store(true)
				signal(wake)
			default:
				k.failure.Store(&err)
				k.overflow.Store(true)
				signal(wake)
			}
		case <-k.ask:
		case <-k.stop:
			return
		}
	}
}

// settled returns when every error that fsnotify sent before its last event is noted.
func (k *kernel) settled() {
	select {
	case k.ask <- struct{}{}:
	case <-k.stop:
	}
}

// closeIdle closes everything if nothing is watched and nobody waits for events. It is
// called with the lock and releases it.
func (s *Source) closeIdle() {
	k := s.k
	if k == nil || s.serving || s.counted > 0 || s.taps > 0 {
		s.mu.Unlock()
		return
	}
	s.k = nil
	s.forget()
	waiting := s.ripe
	if s.flight != nil {
		waiting = append(waiting, s.flight)
	}
	if s.next != nil {
		waiting = append(waiting, s.next)
	}
	s.ripe, s.flight, s.next = nil, nil, nil
	s.mu.Unlock()
	k.close()
	free(waiting)
}

// close closes the instance in one go: ending thousands of watches one by one takes
// many times longer.
func (k *kernel) close() {
	close(k.stop)
	if k.table != nil {
		k.table.Close()
	}
	if k.fs != nil {
		_ = k.fs.Close()
		k.cookie.close(nil)
	}
	ended := make(chan struct{})
	go func() { k.wg.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Second): // a look at a server that does not answer can't be interrupted
	}
}

// A cookie is a private file that the instance watches. A change of it tells in the
// queue where Flush was called. Content and mode change in turns, so that an event which
// the kernel reports twice, for the file and for its directory, is not taken for the next.
type cookie struct {
	name string // as fsnotify reports it
	file *os.File
	last fsnotify.Op // what was changed
}

// newCookie returns a cookie in memory, or if /proc is missing, in a temporary file.
// The zero cookie is the answer if there can be none.
func newCookie(fs *fsnotify.Watcher) cookie {
	if fs == nil {
		return cookie{}
	}
	if fd, err := unix.MemfdCreate("mgmt-inotify", unix.MFD_CLOEXEC); err == nil {
		c := cookie{name: fmt.Sprintf("/proc/self/fd/%d", fd)}
		c.file = os.NewFile(uintptr(fd), c.name)
		if fs.Add(c.name) == nil {
			return c
		}
		_ = c.file.Close()
	}
	f, err := os.CreateTemp("", "mgmt-inotify-")
	if err != nil {
		return cookie{}
	}
	c := cookie{name: f.Name(), file: f}
	err = fs.Add(c.name)
	_ = os.Remove(c.name) // the watch is on what is open
	if err != nil {
		_ = f.Close()
		return cookie{}
	}
	return c
}

// drop changes the cookie, which queues an event. Truncating a file is reported by every
// kernel; since 6.14 writing to a file without a path is not.
func (c *cookie) drop() error {
	switch {
	case c.file == nil:
		return os.ErrInvalid
	case c.last == fsnotify.Write:
		c.last = fsnotify.Chmod
		return c.file.Chmod(0o600)
	default:
		c.last = fsnotify.Write
		return c.file.Truncate(0)
	}
}

func (c *cookie) close(fs *fsnotify.Watcher) {
	if c.file == nil {
		return
	}
	if fs != nil {
		_ = fs.Remove(c.name)
	}
	_ = c.file.Close()
	*c = cookie{}
}
