package supervisor_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/cmd/internal/supervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listen is a service manager; it returns a function that reads the next message.
func listen(t *testing.T, address string) (next func() string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", address)
	buf := make([]byte, 4096)
	return func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func find(t *testing.T, status func() string) *supervisor.Manager {
	t.Helper()
	m, err := supervisor.Find(supervisor.Options{Status: status, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(10 * time.Second) })
	return m
}

func TestMessages(t *testing.T) {
	for _, c := range []struct {
		name    string
		address string
	}{
		{"a socket in the file system", filepath.Join(t.TempDir(), "notify")},
		{"an abstract one", "@" + t.TempDir()},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := listen(t, c.address)
			var n atomic.Int32
			m := find(t, func() string { return strings.Repeat("x", int(n.Add(1))) })
			if os.Getenv("NOTIFY_SOCKET") != "" {
				t.Error("commands that are started can speak for this process")
			}
			m.Reloading() // which is nothing before it is ready
			m.Changed()   // likewise
			m.Ready()
			want(t, next(), "READY=1\nSTATUS=x")
			want(t, next(), "STATUS=xx")
			m.Reloading()
			if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") || !strings.HasSuffix(got, "\nSTATUS=reloading") {
				t.Errorf("it was told %q", got)
			}
			m.Ready()
			want(t, next(), "READY=1\nSTATUS=xxx")
			m.Alive()
			want(t, next(), "WATCHDOG=1")
			for range 100 {
				m.Changed() // of which one message is made
			}
			want(t, next(), "STATUS=xxxx")
			m.Stopping()
			want(t, next(), "STOPPING=1\nSTATUS=stopping")
		})
	}
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("it was told %q, want %q", got, want)
	}
}

func TestCloseSendsWhatWaits(t *testing.T) {
	next := listen(t, filepath.Join(t.TempDir(), "notify"))
	m := find(t, func() string { return "fine" })
	m.Ready()
	m.Stopping()
	m.Close(10 * time.Second)
	want(t, next(), "READY=1\nSTATUS=fine")
	want(t, next(), "STOPPING=1\nSTATUS=stopping")
}

func TestWithoutAServiceManager(t *testing.T) {
	for _, address := range []string{"", "vsock:2:1234"} {
		t.Setenv("NOTIFY_SOCKET", address)
		m := find(t, func() string { return "" })
		if m != nil {
			t.Fatalf("one was found at %q", address)
		}
		m.Ready()
		m.Reloading()
		m.Alive()
		m.Changed()
		m.Stopping()
		if m.Watchdog() != 0 {
			t.Error("there is a watchdog")
		}
	}
}

func TestWatchdog(t *testing.T) {
	listen(t, filepath.Join(t.TempDir(), "notify"))
	for _, c := range []struct {
		name, usec, pid string
		want            time.Duration
	}{
		{"none", "", "", 0},
		{"one for this process", "2500000", "", 2500 * time.Millisecond},
		{"one for another process", "2500000", "1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", os.Getenv("NOTIFY_SOCKET"))
			t.Setenv("WATCHDOG_USEC", c.usec)
			t.Setenv("WATCHDOG_PID", c.pid)
			if got := find(t, func() string { return "" }).Watchdog(); got != c.want {
				t.Errorf("it is %v, want %v", got, c.want)
			}
			if os.Getenv("WATCHDOG_USEC") != "" {
				t.Error("commands that are started are given WATCHDOG_USEC")
			}
		})
	}
	t.Run("a number that is none", func(t *testing.T) {
		t.Setenv("WATCHDOG_USEC", "soon")
		if _, err := supervisor.Find(supervisor.Options{}); err == nil {
			t.Error("there is no error")
		}
	})
}
