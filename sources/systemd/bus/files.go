package bus

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"
)

// fileChange is what systemd did to a link of a unit file.
type fileChange struct{ Kind, Path, Source string }

// Enable makes the links that the [Install] section of a unit's file asks for. It reports
// whether there is such a section, and whether something had to be changed. Systemd sees
// it after DaemonReload.
func (b *Bus) Enable(ctx context.Context, unit string) (installable, changed bool, err error) {
	body, changed, err := b.changeFiles(ctx, 1, "EnableUnitFiles", []string{unit}, false, true)
	if err == nil {
		installable, _ = at[bool](body, 0)
	}
	return installable, changed, err
}

// Disable removes those links, also those that last until the next boot.
func (b *Bus) Disable(ctx context.Context, unit string) (changed bool, err error) {
	return b.both(ctx, "DisableUnitFiles", unit)
}

// Mask links a unit to nothing, so that it can't be started.
func (b *Bus) Mask(ctx context.Context, unit string) (changed bool, err error) {
	_, changed, err = b.changeFiles(ctx, 0, "MaskUnitFiles", []string{unit}, false, false)
	return changed, err
}

// Unmask removes that link, also one that lasts until the next boot.
func (b *Bus) Unmask(ctx context.Context, unit string) (changed bool, err error) {
	return b.both(ctx, "UnmaskUnitFiles", unit)
}

func (b *Bus) both(ctx context.Context, method, unit string) (bool, error) {
	_, one, err := b.changeFiles(ctx, 0, method, []string{unit}, false)
	if err != nil {
		return one, err
	}
	_, two, err := b.changeFiles(ctx, 0, method, []string{unit}, true)
	return one || two, err
}

// changeFiles calls a method that changes unit files and returns its results, of which
// the one at index is what was changed.
func (b *Bus) changeFiles(ctx context.Context, index int, method string, args ...any) (body []any, changed bool, err error) {
	b.announced.begin(fileChanges)
	signals := 0
	defer func() {
		if b.announced.end(fileChanges, signals) {
			b.lost("unit files changed")
		}
	}()
	body, err = b.Call(ctx, service, root, manager+method, args...)
	if err != nil {
		return nil, false, err
	}
	var changes []fileChange
	if err := dbus.Store(body[index:index+1], &changes); err != nil {
		return nil, false, err
	}
	if len(changes) > 0 {
		signals = 1
	}
	return body, len(changes) > 0, nil
}

// reloadTime is how long systemd may take to read all unit files.
const reloadTime = 90 * time.Second

// DaemonReload has systemd read all unit files anew. Calls during one share the next.
func (b *Bus) DaemonReload(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.mu.Lock()
	turn := b.nextReload
	if turn == nil {
		turn = &reload{done: make(chan struct{})}
		before := b.lastReload
		b.nextReload, b.lastReload = turn, turn
		go b.reload(turn, before)
	}
	b.mu.Unlock()
	select {
	case <-turn.done:
		return turn.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reload is one daemon-reload, for whose end several callers may wait.
type reload struct {
	done chan struct{}
	err  error
}

// reload begins when the one before has ended. Others may join until then.
func (b *Bus) reload(turn, before *reload) {
	if before != nil {
		<-before.done
	}
	b.mu.Lock()
	b.nextReload = nil
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), reloadTime)
	defer cancel()
	b.announced.begin(reloads)
	_, turn.err = b.Call(ctx, service, root, manager+"Reload")
	signals := 0
	if turn.err == nil {
		signals = 1
	}
	if b.announced.end(reloads, signals) {
		b.lost("daemon-reload")
	}
	close(turn.done)
}
