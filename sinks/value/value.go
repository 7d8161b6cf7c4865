// Package value gives a value a name, so that many resources can receive the same one.
package value

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// Spec is the kind "value".
var Spec = sinks.Spec{Kind: "value", New: func() sinks.Config { return &Config{} }}

// Config is a value that others receive. It may be received itself: so the output of one
// command gets a name, and goes to many.
//
// There is nothing on the host that it stands for. It counts as changed when it is another
// than the one that it has sent before in this run of mgmt, and whoever is notified by it
// then is. The first one is no change.
type Config struct {
	// Value is a string. One of value, list and map has to be given; there may be several.
	Value *string `param:"value"`

	// List is a list of strings.
	List []string `param:"list"`

	// Map is a mapping of strings.
	Map map[string]string `param:"map"`

	// Secret hides the values from everything that prints, wherever they are sent to. A
	// value that is received from a secret output is hidden anyway.
	Secret bool `param:"secret"`
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	if c.Value == nil && c.List == nil && c.Map == nil {
		return nil, &sinks.ParamError{Param: "value", Err: errors.New("it is missing, and so are list and map: give one of them")}
	}
	v := &value{secret: c.Secret, space: opts.Space(), key: key{name}}
	v.list, v.mapping = slices.Clone(c.List), maps.Clone(c.Map)
	if c.Value != nil {
		text := *c.Value
		v.text = &text
	}
	return v, nil
}

// values is what is sent.
type values struct {
	text    *string
	list    []string
	mapping map[string]string
}

type value struct {
	values
	secret bool
	space  *sinks.Shared
	key    key
}

// key is under which the resources of a run share what the one of that name has sent: it
// is another resource as soon as it receives another value.
type key struct{ name string }

// sent is what was sent last.
type sent struct {
	mu   sync.Mutex
	last *values // nil for nothing
}

// Watches implements sinks.Resource.
func (*value) Watches() []sources.Watch { return nil }

// CheckApply implements sinks.Resource.
func (v *value) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	shared := v.space.Value(v.key, func() any { return &sent{} }).(*sent)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	out := sinks.Outcome{Values: v.outputs()}
	if shared.last != nil && !reflect.DeepEqual(*shared.last, v.values) {
		out.Changed, out.Changes = true, v.changes(*shared.last)
	}
	if apply {
		shared.last = &v.values
	}
	return out, nil
}

// outputs is what is sent, as the engine owns it.
func (v *value) outputs() map[string]any {
	sends := map[string]any{}
	if v.text != nil {
		sends["value"] = *v.text
	}
	if v.list != nil {
		sends["list"] = slices.Clone(v.list)
	}
	if v.mapping != nil {
		sends["map"] = maps.Clone(v.mapping)
	}
	return sends
}

// changes is what differs from what was sent before.
func (v *value) changes(before values) []sinks.Change {
	var changes []sinks.Change
	change := func(field, from, to string) {
		if from != to {
			changes = append(changes, sinks.Change{Field: field, From: from, To: to, Secret: v.secret})
		}
	}
	change("value", before.showText(), v.showText())
	change("list", before.showList(), v.showList())
	change("map", before.showMap(), v.showMap())
	return changes
}

func (v *values) showText() string {
	if v.text == nil {
		return "(none)"
	}
	return sinks.Text([]byte(*v.text))
}

func (v *values) showList() string {
	if v.list == nil {
		return "(none)"
	}
	return sinks.Text([]byte(fmt.Sprintf("%q", v.list)))
}

func (v *values) showMap() string {
	if v.mapping == nil {
		return "(none)"
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(v.mapping)) {
		pairs = append(pairs, fmt.Sprintf("%s: %q", name, v.mapping[name]))
	}
	return sinks.Text([]byte("{" + strings.Join(pairs, ", ") + "}"))
}
