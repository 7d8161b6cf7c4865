// Package control is how other processes ask a running agent what it does: a server over
// a Unix socket that only the agent's own user and root may open, and the client for it.
// It speaks HTTP, so that curl can ask as well:
//
//	GET /status               how the run is, as JSON
//	GET /explain?resource=R   what a resource is, and how it is
//	GET /tap?resource=R&limit=N
//	                          the event stream from now on, a line of JSON for each event
//
// All of it only looks. While nobody asks, the server does nothing at all, and nobody who
// asks can hold the engine up.
package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/cmd/internal/eventlog"
	"github.com/mgmtproject/mgmt/pipeline"
)

// Version of what the server answers. New fields may be added to a version.
const Version = 1

// Agent is a run that can be asked. Its methods are called by several goroutines.
type Agent interface {
	// Status is how the run is.
	Status() pipeline.Snapshot

	// Find returns the graph that is in force, a resource of it by the name that a user
	// has given, and how it is. The error is for the user.
	Find(resource string) (*pipeline.Graph, *pipeline.Vertex, pipeline.ResourceStatus, error)
}

// Status is the answer to /status.
type Status struct {
	Version int `json:"version"`
	eventlog.Header
	Began time.Time `json:"began"` // the run
	pipeline.Snapshot
}

// Explanation is the answer to /explain.
type Explanation struct {
	Version int `json:"version"`
	pipeline.Explanation
	Now *pipeline.ResourceStatus `json:"now,omitempty"` // in the run
}

// failure is the answer if there is no other.
type failure struct {
	Version int    `json:"version"`
	Error   string `json:"error"`
}

// RunningError says that there is already somebody who answers at a socket.
type RunningError struct{ Path string }

// Error implements error.
func (e *RunningError) Error() string { return "another run answers at " + e.Path }

// listen makes a socket that has mode 0600 from its first moment, in the place of one that
// a run has left behind which did not end in order.
func listen(path string) (net.Listener, error) {
	address, release, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer release()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// bind(2) gives the file the mode of the socket, less the umask.
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := config.Listen(context.Background(), "unix", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err = discard(path, address); err == nil {
			l, err = config.Listen(context.Background(), "unix", address)
		}
	}
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // address may not lead there any more
	return l, nil
}

// discard removes a socket at which nobody answers.
func discard(path, address string) error {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket {
		return errors.Join(err, fmt.Errorf("%s is in the place of the socket: remove it", path))
	}
	conn, err := net.Dial("unix", address)
	if err == nil {
		conn.Close()
		return &RunningError{path}
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// longest is the longest path that fits into the address of a Unix socket: sun_path has
// 108 bytes (unix(7)), the last of which is 0.
const longest = 107

// shorten returns a path that fits into the address of a socket and leads to the same
// place, until it is released.
func shorten(path string) (short string, release func(), err error) {
	if len(path) <= longest {
		return path, func() {}, nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + filepath.Base(path), func() { unix.Close(fd) }, nil
}
