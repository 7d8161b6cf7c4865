// Package bus is the one connection that this process has to a message bus, and what
// kinds of resources ask of systemd over it. It exists so that any number of resources
// and watches share that connection and one subscription: nobody else dials.
//
// A connection is made when it is first needed. It stays while somebody listens, and for
// a moment after the last call otherwise. One that breaks is made anew at once, or, while
// there is no bus, with pauses; listeners are told that they may have missed something.
//
// Signals are handled one by one in the order in which they come, by the goroutine that
// reads the connection, and are not queued: so none can get lost in a full buffer.
package bus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// dialTime is how long a bus may take to greet.
const dialTime = 5 * time.Second

// linger is how long a connection stays open that nobody uses: a resource that is
// checked and applied without a watch makes a handful of calls.
const linger = 50 * time.Millisecond

// The pauses between attempts to reach a bus while somebody listens.
const (
	minPause = 5 * time.Millisecond
	maxPause = 2 * time.Second
)

var (
	system = &Bus{name: "system", address: systemAddress, dialing: make(chan struct{}, 1), jobs: make(chan struct{}, maxJobs)}
	user   = &Bus{name: "user", address: userAddress, dialing: make(chan struct{}, 1), jobs: make(chan struct{}, maxJobs)}
)

// System returns the bus of the system. It opens nothing.
func System() *Bus { return system }

// User returns the session bus of the user who runs this process. It opens nothing.
func User() *Bus { return user }

// Of returns User if session is set, else System.
func Of(session bool) *Bus {
	if session {
		return user
	}
	return system
}

// A Listener is told of what happens on a bus. Its methods are called by the goroutine
// that reads the connection, or by one that has called the bus: they return at once and call
// nothing of the bus. They may be called for a moment after its stop function has returned.
type Listener interface {
	// Changed tells that an object has emitted a signal.
	Changed(Change)

	// Lost tells that signals may have been missed, and why in a word: "reconnected".
	Lost(why string)
}

// Change is a signal, as far as a watch wants to know.
type Change struct {
	// Path is the object: that of a unit is UnitPath of its name.
	Path dbus.ObjectPath

	// What is what happened in a word or two, for logs: "active running", "new".
	What string

	// Unit says that it is a unit of systemd, and then Stamp is when its state changed,
	// in systemd's own count. The same stamp is the same state, told twice. 0 is unknown.
	Unit  bool
	Stamp uint64

	// Own says that a job which this process has asked for is under way for the unit. What
	// has happened after its end, and before whoever asked for it knew, is told once more
	// without it.
	Own bool
}

// Bus is a message bus. Its methods may be called from any goroutine.
type Bus struct {
	name    string
	address func() (string, error)

	dialing chan struct{} // holds an item while a connection is made
	jobs    chan struct{} // holds an item for each job that is under way

	mu         sync.Mutex
	link       *link // nil before the first use, and when it is known to be broken
	busy       int   // calls under way
	idle       *time.Timer
	listeners  []Listener
	stop       context.CancelFunc // ends the goroutine that keeps the connection up
	keeping    sync.WaitGroup
	down       chan struct{}  // holds one item when the connection may have broken
	rules      map[string]int // match rules that listeners have asked for
	units      int            // calls of WatchUnits
	held       int            // units by Hold
	own        map[dbus.ObjectPath]*owned
	announced  announced
	nextReload *reload // others may join it
	lastReload *reload
}

// Listen keeps the connection open and has l told of what happens on it, until the
// function that it returns is called.
func (b *Bus) Listen(l Listener) (stop func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners = append(b.listeners[:len(b.listeners):len(b.listeners)], l)
	if len(b.listeners) == 1 {
		ctx, cancel := context.WithCancel(context.Background())
		b.stop = cancel
		b.down = make(chan struct{}, 1)
		down := b.down
		b.keeping.Go(func() { b.keep(ctx, down) })
	}
	return sync.OnceFunc(func() { b.unlisten(l) })
}

func (b *Bus) unlisten(l Listener) {
	b.mu.Lock()
	left := make([]Listener, 0, len(b.listeners))
	for _, other := range b.listeners {
		if other != l {
			left = append(left, other)
		}
	}
	b.listeners = left
	var stop context.CancelFunc
	if len(left) == 0 {
		stop, b.stop, b.down = b.stop, nil, nil
		b.rest()
	}
	b.mu.Unlock()
	if stop != nil {
		stop()
		b.keeping.Wait()
	}
}

// Match subscribes listeners to the signals of an object of a service, such as
// /org/freedesktop/hostname1 of org.freedesktop.hostname1, until Unmatch. If the bus
// can't be reached the subscription waits for it.
func (b *Bus) Match(ctx context.Context, service string, path dbus.ObjectPath) {
	b.match(ctx, objectRule(service, path), 1)
}

// Unmatch undoes one Match.
func (b *Bus) Unmatch(ctx context.Context, service string, path dbus.ObjectPath) {
	b.match(ctx, objectRule(service, path), -1)
}

func objectRule(service string, path dbus.ObjectPath) string {
	return fmt.Sprintf("type='signal',sender='%s',path='%s'", service, path)
}

func (b *Bus) match(ctx context.Context, rule string, by int) {
	b.mu.Lock()
	if b.rules == nil {
		b.rules = make(map[string]int)
	}
	was := b.rules[rule]
	if b.rules[rule] += by; b.rules[rule] == 0 {
		delete(b.rules, rule)
	}
	changed := (was == 0) != (b.rules[rule] == 0)
	connected := b.link != nil
	b.mu.Unlock()
	if changed && (by > 0 || connected) {
		b.reach(ctx)
	}
}

// WatchUnits subscribes listeners to all units of systemd, until UnwatchUnits. If systemd
// can't be reached the subscription waits for it.
func (b *Bus) WatchUnits(ctx context.Context) {
	b.mu.Lock()
	b.units++
	first := b.units == 1
	b.mu.Unlock()
	if first {
		b.reach(ctx)
	}
}

// UnwatchUnits undoes one WatchUnits. The subscription ends with the connection.
func (b *Bus) UnwatchUnits() {
	b.mu.Lock()
	b.units--
	b.mu.Unlock()
}

// reach has the connection made and subscribed, if that is possible now. The goroutine
// that keeps it up tries on if it isn't.
func (b *Bus) reach(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	l, done, err := b.use(ctx)
	if err != nil {
		return
	}
	defer done()
	_ = b.settle(ctx, l)
}

// settle has a connection bring what listeners have asked for. An error is for the
// goroutine that keeps it up; when systemd comes later, the connection is told.
func (b *Bus) settle(ctx context.Context, l *link) error {
	if err := l.match(ctx); err != nil {
		_ = l.conn.Close() // the next one begins with the rules
		return err
	}
	b.mu.Lock()
	units := b.units > 0
	b.mu.Unlock()
	if !units {
		return nil
	}
	return l.subscribe(ctx)
}

// Flush returns when listeners have been told of all that systemd knew of when it was
// called, or there is nothing to wait for.
func (b *Bus) Flush(ctx context.Context) error {
	b.mu.Lock()
	l := b.link
	b.mu.Unlock()
	if l == nil || l.broken() || !l.subscribed() {
		return nil
	}
	// Systemd sends what has changed between two calls that it answers.
	for range 2 {
		if err := l.call(ctx, service, root, "org.freedesktop.DBus.Peer.Ping").Err; ctx.Err() != nil {
			return context.Cause(ctx)
		} else if err != nil {
			return nil // it is away: listeners are told when it is back
		}
	}
	return nil
}

// Call calls a method, by its full name, of an object of a service, and returns its
// results, for dbus.Store. It starts the service if the bus knows how. Errors say what
// is missing: see Missing.
func (b *Bus) Call(ctx context.Context, service string, path dbus.ObjectPath, method string, args ...any) ([]any, error) {
	l, done, err := b.use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	c := l.call(ctx, service, path, method, args...)
	if c.Err != nil {
		return nil, b.explain(ctx, service, c.Err)
	}
	return c.Body, nil
}

// Property returns a property of an object of a service.
func (b *Bus) Property(ctx context.Context, service string, path dbus.ObjectPath, iface, name string) (any, error) {
	body, err := b.Call(ctx, service, path, getProperty, iface, name)
	if err != nil {
		return nil, err
	}
	var v dbus.Variant
	if err := dbus.Store(body, &v); err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", name, path, err)
	}
	return v.Value(), nil
}

// use returns a connection, made now if there is none, for as long as done isn't called.
func (b *Bus) use(ctx context.Context) (l *link, done func(), err error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	b.mu.Lock()
	b.busy++
	l = b.link
	b.mu.Unlock()
	if l == nil || l.broken() {
		if l, err = b.dial(ctx); err != nil {
			b.unused()
			return nil, nil, err
		}
	}
	return l, b.unused, nil
}

func (b *Bus) unused() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy--
	b.rest()
}

// rest has the connection closed soon if nobody uses it.
func (b *Bus) rest() {
	if b.busy > 0 || len(b.listeners) > 0 || b.link == nil {
		return
	}
	if b.idle == nil {
		b.idle = time.AfterFunc(linger, b.hangUp)
	} else {
		b.idle.Reset(linger)
	}
}

// hangUp closes the connection unless somebody uses it.
func (b *Bus) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy == 0 && len(b.listeners) == 0 && b.link != nil {
		_ = b.link.conn.Close()
		b.link = nil
	}
}

// dial makes a connection, unless somebody else just has.
func (b *Bus) dial(ctx context.Context) (*link, error) {
	select {
	case b.dialing <- struct{}{}:
		defer func() { <-b.dialing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	b.mu.Lock()
	l := b.link
	b.mu.Unlock()
	if l != nil && !l.broken() {
		return l, nil
	}
	l, err := open(ctx, b)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.link = l
	b.mu.Unlock()
	return l, nil
}

// keep keeps the connection up while somebody listens.
func (b *Bus) keep(ctx context.Context, down <-chan struct{}) {
	pause := time.Duration(0)
	missed := false
	for {
		l, done, err := b.use(ctx)
		if err == nil {
			err = b.settle(ctx, l)
			done()
		}
		switch {
		case ctx.Err() != nil:
			return
		case l != nil && missed:
			b.lost("reconnected")
			missed = false
		}
		var again <-chan time.Time
		if err != nil && l == nil {
			missed = true
			pause = min(max(2*pause, minPause), maxPause)
			again = time.After(pause)
		} else {
			pause = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-down:
			missed = true
		case <-again:
		}
	}
}

// lost tells all listeners.
func (b *Bus) lost(why string) {
	b.mu.Lock()
	listeners := b.listeners
	b.mu.Unlock()
	for _, l := range listeners {
		l.Lost(why)
	}
}

// broke is called when a connection has ended.
func (b *Bus) broke(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.link == l {
		b.link = nil
	}
	if b.down != nil {
		select {
		case b.down <- struct{}{}:
		default:
		}
	}
}
