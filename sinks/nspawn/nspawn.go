// Package nspawn manages a container of systemd: whether the machine of a name below
// /var/lib/machines runs, as the unit systemd-nspawn@NAME.service.
package nspawn

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/svc"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// Spec describes the kind.
var Spec = sinks.Spec{
	Kind: "nspawn",
	New:  func() sinks.Config { return &Config{State: running} },
}

// The values of state.
const (
	running = "running"
	stopped = "stopped"
)

// Config is the desired state of a container. The resource's name is that of its image,
// a directory below /var/lib/machines, or a file there with the suffix .raw. It is run by
// the unit systemd-nspawn@NAME.service, which machinectl start uses, too; one that somebody
// has started by calling systemd-nspawn is not seen. An image that is not there yet, or
// not complete, fails until it is. When notified, as by the file
// /etc/systemd/nspawn/NAME.nspawn with its settings, a container that runs already is
// restarted.
type Config struct {
	// State says whether the container runs.
	State string `param:"state" oneof:"running stopped"`
}

// validName is what systemd takes as the name of a machine: labels, as in a host name.
var validName = regexp.MustCompile(`^` + label + `(\.` + label + `)*$`)

const label = `[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?`

// maxName is how long the name may be, as a host name on Linux.
const maxName = 64

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	if !validName.MatchString(name) || len(name) > maxName {
		return nil, fmt.Errorf("%q is not the name of a container: letters, digits, - and . only, as in a host name, up to %d of them", name, maxName)
	}
	if states := []string{running, stopped}; !slices.Contains(states, c.State) {
		return nil, &sinks.ParamError{Param: "state", Err: fmt.Errorf("%q is none of running, stopped", c.State)}
	}
	unit := "systemd-nspawn@" + name + ".service"
	r, err := (&svc.Config{State: c.State}).Build(unit, opts)
	if err != nil {
		return nil, err
	}
	return &nspawn{service: r.(service), name: name, unit: unit, state: c.State, bus: bus.System()}, nil
}

// service is what the kind svc makes of the unit.
type service interface {
	sinks.Refresher
	sinks.Owner
	sinks.Waiter
	sinks.Needer
}

// nspawn is the resource: the unit, and what it can't do without.
type nspawn struct {
	service
	name, unit string
	state      string
	bus        *bus.Bus
	failed     string // what look returned for the last start, if that has failed
}

var (
	_ sinks.Refresher = (*nspawn)(nil)
	_ sinks.Owner     = (*nspawn)(nil)
	_ sinks.Waiter    = (*nspawn)(nil)
	_ sinks.Keeper    = (*nspawn)(nil)
)

// Keeps implements sinks.Keeper: a directory of machines that is purged spares it.
func (n *nspawn) Keeps() []string {
	keeps := []string{"path " + n.settings()}
	for _, image := range n.images() {
		keeps = append(keeps, "path "+image)
	}
	return keeps
}

// Watches implements sinks.Resource: the unit, and for one that shall run what it waits
// for. Only an image in the usual place is waited for, not in the rare ones.
func (n *nspawn) Watches() []sources.Watch {
	watches := n.service.Watches()
	if n.state == stopped {
		return watches
	}
	watches = append(watches, inotify.Path(program))
	for _, image := range n.images() {
		watches = append(watches, inotify.Path(image))
	}
	for _, part := range slices.Concat(releases, inits) {
		watches = append(watches, inotify.Path(n.images()[0]+part))
	}
	return watches
}

// CheckApply implements sinks.Resource.
func (n *nspawn) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if err := n.lacks(ctx, false); err != nil {
		return sinks.Outcome{}, err
	}
	return n.run(ctx, apply, n.service.CheckApply)
}

// Refresh implements sinks.Refresher: it restarts a container that runs. One that could
// not be started again is left running.
func (n *nspawn) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if err := n.lacks(ctx, true); err != nil {
		return sinks.Outcome{}, err
	}
	return n.run(ctx, apply, n.service.Refresh)
}

// run has the unit do its part. After a failure a container whose image or settings were
// changed may be started at once, however often that was tried in vain before.
func (n *nspawn) run(ctx context.Context, apply bool, f func(context.Context, bool) (sinks.Outcome, error)) (sinks.Outcome, error) {
	if !apply {
		return f(ctx, false)
	}
	now := n.look()
	if n.failed != "" && n.failed != now {
		if err := n.bus.ResetFailed(ctx, n.unit); err != nil {
			return sinks.Outcome{}, err
		}
	}
	out, err := f(ctx, true)
	if n.failed = ""; err != nil {
		n.failed = now
	}
	return out, err
}
