package bus

import (
	"context"
	"errors"
	"path"
	"strconv"

	"github.com/godbus/dbus/v5"
)

// Result is how a job of systemd has ended.
type Result string

// The results, as org.freedesktop.systemd1(5) has them for JobRemoved.
const (
	Done       Result = "done"
	Canceled   Result = "canceled"
	Timeout    Result = "timeout"
	Failed     Result = "failed"
	Dependency Result = "dependency"
	Skipped    Result = "skipped"

	// Unknown is for a job that ended while systemd or the bus was restarted.
	Unknown Result = ""
)

// Start starts a unit and waits until that has worked or failed. The result says which;
// an error, that systemd could not be asked. A cancel leaves the job to systemd.
//
// While it runs, and so for the other jobs, changes of the unit are the caller's Own:
// whoever asked for the job looks at the unit afterwards anyway.
func (b *Bus) Start(ctx context.Context, unit string) (Result, error) {
	return b.job(ctx, "StartUnit", unit)
}

// Stop stops a unit, as Start starts it.
func (b *Bus) Stop(ctx context.Context, unit string) (Result, error) {
	return b.job(ctx, "StopUnit", unit)
}

// Restart stops a unit if it runs, and starts it.
func (b *Bus) Restart(ctx context.Context, unit string) (Result, error) {
	return b.job(ctx, "RestartUnit", unit)
}

// ReloadOrRestart has a unit read its configuration again, or restarts it if it can't. A
// unit that doesn't run is started.
func (b *Bus) ReloadOrRestart(ctx context.Context, unit string) (Result, error) {
	return b.job(ctx, "ReloadOrRestartUnit", unit)
}

// ReloadOrTryRestart is ReloadOrRestart, but leaves a unit alone that doesn't run.
func (b *Bus) ReloadOrTryRestart(ctx context.Context, unit string) (Result, error) {
	return b.job(ctx, "ReloadOrTryRestartUnit", unit)
}

func (b *Bus) job(ctx context.Context, method, unit string) (Result, error) {
	select {
	case b.jobs <- struct{}{}:
		defer func() { <-b.jobs }()
	case <-ctx.Done():
		return Unknown, context.Cause(ctx)
	}
	defer b.owning(unit)()
	l, done, err := b.use(ctx)
	if err != nil {
		return Unknown, err
	}
	defer done()
	if err := l.subscribe(ctx); err != nil {
		return Unknown, err
	}
	end, job, err := l.ask(ctx, method, unit)
	if err != nil {
		return Unknown, b.explain(ctx, service, err)
	}
	for {
		select {
		case <-ctx.Done():
			l.forget(job)
			return Unknown, context.Cause(ctx)
		case result, ok := <-end:
			if ok {
				return Result(result), nil
			}
		}
		// The link broke or systemd began anew: perhaps nobody told.
		if l.broken() {
			again, done, err := b.use(ctx)
			if err != nil {
				return Unknown, err
			}
			defer done()
			l = again
		}
		if end, err = l.resume(ctx, job); err != nil {
			return Unknown, b.explain(ctx, service, err)
		}
		if end == nil {
			return Unknown, nil
		}
	}
}

// owned is a unit for which jobs of this process are under way.
type owned struct {
	jobs   int
	stamp  uint64  // of the last change
	ended  bool    // such a job has, and who asked for it may not know
	missed *Change // since then
}

// owning has changes of a unit be this process's Own until the function that it returns is
// called.
func (b *Bus) owning(unit string) (end func()) {
	mine := []dbus.ObjectPath{UnitPath(unit)}
	if primary := Primary(unit, b == user); primary != unit {
		mine = append(mine, UnitPath(primary))
	}
	b.owns(mine, 1)
	return func() { b.owns(mine, -1) }
}

// owns notes that jobs of this process are under way for units, or no longer.
func (b *Bus) owns(units []dbus.ObjectPath, by int) {
	var missed []Change
	b.mu.Lock()
	if b.own == nil {
		b.own = make(map[dbus.ObjectPath]*owned)
	}
	for _, u := range units {
		o := b.own[u]
		if o == nil {
			o = &owned{}
			b.own[u] = o
		}
		if by < 0 && o.missed != nil {
			missed = append(missed, *o.missed)
			o.missed = nil
		}
		if o.jobs += by; o.jobs == 0 {
			delete(b.own, u)
		}
	}
	listeners := b.listeners
	b.mu.Unlock()
	for _, c := range missed {
		for _, l := range listeners {
			l.Changed(c)
		}
	}
}

// jobEnded is called when a job has that may be one of this process.
func (b *Bus) jobEnded(unit dbus.ObjectPath) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.own[unit]; o != nil {
		o.ended = true
	}
}

// isOwn tells whether c is about a unit for which a job of this process is under way.
// Systemd tells of what a job has done before it tells of the end of the job, but it may
// tell that again.
func (b *Bus) isOwn(c Change) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.own[c.Path]
	if o == nil {
		return false
	}
	news := c.Stamp == 0 || c.Stamp != o.stamp
	o.stamp = c.Stamp
	if o.ended && news {
		c.Stamp = 0 // else it is taken for told already
		o.missed = &c
	}
	return true
}

// ask has systemd begin a job. The channel has the result, or is closed without one when
// that may never be told.
func (l *link) ask(ctx context.Context, method, unit string) (<-chan string, dbus.ObjectPath, error) {
	l.mu.Lock()
	l.asking++
	epoch := l.epoch
	l.mu.Unlock()
	var job dbus.ObjectPath
	err := l.call(ctx, service, root, manager+method, unit, "replace").Store(&job)
	end := make(chan string, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		switch result, ended := l.early[job]; {
		case ended:
			end <- result
		case l.epoch != epoch:
			close(end)
		default:
			l.jobs[job] = end
		}
	}
	if l.asking--; l.asking == 0 {
		clear(l.early)
	}
	return end, job, err
}

// resume waits on for a job that was begun earlier. The channel is nil if it has ended.
func (l *link) resume(ctx context.Context, job dbus.ObjectPath) (<-chan string, error) {
	if err := l.subscribe(ctx); err != nil {
		return nil, err
	}
	end := make(chan string, 1)
	l.mu.Lock()
	l.jobs[job] = end
	l.mu.Unlock()
	id, err := strconv.ParseUint(path.Base(string(job)), 10, 32)
	if err != nil {
		l.forget(job)
		return nil, err
	}
	err = l.call(ctx, service, root, manager+"GetJob", uint32(id)).Err
	if err == nil {
		return end, nil
	}
	l.forget(job)
	if named(err, "org.freedesktop.systemd1.NoSuchJob") {
		return nil, nil
	}
	return nil, err
}

func (l *link) forget(job dbus.ObjectPath) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.jobs, job)
}

// jobRemoved hands the result of a job to who waits for it.
func (l *link) jobRemoved(job dbus.ObjectPath, unit, result string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end, mine := l.jobs[job]
	if mine || l.asking > 0 {
		l.bus.jobEnded(UnitPath(unit))
	}
	if mine {
		end <- result
		delete(l.jobs, job)
	} else if l.asking > 0 {
		l.early[job] = result
	}
}

// Hold has systemd remember how a unit has ended until release is called: of one that is
// inactive it forgets all at once. Until then changes of the unit are the caller's Own, as
// for a job, since it may have to be loaded. It is no error if systemd does not hold it, and
// it is not asked to hold more than maxHeld at a time.
func (b *Bus) Hold(ctx context.Context, unit string) (release func()) {
	end := b.owning(unit)
	if !b.hold() {
		return end
	}
	_, err := b.Call(ctx, service, root, manager+"RefUnit", unit)
	return func() {
		if err == nil {
			_, _ = b.Call(context.WithoutCancel(ctx), service, root, manager+"UnrefUnit", unit)
		}
		b.mu.Lock()
		b.held--
		b.mu.Unlock()
		end()
	}
}

// Systemd asks the bus for a match rule for each unit that is held, and for each job of a
// client, and may have 512 of them: with one more it loses its connection. These leave some
// to others.
const maxHeld, maxJobs = 100, 256

func (b *Bus) hold() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held >= maxHeld {
		return false
	}
	b.held++
	return true
}

// ResetFailed has systemd forget that a unit has failed, and how often it was started.
// Units that have not are fine, too.
func (b *Bus) ResetFailed(ctx context.Context, unit string) error {
	_, err := b.Call(ctx, service, root, manager+"ResetFailedUnit", unit)
	if errors.Is(err, ErrNoUnit) {
		return nil
	}
	return err
}
