// Package utsname is the source of changes to the name that the kernel has for this host,
// what uname -n prints. It exists since nobody else reports when a program sets that name
// by sethostname(2): the kernel does, to whoever polls a file of proc(5).
package utsname

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// Name is the name of the source.
const Name = "utsname"

// file can be polled for changes since it was polled last.
const file = "/proc/sys/kernel/hostname"

type watch struct{}

// Nodename watches the host name that the kernel has. It also fires when that of another
// UTS namespace changes, such as a container's.
func Nodename() sources.Watch { return watch{} }

// Source implements sources.Watch.
func (watch) Source() string { return Name }

// String implements sources.Watch.
func (watch) String() string { return "nodename" }

// Source serves the watch of this package. After the subscription of Events has ended it
// has forgotten it and can be used anew.
type Source struct {
	opened chan struct{} // holds one item when there is a file to poll

	mu      sync.Mutex
	count   int
	open    *os.File // from the first Add on, as long as somebody watches or Events is subscribed
	serving bool
}

var _ sources.Source = (*Source)(nil)

// New returns a source that has nothing open until the first Add.
func New() *Source { return &Source{opened: make(chan struct{}, 1)} }

// Name implements sources.Source.
func (s *Source) Name() string { return Name }

// Add implements sources.Source.
func (s *Source) Add(w sources.Watch) error {
	if _, ok := w.(watch); !ok {
		return fmt.Errorf("%T is not a watch of the source %s", w, Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		f, err := open()
		if err != nil {
			return err
		}
		s.open = f
		select {
		case s.opened <- struct{}{}:
		default:
		}
	}
	s.count++
	return nil
}

// open returns the file, with its present state as the one that is known. It is not for
// Go's poller: to poll is to take note of a change, so only one may do it.
func open() (*os.File, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: file, Err: err}
	}
	return os.NewFile(uintptr(fd), file), nil
}

// Remove implements sources.Source.
func (s *Source) Remove(sources.Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count--; s.count == 0 && !s.serving {
		s.close()
	}
}

func (s *Source) close() {
	if s.open != nil {
		s.open.Close()
		s.open = nil
	}
}

// Events implements sources.Source.
func (s *Source) Events() streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		s.mu.Lock()
		s.serving = true
		s.mu.Unlock()
		defer s.forget()
		for {
			s.mu.Lock()
			f := s.open
			s.mu.Unlock()
			if f == nil {
				select {
				case <-s.opened:
					continue
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return s.serve(ctx, f, emit)
		}
	})
}

// serve emits until ctx is done or nobody wants any more. It keeps a thread waiting.
func (s *Source) serve(ctx context.Context, f *os.File, emit func(sources.Event) bool) error {
	done, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	defer unix.Close(done)
	var ending sync.WaitGroup
	defer ending.Wait()
	ending.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer ending.Done()
		_, _ = unix.Write(done, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if stop() {
			ending.Done()
		}
	}()
	for {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}, {Fd: int32(done), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("polling %s: %w", file, err)
		case fds[0].Revents != 0 && s.watched() && !emit(sources.Event{Source: Name, Watch: watch{}, What: "set"}):
			return nil
		}
	}
}

// forget closes everything when the subscription has ended.
func (s *Source) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	s.count, s.serving = 0, false
}

func (s *Source) watched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count > 0
}
