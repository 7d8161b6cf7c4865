package pipeline

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
)

// Meta holds the meta-parameters: what every resource understands, whatever its kind.
// Its fields are decoded by the tags that package params describes. Begin with
// DefaultMeta: the zero value means something else.
type Meta struct {
	// Noop checks and reports what would change, and changes nothing.
	Noop bool `param:"noop"`

	// Retry is how often a failed CheckApply or watch is tried again: -1 for ever.
	Retry int `param:"retry"`

	// RetryReset gives the retries back after a success.
	RetryReset bool `param:"retryreset"`

	// Delay is the wait between two attempts.
	Delay time.Duration `param:"delay" unit:"ms"`

	// Backoff doubles the delay after each failed attempt in a row, up to MaxDelay, and
	// varies each wait by up to a half, so that many hosts don't come at once. A delay of 0
	// begins with 100 ms.
	Backoff bool `param:"backoff"`

	// MaxDelay is the longest wait that Backoff leads to.
	MaxDelay time.Duration `param:"maxdelay" unit:"ms"`

	// Timeout is the longest that one CheckApply may run; 0 is no limit.
	Timeout time.Duration `param:"timeout" unit:"ms"`

	// Poll is the interval at which the resource is checked instead of being watched;
	// 0 watches.
	Poll time.Duration `param:"poll" unit:"s"`

	// Limit is how many events a second reach the resource; +Inf is no limit.
	Limit float64 `param:"limit"`

	// Burst is how many events are let through at once under Limit. It is 1 if there is
	// a limit and the file says nothing.
	Burst int `param:"burst"`

	// Sema names counting semaphores that are shared by all who name them: "id" or
	// "id:count", with a count of 1 when absent. Those called "mesh:id" or "mesh:id:count"
	// are shared by all hosts of the mesh.
	Sema []string `param:"sema"`

	// Reset forgets retry and limit state when the resource's definition changes.
	Reset bool `param:"reset"`

	// Rewatch starts a failed watch again when the graph is swapped.
	Rewatch bool `param:"rewatch"`

	// Realize lets the resource converge at least once before a swap may remove or
	// change it.
	Realize bool `param:"realize"`

	// AutoEdge lets the resource take part in automatic edges.
	AutoEdge bool `param:"autoedge"`

	// AutoGroup lets the resource take part in automatic grouping.
	AutoGroup bool `param:"autogroup"`

	// Hidden keeps the resource in the graph without ever executing it on this host.
	Hidden bool `param:"hidden"`

	// Export publishes the resource for these hosts; "*" stands for all.
	Export []string `param:"export"`

	// Reverse undoes what the resource stood for when it leaves the graph.
	Reverse bool `param:"reverse"`

	// Secret hides what the resource is made of: its changes are told without the values, and
	// it is exported to hosts that are listed only, sealed for them.
	Secret bool `param:"secret"`

	// Safe says that the commands with which the resource only looks have no effect, so
	// that a plan may run them.
	Safe bool `param:"safe"`
}

// DefaultMaxDelay is the usual Meta.MaxDelay.
const DefaultMaxDelay = 5 * time.Minute

// defaultMeta is shared by all vertices that set nothing.
var defaultMeta = DefaultMeta()

// DefaultMeta returns the meta-parameters of a resource that sets none.
func DefaultMeta() Meta {
	return Meta{Limit: math.Inf(1), MaxDelay: DefaultMaxDelay, AutoEdge: true, AutoGroup: true}
}

// Validate checks the ranges. Its error is a *sinks.ParamError.
func (m *Meta) Validate() error {
	bad := func(param, format string, args ...any) error {
		return &sinks.ParamError{Param: param, Err: fmt.Errorf(format, args...)}
	}
	for _, d := range []struct {
		param string
		value time.Duration
	}{{"delay", m.Delay}, {"maxdelay", m.MaxDelay}, {"timeout", m.Timeout}, {"poll", m.Poll}} {
		if d.value < 0 {
			return bad(d.param, "%v is negative, expected 0 or more", d.value)
		}
	}
	switch {
	case m.Retry < -1:
		return bad("retry", "%d is too small, expected a number of attempts, or -1 for ever", m.Retry)
	case math.IsNaN(m.Limit) || m.Limit <= 0:
		return bad("limit", "%v is not a rate, expected more than 0 events a second, or .inf for no limit", m.Limit)
	case m.Burst < 0:
		return bad("burst", "%d is negative, expected a number of events", m.Burst)
	case m.Burst == 0 && !math.IsInf(m.Limit, 1):
		return bad("burst", "0 lets no event through under a limit of %v a second, expected 1 or more", m.Limit)
	}
	for _, s := range m.Sema {
		if _, _, err := parseSema(s); err != nil {
			return &sinks.ParamError{Param: "sema", Err: err}
		}
	}
	for _, host := range m.Export {
		if host == "" {
			return bad("export", "a host name is empty, expected the names of hosts, or * for all")
		}
	}
	return nil
}

// parseSema splits "id:count". The id of a semaphore of the mesh begins with meshMark.
// "mesh:2" is one of this host that is called mesh.
func parseSema(s string) (id string, count int, err error) {
	id, text, given := strings.Cut(s, ":")
	if _, err := strconv.Atoi(text); id+":" == meshMark && given && err != nil {
		id, text, given = strings.Cut(text, ":")
		if id != "" {
			id = meshMark + id
		}
	}
	count = 1
	if given {
		count, err = strconv.Atoi(text)
	}
	switch {
	case id == "":
		return "", 0, errors.New("the name of a semaphore is empty, expected \"id\" or \"id:count\"")
	case err != nil || count < 1:
		return "", 0, fmt.Errorf("%q is not a semaphore, expected \"id\" or \"id:count\" with a count of 1 or more", s)
	}
	return id, count, nil
}
