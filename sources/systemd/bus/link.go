package bus

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// Names of D-Bus and of systemd, see org.freedesktop.systemd1(5).
const (
	service     = "org.freedesktop.systemd1"
	root        = dbus.ObjectPath("/org/freedesktop/systemd1")
	manager     = "org.freedesktop.systemd1.Manager."
	unitIface   = "org.freedesktop.systemd1.Unit"
	getProperty = "org.freedesktop.DBus.Properties.Get"
)

// systemdRules are all signals of systemd that anybody here wants: one subscription for
// any number of units.
var systemdRules = []string{
	"type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" + service + "'",
	"type='signal',sender='" + service + "',path='" + string(root) + "'",
	"type='signal',sender='" + service + "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',path_namespace='" + string(root) + "/unit',arg0='" + unitIface + "'",
}

// slots is how many calls may be under way at once, of which one can be the reading of
// all properties of a Unit: the bus refuses more than 128 (max_replies_per_connection of
// dbus-daemon(1)). It is plenty, since systemd answers one after the other.
const slots = 16

// link is one connection. It is the handler of its signals.
type link struct {
	bus   *Bus
	conn  *dbus.Conn
	slots chan struct{} // holds an item for each call under way

	subscribing sync.Mutex      // held while it subscribes, and for rules
	rules       map[string]bool // those that the daemon knows, beside systemdRules

	mu    sync.Mutex
	ready bool          // it is subscribed to systemd
	ruled bool          // the daemon knows systemdRules
	owner chan struct{} // holds one item when systemd has come anew

	jobs   map[dbus.ObjectPath]chan string // those that somebody waits for
	asking int                             // calls that will have a job
	early  map[dbus.ObjectPath]string      // results of jobs that ended while asking > 0
	epoch  int                             // counts how often the end of jobs may have been missed

	states map[dbus.ObjectPath]string // ActiveState of units, as last told
}

var _ dbus.SignalHandler = (*link)(nil)

// open makes a connection.
func open(ctx context.Context, b *Bus) (*link, error) {
	address, err := b.address()
	if err != nil {
		return nil, err
	}
	l := &link{
		bus:    b,
		slots:  make(chan struct{}, slots),
		owner:  make(chan struct{}, 1),
		jobs:   make(map[dbus.ObjectPath]chan string),
		early:  make(map[dbus.ObjectPath]string),
		states: make(map[dbus.ObjectPath]string),
		rules:  make(map[string]bool),
	}
	conn, err := dbus.Dial(address, dbus.WithSignalHandler(l))
	if err != nil {
		return nil, b.unreachable(ctx, address, err)
	}
	l.conn = conn
	greeted := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer greeted()
	hung := time.AfterFunc(dialTime, func() { _ = conn.Close() })
	defer hung.Stop()
	// By number: a name would have to be looked up.
	if err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err == nil {
		err = conn.Hello()
	}
	if err != nil {
		_ = conn.Close()
		return nil, b.unreachable(ctx, address, err)
	}
	go l.tend()
	return l, nil
}

// broken tells whether the connection has ended.
func (l *link) broken() bool { return !l.conn.Connected() }

// call calls a method.
func (l *link) call(ctx context.Context, to string, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	if err := l.slot(ctx); err != nil {
		return &dbus.Call{Err: err}
	}
	defer l.free()
	return l.conn.Object(to, path).CallWithContext(ctx, method, 0, args...)
}

// slot waits for the turn of a call, which free ends.
func (l *link) slot(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *link) free() { <-l.slots }

// daemon calls a method of the bus itself.
func (l *link) daemon(ctx context.Context, method, arg string) error {
	return l.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus."+method, 0, arg).Err
}

func (l *link) subscribed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready
}

// match has the daemon know just the rules that listeners have asked for.
func (l *link) match(ctx context.Context) error {
	l.subscribing.Lock()
	defer l.subscribing.Unlock()
	l.bus.mu.Lock()
	var add, remove []string
	for rule := range l.bus.rules {
		if !l.rules[rule] {
			add = append(add, rule)
		}
	}
	for rule := range l.rules {
		if l.bus.rules[rule] == 0 {
			remove = append(remove, rule)
		}
	}
	l.bus.mu.Unlock()
	for _, rule := range remove {
		if err := l.daemon(ctx, "RemoveMatch", rule); err != nil {
			return err
		}
		delete(l.rules, rule)
	}
	for _, rule := range add {
		if err := l.daemon(ctx, "AddMatch", rule); err != nil {
			return err
		}
		l.rules[rule] = true
	}
	return nil
}

// subscribe has systemd send its signals.
func (l *link) subscribe(ctx context.Context) error {
	l.subscribing.Lock()
	defer l.subscribing.Unlock()
	if l.subscribed() {
		return nil
	}
	if !l.ruled {
		for _, rule := range systemdRules {
			if err := l.daemon(ctx, "AddMatch", rule); err != nil {
				return l.bus.explain(ctx, service, err)
			}
		}
		l.ruled = true
	}
	err := l.call(ctx, service, root, manager+"Subscribe").Err
	if err != nil && !named(err, "org.freedesktop.systemd1.AlreadySubscribed") {
		return l.bus.explain(ctx, service, err)
	}
	l.mu.Lock()
	l.ready = true
	l.mu.Unlock()
	return nil
}

// tend does what must not be done by the goroutine that reads the connection, until the
// connection ends.
func (l *link) tend() {
	ctx := l.conn.Context()
	for {
		select {
		case <-ctx.Done():
			l.release()
			l.bus.broke(l)
			return
		case <-l.owner:
			if err := l.subscribe(ctx); err != nil {
				continue // it has gone again, and will come again
			}
			l.release()
			l.bus.lost("systemd began anew")
		}
	}
}

// release has those look again who wait for a job: its end may have been missed.
func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
	for path, done := range l.jobs {
		close(done)
		delete(l.jobs, path)
	}
}

// DeliverSignal implements dbus.SignalHandler.
func (l *link) DeliverSignal(iface, member string, s *dbus.Signal) {
	switch {
	case iface == "org.freedesktop.DBus":
		if name, ok := at[string](s.Body, 0); ok && member == "NameOwnerChanged" && name == service {
			l.ownerChanged(s)
		}
	case s.Path == root:
		l.managerSignal(member, s)
	case strings.HasPrefix(string(s.Path), unitPrefix):
		l.unitSignal(s)
	default:
		l.tell(Change{Path: s.Path, What: member})
	}
}

func (l *link) ownerChanged(s *dbus.Signal) {
	l.mu.Lock()
	l.ready = false
	clear(l.states)
	l.mu.Unlock()
	if owner, ok := at[string](s.Body, 2); ok && owner != "" {
		select {
		case l.owner <- struct{}{}:
		default:
		}
	}
}

func (l *link) managerSignal(member string, s *dbus.Signal) {
	switch member {
	case "JobRemoved":
		path, ok := at[dbus.ObjectPath](s.Body, 1)
		unit, ok2 := at[string](s.Body, 2)
		result, ok3 := at[string](s.Body, 3)
		if ok && ok2 && ok3 {
			l.jobRemoved(path, unit, result)
		}
	case "UnitNew":
		if path, ok := at[dbus.ObjectPath](s.Body, 1); ok {
			c := Change{Path: path, What: "new", Unit: true}
			c.Own = l.bus.isOwn(c)
			l.tell(c)
		}
	case "UnitRemoved":
		if path, ok := at[dbus.ObjectPath](s.Body, 1); ok {
			l.told(path, "")
		}
	case "Reloading":
		if begins, ok := at[bool](s.Body, 0); ok && !begins && l.bus.announced.foreign(reloads) {
			l.bus.lost("daemon-reload")
		}
	case "UnitFilesChanged":
		if l.bus.announced.foreign(fileChanges) {
			l.bus.lost("unit files changed")
		}
	}
}

func (l *link) unitSignal(s *dbus.Signal) {
	changed, ok := at[map[string]dbus.Variant](s.Body, 1)
	if !ok {
		return
	}
	c := Change{Path: s.Path, Unit: true}
	active, _ := changed["ActiveState"].Value().(string)
	sub, _ := changed["SubState"].Value().(string)
	if active == "" && sub == "" {
		return // a job came or went
	}
	l.told(s.Path, active)
	c.What = active + " " + sub
	c.Stamp, _ = changed["StateChangeTimestampMonotonic"].Value().(uint64)
	c.Own = l.bus.isOwn(c)
	l.tell(c)
}

// told notes the state of a unit. It is forgotten when systemd drops the unit, so the
// notes are as many as there are units in memory.
func (l *link) told(path dbus.ObjectPath, active string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if active == "" {
		delete(l.states, path)
	} else {
		l.states[path] = active
	}
}

func (l *link) tell(c Change) {
	l.bus.mu.Lock()
	listeners := l.bus.listeners
	l.bus.mu.Unlock()
	for _, listener := range listeners {
		listener.Changed(c)
	}
}

// at returns an argument of a signal.
func at[T any](body []any, i int) (v T, ok bool) {
	if i < len(body) {
		v, ok = body[i].(T)
	}
	return v, ok
}
