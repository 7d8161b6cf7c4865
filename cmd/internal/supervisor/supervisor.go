// Package supervisor tells the service manager that has started this process how it is
// doing, by the protocol of sd_notify(3): that it is ready, what it is doing, and that it
// is alive. Nothing here ever waits for the service manager.
package supervisor

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	// most is how many messages may wait for a service manager that does not read, and
	// patience how long one is tried to be sent.
	most     = 64
	patience = 5 * time.Second

	// statusGap is the least time between two texts about what the process is doing.
	statusGap = time.Second
)

// Manager is a service manager. A nil one is that of a process that has none: what it is
// told is forgotten. It is safe for use by several goroutines.
type Manager struct {
	address  string
	watchdog time.Duration
	opts     Options
	warn     sync.Once

	wake chan struct{}
	done chan struct{}

	mu    sync.Mutex
	queue []message
	stale bool // what the process is doing has changed
	ready bool
	ended bool
}

// Options say how to talk to a service manager.
type Options struct {
	// Status returns a line for people about what the process is doing. It is called
	// some time after Changed and after Ready, by one goroutine at a time.
	Status func() string

	// Log is where it is told, once, that a message could not be sent.
	Log *slog.Logger
}

// message is what is sent. The status is added when that is done.
type message struct {
	text       string
	withStatus bool
}

// Find returns the service manager of this process, or nil if it has none. It removes
// from the environment what says so: commands that this process starts must not speak
// for it. Close must be called.
func Find(opts Options) (*Manager, error) {
	address := os.Getenv("NOTIFY_SOCKET")
	watchdog, err := daemon.SdWatchdogEnabled(true)
	if err := errors.Join(err, os.Unsetenv("NOTIFY_SOCKET")); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "@") {
		return nil, nil // none, or one that is spoken to in another way: that of a virtual machine
	}
	m := &Manager{address: address, watchdog: watchdog, opts: opts, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go m.drain()
	return m, nil
}

// Watchdog is how often the service manager wants to be told Alive at least; 0 is never.
func (m *Manager) Watchdog() time.Duration {
	if m == nil {
		return 0
	}
	return m.watchdog
}

// Ready says that the process has started, or that it has done what it was to reload.
func (m *Manager) Ready() {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.ready = true
	m.mu.Unlock()
	m.put(message{daemon.SdNotifyReady, true})
}

// Reloading says that the process is going to do what it was to reload, and will be Ready
// then. Before the first Ready it says nothing.
func (m *Manager) Reloading() {
	if m == nil {
		return
	}
	m.mu.Lock()
	ready := m.ready
	m.mu.Unlock()
	if ready {
		m.put(message{text: daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec() + "STATUS=reloading"})
	}
}

// Alive says that the process works.
func (m *Manager) Alive() { m.put(message{text: daemon.SdNotifyWatchdog}) }

// Stopping says that the process is about to end.
func (m *Manager) Stopping() { m.put(message{text: daemon.SdNotifyStopping + "\nSTATUS=stopping"}) }

// Changed says that Options.Status has something new to tell.
func (m *Manager) Changed() {
	if m == nil {
		return
	}
	m.mu.Lock()
	before := m.stale
	m.stale = true
	m.mu.Unlock()
	if !before {
		m.signal()
	}
}

func (m *Manager) put(one message) {
	if m == nil {
		return
	}
	m.mu.Lock()
	if !m.ended && len(m.queue) < most {
		m.queue = append(m.queue, one)
	}
	m.mu.Unlock()
	m.signal()
}

func (m *Manager) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// drain sends what waits until Close.
func (m *Manager) drain() {
	defer close(m.done)
	gap := time.NewTimer(0) // until it has fired no status is sent
	defer gap.Stop()
	said, due := "", false
	for {
		select {
		case <-m.wake:
		case <-gap.C:
			due = true
		}
		queue, tell, ended := m.take(due)
		for _, one := range queue {
			said = ""
			if one.withStatus {
				one.text += "\nSTATUS=" + m.opts.Status()
			}
			m.send(one.text)
		}
		if ended {
			return
		}
		if !tell {
			continue
		}
		if text := m.opts.Status(); text != said {
			said = text
			m.send("STATUS=" + text)
		}
		due = false
		gap.Reset(statusGap)
	}
}

// take returns what is to be sent, whether a new status is, and whether that is all.
func (m *Manager) take(due bool) (queue []message, tell, ended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue, m.queue = m.queue, nil
	if tell = due && m.stale && m.ready && !m.ended; tell {
		m.stale = false
	}
	return queue, tell, m.ended
}

// send sends a message over a socket of its own, since the service manager may begin anew.
func (m *Manager) send(message string) {
	if err := m.dial(message); err != nil {
		m.warn.Do(func() { m.opts.Log.Warn("the service manager is not told", "error", err) })
	}
}

func (m *Manager) dial(message string) error {
	conn, err := net.Dial("unixgram", m.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(message))
	return err
}

// Close sends what waits, for no longer than limit.
func (m *Manager) Close(limit time.Duration) {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.signal()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-m.done:
	case <-late.C:
	}
}
