// Package table reads the table of what is mounted where, and waits for it to change. It
// is apart from the source of events, since other packages need the table alone.
package table

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// path is where the kernel has it; see proc_pid_mountinfo(5).
const path = "/proc/self/mountinfo"

// Table is the mount table of this process, open.
type Table struct {
	fd int // to ask and to read

	mu      sync.Mutex
	waiting *os.File // nil while nobody waits
	closed  bool
}

// Open opens the table, for the caller to close. It fails where proc is not mounted.
func Open() (*Table, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("what is mounted can't be seen without proc on /proc: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return &Table{fd: fd}, nil
}

// Close closes the table and ends Wait. It waits for a call of Wait's function to return,
// and does nothing when it is called again.
func (t *Table) Close() {
	t.mu.Lock()
	waiting, closed := t.waiting, t.closed
	t.closed = true
	t.mu.Unlock()
	if closed {
		return
	}
	if waiting != nil {
		_ = waiting.Close()
	}
	_ = unix.Close(t.fd)
}

// Changed says whether the table has changed since it was opened or last asked.
func (t *Table) Changed() bool {
	fds := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLPRI}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// Wait calls look at once and whenever the table may have changed, until look returns true.
// It fails with os.ErrClosed when the table is closed, and is called once.
func (t *Table) Wait(look func() (enough bool)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	t.mu.Lock()
	closed := t.closed
	t.waiting = f
	t.mu.Unlock()
	if closed {
		return os.ErrClosed
	}
	// One call for good, because what wakes Go's poller between two is forgotten.
	err = conn.Read(func(uintptr) bool { return look() })
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting = nil; err != nil && t.closed {
		return os.ErrClosed
	}
	return err
}

// Read returns the table as text.
func (t *Table) Read() ([]byte, error) {
	var text []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Pread(t.fd, buf, int64(len(text)))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return text, nil
		default:
			text = append(text, buf[:n]...)
		}
	}
}

var seed = maphash.MakeSeed()

// Points returns where something is mounted, with a number for each place that differs
// when something else is.
func (t *Table) Points() (map[string]uint64, error) {
	text, err := t.Read()
	points := make(map[string]uint64)
	for line := range bytes.Lines(text) {
		fields := bytes.SplitN(line, []byte(" "), 6)
		if len(fields) == 6 {
			point := Unescape(string(fields[4]))
			points[point] = points[point]*31 + maphash.Bytes(seed, line)
		}
	}
	return points, err
}

// Differing returns the places at which something else is mounted in one than in the other.
func Differing(old, now map[string]uint64) []string {
	var points []string
	for point, sum := range now {
		if old[point] != sum {
			points = append(points, point)
		}
	}
	for point := range old {
		if _, still := now[point]; !still {
			points = append(points, point)
		}
	}
	return points
}

// Unescape replaces \040 and the like, which stand for blanks and backslashes in the tables
// of the kernel and in fstab(5).
func Unescape(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, ok := octal(s[i+1 : i+4]); ok {
				out = append(out, c)
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

func octal(digits string) (byte, bool) {
	n := 0
	for _, d := range []byte(digits) {
		if d < '0' || d > '7' {
			return 0, false
		}
		n = n*8 + int(d-'0')
	}
	return byte(n), n < 256
}

// Mounts is what was mounted at one time.
type Mounts struct {
	children map[place]*mountinfo.Info
}

// place is where a mount is: on which other one, and at which path.
type place struct {
	on    int // 0 is what lies outside of this table
	point string
}

// Parse reads a table.
func Parse(text []byte) (*Mounts, error) {
	all, err := mountinfo.GetMountsFromReader(bytes.NewReader(text), nil)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	known := make(map[int]bool, len(all))
	for _, m := range all {
		known[m.ID] = true
	}
	t := &Mounts{children: make(map[place]*mountinfo.Info, len(all))}
	for _, m := range all {
		on := m.Parent
		if !known[on] || on == m.ID {
			on = 0
		}
		t.children[place{on, m.Mountpoint}] = m
	}
	return t, nil
}

// At returns what can be seen mounted at a clean absolute path without symbolic links:
// the topmost of what is mounted there, nil if there is nothing or another mount hides it.
func (t *Mounts) At(path string) *mountinfo.Info {
	if m := t.Holding(path); m != nil && m.Mountpoint == path {
		return m
	}
	return nil
}

// Holding returns the mount that what is at path lies on.
func (t *Mounts) Holding(path string) *mountinfo.Info {
	var m *mountinfo.Info
	on := 0
	step := func(point string) {
		for next := t.children[place{on, point}]; next != nil; next = t.children[place{on, point}] {
			m, on = next, next.ID
		}
	}
	step("/")
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			step(path[:i])
		}
	}
	if path != "/" {
		step(path)
	}
	return m
}

// shared is open as long as the process lives, once somebody has asked for Now.
var shared struct {
	sync.Mutex
	table *Table
	last  *Mounts
}

// Now returns what is mounted. While nothing changes that costs a look at the kernel's
// counter and no more, however many ask.
func Now() (*Mounts, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.table == nil {
		t, err := Open()
		if err != nil {
			return nil, err
		}
		shared.table = t
	}
	if !shared.table.Changed() && shared.last != nil {
		return shared.last, nil
	}
	shared.last = nil // unless all goes well
	text, err := shared.table.Read()
	if err != nil {
		return nil, err
	}
	now, err := Parse(text)
	if err == nil {
		shared.last = now
	}
	return now, err
}
