package hostname

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// Names of D-Bus, see org.freedesktop.hostname1(5).
const (
	service = "org.freedesktop.hostname1"
	path    = "/org/freedesktop/hostname1"
	iface   = "org.freedesktop.hostname1"
)

// names are the present ones, by the properties of hostnamed.
type names map[string]string

// look asks hostnamed for the names. It keeps none: those of its files it reads again.
func look(ctx context.Context, b *bus.Bus) (names, error) {
	body, err := b.Call(ctx, service, path, "org.freedesktop.DBus.Properties.GetAll", iface)
	if err != nil {
		return nil, explain(err)
	}
	var all map[string]dbus.Variant
	if err := dbus.Store(body, &all); err != nil {
		return nil, fmt.Errorf("reading the names that hostnamed has: %w", err)
	}
	found := names{}
	for _, t := range []title{static, pretty, transient} {
		name, ok := all[t.property].Value().(string)
		if !ok {
			return nil, fmt.Errorf("hostnamed has no %s", t.property)
		}
		found[t.property] = name
	}
	// What it calls the host is another name, if the kernel has one that it does not like.
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	found[transient.property] = unix.ByteSliceToString(uts.Nodename[:])
	return found, nil
}

// set has hostnamed set a name.
func (d desired) set(ctx context.Context, b *bus.Bus) error {
	const interactive = false
	if _, err := b.Call(ctx, service, path, iface+"."+d.method, d.name, interactive); err != nil {
		return fmt.Errorf("setting %s: %w", d.field, explain(err))
	}
	if d.title != transient {
		return nil
	}
	// Hostnamed sees to it that the kernel has the static name, if there is one. Another
	// one is set past it.
	found, err := look(ctx, b)
	if err != nil || found[transient.property] == d.name {
		return err
	}
	if err := unix.Sethostname([]byte(d.name)); err != nil {
		return fmt.Errorf("sethostname: %w", err)
	}
	return nil
}

// explain says what is missing for what.
func explain(err error) error {
	if errors.Is(err, bus.ErrMissing) {
		return fmt.Errorf("names of a host are asked for and set through systemd-hostnamed: %w", err)
	}
	return err
}
