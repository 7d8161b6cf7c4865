package bus

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

const unitPrefix = string(root) + "/unit/"

// UnitPath is the object of a unit. That of an alias is the one of its Primary.
func UnitPath(unit string) dbus.ObjectPath {
	return dbus.ObjectPath(unitPrefix + systemd.PathBusEscape(unit))
}

// UnitDirs are where systemd looks for unit files, the first first: see systemd.unit(5).
// Generated ones are left out, and for a user what packages bring in rare places.
func UnitDirs(session bool) []string {
	if !session {
		return []string{
			"/etc/systemd/system", "/run/systemd/system",
			"/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
		}
	}
	dirs := []string{"/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"}
	if config, err := os.UserConfigDir(); err == nil {
		dirs = append([]string{filepath.Join(config, "systemd/user")}, dirs...)
	}
	if runtime := os.Getenv("XDG_RUNTIME_DIR"); runtime != "" {
		dirs = append(dirs, filepath.Join(runtime, "systemd/user"))
	}
	return dirs
}

// Primary is the name by which systemd knows a unit that may be asked for by an alias, as
// far as its files tell. It is unit itself if it isn't one.
func Primary(unit string, session bool) string {
	dirs := UnitDirs(session)
	for range 5 { // an alias of an alias
		target := ""
		for _, dir := range dirs {
			if t, err := os.Readlink(filepath.Join(dir, unit)); err == nil {
				target = filepath.Base(t)
				break
			} else if !errors.Is(err, os.ErrNotExist) {
				break // a file
			}
		}
		// A mask leads to null; a template is not the instance.
		if target == "" || target == "null" || target == unit || strings.Contains(target, "@.") || filepath.Ext(target) != filepath.Ext(unit) {
			break
		}
		unit = target
	}
	return unit
}

// Unit is what systemd says of a unit.
type Unit struct {
	// Loaded says whether systemd has it in memory. It leaves out what is not in use.
	Loaded bool

	// Load is its LoadState: "loaded", "not-found", "masked", "bad-setting", "error"; ""
	// if it is not in memory.
	Load string

	// Active is its ActiveState: "active", "reloading", "inactive", "failed",
	// "activating", "deactivating". Sub is the state of its type: "running", "dead".
	Active, Sub string

	// NeedReload says that its files have changed since systemd has read them, as far as
	// it has noticed: up to version 252 it does not notice a new directory of drop-ins.
	NeedReload bool

	// DropIns are the files beside its own that it has read, by path.
	DropIns []string

	// Invocation is the ID of its last run, in hexadecimal; "" if it never ran.
	Invocation string
}

// Running tells whether the unit is as systemctl start leaves it.
func (u Unit) Running() bool { return u.Active == "active" || u.Active == "reloading" }

// Stopped tells whether the unit is as systemctl stop leaves it.
func (u Unit) Stopped() bool { return u.Active == "inactive" || u.Active == "failed" }

// Unit asks for the state of a unit. It has systemd read no files: what is not in memory
// is inactive, and may not exist. FileState tells.
func (b *Bus) Unit(ctx context.Context, name string) (Unit, error) {
	l, done, err := b.use(ctx)
	if err != nil {
		return Unit{}, err
	}
	defer done()
	var path dbus.ObjectPath
	err = l.call(ctx, service, root, manager+"GetUnit", name).Store(&path)
	if err != nil {
		if err = b.explain(ctx, service, err); errors.Is(err, ErrNoUnit) {
			return Unit{Active: "inactive", Sub: "dead"}, nil
		}
		return Unit{}, err
	}
	u := Unit{Loaded: true}
	var id []byte
	err = l.properties(ctx, path, map[string]any{
		"LoadState": &u.Load, "ActiveState": &u.Active, "SubState": &u.Sub,
		"NeedDaemonReload": &u.NeedReload, "DropInPaths": &u.DropIns, "InvocationID": &id,
	})
	if err != nil {
		return Unit{}, b.explain(ctx, service, err)
	}
	u.Invocation = hex.EncodeToString(id)
	return u, nil
}

// Told is the ActiveState of a unit as the last signal about it had it, without asking: ""
// if there was none yet, or if systemd has dropped the unit since.
func (b *Bus) Told(unit string) string {
	b.mu.Lock()
	l := b.link
	b.mu.Unlock()
	if l == nil || l.broken() {
		return ""
	}
	path := UnitPath(unit)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.states[path]
}

// properties reads properties of a unit into the values, all at a time.
func (l *link) properties(ctx context.Context, path dbus.ObjectPath, into map[string]any) error {
	if err := l.slot(ctx); err != nil {
		return err
	}
	defer l.free()
	object := l.conn.Object(service, path)
	calls := make(map[string]*dbus.Call, len(into))
	for name := range into {
		calls[name] = object.GoWithContext(ctx, getProperty, 0, make(chan *dbus.Call, 1), unitIface, name)
	}
	for name, to := range into {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case c := <-calls[name].Done:
			var v dbus.Variant
			if err := c.Store(&v); err != nil {
				return err
			}
			if err := v.Store(to); err != nil {
				return fmt.Errorf("reading %s of %s: %w", name, path, err)
			}
		}
	}
	return nil
}

// UnitProperty returns a property of a unit, which systemd loads for that: of the interface
// "Unit", or of that of its type, such as "Service" or "Timer".
func (b *Bus) UnitProperty(ctx context.Context, unit, iface, name string) (any, error) {
	body, err := b.Call(ctx, service, root, manager+"LoadUnit", unit)
	if err != nil {
		return nil, err
	}
	var path dbus.ObjectPath
	if err := dbus.Store(body, &path); err != nil {
		return nil, err
	}
	return b.Property(ctx, service, path, "org.freedesktop.systemd1."+iface, name)
}

// FileState says how a unit is installed: "enabled", "disabled", "masked", "static" and so
// on, as systemctl is-enabled does. It is ErrNoUnit if there is no file of it.
func (b *Bus) FileState(ctx context.Context, unit string) (string, error) {
	body, err := b.Call(ctx, service, root, manager+"GetUnitFileState", unit)
	if err != nil {
		return "", err
	}
	var state string
	err = dbus.Store(body, &state)
	return state, err
}
