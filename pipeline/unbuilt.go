package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sources"
)

// unbuilt stands for a resource that is built when all that it receives is there. What it
// says of itself holds whatever that will be.
type unbuilt struct {
	owns, keeps []string
	provides    []sinks.Fact
	needs       []sinks.Need
	waits, acts bool
}

var (
	_ sinks.Owner    = (*unbuilt)(nil)
	_ sinks.Keeper   = (*unbuilt)(nil)
	_ sinks.Provider = (*unbuilt)(nil)
	_ sinks.Needer   = (*unbuilt)(nil)
	_ sinks.Waiter   = (*unbuilt)(nil)
	_ sinks.Actor    = (*unbuilt)(nil)
)

var errUnbuilt = errors.New("it is not built, since it has not received all that it is made of")

// Watches implements sinks.Resource.
func (u *unbuilt) Watches() []sources.Watch { return nil }

// CheckApply implements sinks.Resource. It is never called.
func (u *unbuilt) CheckApply(context.Context, bool) (sinks.Outcome, error) {
	return sinks.Outcome{}, errUnbuilt
}

// Owns implements sinks.Owner.
func (u *unbuilt) Owns() []string { return u.owns }

// Keeps implements sinks.Keeper.
func (u *unbuilt) Keeps() []string { return u.keeps }

// Provides implements sinks.Provider.
func (u *unbuilt) Provides() []sinks.Fact { return u.provides }

// Needs implements sinks.Needer.
func (u *unbuilt) Needs() []sinks.Need { return u.needs }

// Waits implements sinks.Waiter.
func (u *unbuilt) Waits() bool { return u.waits }

// Acts implements sinks.Actor.
func (u *unbuilt) Acts() bool { return u.acts }

// notReceived stands in for a text that has not been received. Nothing on a host has it in
// its name.
const notReceived = "mgmt-has-not-received-this"

// guesses are texts that could be received, of the sorts that resources check most: any
// text, a path, an address.
var guesses = []string{notReceived, "/" + notReceived, "http://localhost/" + notReceived, notReceived}

// standIn describes the resource of a vertex that receives something, as far as it can be
// known before. The error is one that whatever is received does not mend.
func (v *Vertex) standIn(opts sinks.Options) (sinks.Resource, error) {
	opts.Log, opts.Shared = nil, new(sinks.Shared)
	var first error
	same := true
	for i := range len(guesses) + 1 {
		cfg := v.Config
		if i < len(guesses) {
			cfg = params.Clone(cfg)
			for _, r := range v.receives {
				if params.Pretend(cfg, r.param, r.key, guesses[i], i) != nil {
					return &unbuilt{waits: true}, nil // which has been reported
				}
			}
		}
		resource, err := cfg.Build(v.Name, opts)
		if err == nil {
			return knownAhead(resource), nil
		}
		if first == nil {
			first = err
		}
		same = same && err.Error() == first.Error()
	}
	bad, ok := errors.AsType[*sinks.ParamError](first)
	about := ok && slices.ContainsFunc(v.receives, func(r received) bool { return r.param == bad.Param })
	if !same || about {
		return &unbuilt{waits: true}, nil
	}
	return nil, first
}

// knownAhead keeps what a resource says of itself that is not made of a guess.
func knownAhead(r sinks.Resource) *unbuilt {
	guessed := func(s string) bool { return strings.Contains(s, notReceived) }
	var u unbuilt
	if r, ok := r.(sinks.Owner); ok {
		u.owns = slices.DeleteFunc(slices.Clone(r.Owns()), guessed)
	}
	if r, ok := r.(sinks.Keeper); ok {
		u.keeps = slices.DeleteFunc(slices.Clone(r.Keeps()), guessed)
	}
	if r, ok := r.(sinks.Provider); ok {
		u.provides = slices.DeleteFunc(slices.Clone(r.Provides()), func(f sinks.Fact) bool { return guessed(f.Name) })
	}
	if r, ok := r.(sinks.Needer); ok {
		u.needs = slices.DeleteFunc(slices.Clone(r.Needs()), func(n sinks.Need) bool { return guessed(n.Name) })
	}
	if r, ok := r.(sinks.Waiter); ok {
		u.waits = r.Waits()
	}
	if r, ok := r.(sinks.Actor); ok {
		u.acts = r.Acts()
	}
	return &u
}
