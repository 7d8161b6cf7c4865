package bus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/godbus/dbus/v5"
)

// What errors of this package may be, for errors.Is.
var (
	// ErrMissing: there is no bus, no systemd, or not the service that was asked for.
	ErrMissing = errors.New("a service is missing")

	// ErrDenied: whoever runs this process may not do that.
	ErrDenied = errors.New("permission denied")

	// ErrNoUnit: systemd knows no such unit, and there is no file of it.
	ErrNoUnit = errors.New("there is no such unit")
)

// sentence is an error that is told to people in its own words.
type sentence struct {
	is   error
	text string
}

func (s *sentence) Error() string        { return s.text }
func (s *sentence) Is(target error) bool { return target == s.is }

func missing(format string, args ...any) error {
	return &sentence{ErrMissing, fmt.Sprintf(format, args...)}
}

// systemAddress is where the bus of the system is, as the D-Bus specification says.
func systemAddress() (string, error) {
	if a := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); a != "" {
		return a, nil
	}
	return "unix:path=/run/dbus/system_bus_socket", nil
}

// userAddress is where the session bus of this user is: of a session, or else of the
// user's systemd.
func userAddress() (string, error) {
	if a := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); a != "" && a != "autolaunch:" {
		return a, nil
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = "/run/user/" + strconv.Itoa(os.Getuid())
	}
	path := filepath.Join(dir, "bus")
	if _, err := os.Stat(path); err != nil {
		return "", missing("there is no session bus of the user with the number %d: no socket %s; log in, or have the user's services run without a session by: loginctl enable-linger (Debian packages libpam-systemd and dbus-user-session)", os.Getuid(), path)
	}
	return "unix:path=" + dbus.EscapeBusAddressValue(path), nil
}

// unreachable says why there is no connection to a bus.
func (b *Bus) unreachable(ctx context.Context, address string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		return &sentence{ErrDenied, fmt.Sprintf("the %s bus may not be used by this user: %v", b.name, err)}
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
		return missing("the %s bus at %s can't be reached: %v", b.name, address, err)
	}
	if b == system {
		if first := firstProcess(); first != "systemd" {
			return missing("there is no system bus, and process 1 is %s: this host does not run systemd, which is needed here", first)
		}
	}
	return missing("there is no %s bus at %s: install and start it (Debian packages dbus and dbus-user-session)", b.name, strings.TrimPrefix(address, "unix:path="))
}

// firstProcess is the name of process 1.
func firstProcess() string {
	comm, err := os.ReadFile("/proc/1/comm")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(comm))
}

// explain puts an error of a call into words.
func (b *Bus) explain(ctx context.Context, to string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e, ok := errors.AsType[dbus.Error](err)
	if !ok {
		return fmt.Errorf("the connection to the %s bus has ended: %w", b.name, err)
	}
	text := e.Error()
	switch name := strings.TrimPrefix(e.Name, "org.freedesktop."); {
	case strings.HasPrefix(name, "DBus.Error.Spawn."), name == "DBus.Error.ServiceUnknown", name == "DBus.Error.NameHasNoOwner":
		if to != service {
			return missing("%s is not on the %s bus and can't be started: %s", to, b.name, text)
		}
		if b == system {
			return missing("systemd is not on the system bus: process 1 is %s", firstProcess())
		}
		return missing("the user's systemd is not on the session bus: log in, or have it run without a session by: loginctl enable-linger")
	case name == "DBus.Error.NoReply", name == "DBus.Error.Disconnected":
		return missing("%s went away while it was asked: %s", to, text)
	case name == "DBus.Error.AccessDenied", name == "DBus.Error.InteractiveAuthorizationRequired", name == "DBus.Error.AuthFailed":
		return &sentence{ErrDenied, fmt.Sprintf("%s refuses it to the user with the number %d: %s; run as root, or allow it by a rule of polkit", to, os.Getuid(), strings.TrimSuffix(text, "."))}
	case name == "systemd1.NoSuchUnit", name == "DBus.Error.FileNotFound":
		return &sentence{ErrNoUnit, text}
	}
	return err
}

// named tells whether err is an error of D-Bus with that name.
func named(err error, name string) bool {
	e, ok := errors.AsType[dbus.Error](err)
	return ok && e.Name == name
}
