// Package schedule picks hosts of the mesh for a role, such as who runs a service of which
// there has to be one.
package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// Spec is the schedule resource.
var Spec = sinks.Spec{
	Kind: "schedule",
	New:  func() sinks.Config { return &Config{Strategy: rendezvous, Max: 1, Offer: true} },
}

// Config is a role. Each host that has a schedule of the role offers itself for it, as long
// as it lives and the resource is in its graph; of those, some are chosen. All hosts see the
// same decision, which is kept in the mesh, and send it.
//
// Who has the role keeps it: another one is chosen only when a host is gone, or max has
// grown. A host that dies without a word counts as gone after ten seconds, one that leaves
// in order at once.
//
// It counts as changed when others are chosen than those that it has sent before. While
// the mesh can't be reached the resource has failed, and what it has sent before holds.
type Config struct {
	// Role is the name of the role; the default is the name of the resource.
	Role string `param:"role" alias:"namespace"`

	// Strategy says who is preferred when a place is free. rendezvous spreads the roles
	// over the hosts by a number that is made of both names. roundrobin takes the next
	// host, in the order of the alphabet, after the one that was chosen last. leastloaded
	// takes the host with the smallest load, and of those the one with the fewest other
	// roles. alphabetical takes the first. Where hosts name different ones, that of the
	// first host in the order of the alphabet counts.
	Strategy string `param:"strategy" oneof:"rendezvous roundrobin leastloaded alphabetical"`

	// Max is how many hosts are chosen at most. Where hosts name different numbers, the
	// largest counts.
	Max int `param:"max"`

	// Offer says that this host offers itself. Without it the resource only sends who is
	// chosen, and its strategy and max count for nothing.
	Offer bool `param:"offer"`

	// Load is how busy this host is, for leastloaded: a number of any sort that is greater on
	// a busier host, such as the output of a command. Without it, it is 0.
	Load string `param:"load"`
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	if c.Max < 1 {
		return nil, &sinks.ParamError{Param: "max", Err: fmt.Errorf("%d is too small, expected a number of hosts", c.Max)}
	}
	load := 0.0
	if c.Load != "" {
		var err error
		if load, err = strconv.ParseFloat(strings.TrimSpace(c.Load), 64); err != nil || math.IsNaN(load) || math.IsInf(load, 0) {
			return nil, &sinks.ParamError{Param: "load", Err: fmt.Errorf("%q is no number, expected one such as 0.5", c.Load)}
		}
	}
	s := &schedule{store: opts.Mesh, role: c.Role, space: opts.Space()}
	if s.role == "" {
		s.role = name
	}
	if c.Offer {
		s.offer = &offer{Strategy: c.Strategy, Max: c.Max, Load: load}
	}
	return s, nil
}

type schedule struct {
	store mesh.Store
	role  string
	offer *offer // nil for who only looks on
	space *sinks.Shared

	claim sync.Once
	sent  []string // nil before
}

var (
	_ sinks.Owner     = (*schedule)(nil)
	_ sinks.Waiter    = (*schedule)(nil)
	_ sinks.Announcer = (*schedule)(nil)
	_ sinks.Closer    = (*schedule)(nil)
)

// Owns implements sinks.Owner.
func (s *schedule) Owns() []string {
	if s.offer == nil {
		return nil
	}
	return []string{"offer for the role " + s.role}
}

// Waits implements sinks.Waiter: it waits for a server.
func (*schedule) Waits() bool { return true }

// Announces implements sinks.Announcer.
func (*schedule) Announces() {}

// Watches implements sinks.Resource.
func (s *schedule) Watches() []sources.Watch {
	if s.store == nil {
		return nil
	}
	s.claimRole() // before the resource in whose place this one comes is closed
	return []sources.Watch{mesh.Below(mesh.RolePrefix), mesh.Key(decisionKey(s.role))}
}

// CheckApply implements sinks.Resource. Each host decides by itself, by what all see; a
// decision is made only if nobody has made another one since it was looked at.
func (s *schedule) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	if s.store == nil {
		return sinks.Outcome{}, sinks.ErrNoMesh
	}
	if apply {
		s.claimRole()
	}
	const tries = 20
	for try := 1; ; try++ {
		seen, err := s.look(ctx)
		if err != nil {
			return sinks.Outcome{}, sinks.MeshError(err)
		}
		out, txn, err := s.decide(seen)
		if err != nil {
			return sinks.Outcome{}, err
		}
		if apply && len(txn.Ops) > 0 {
			if err := sinks.BeforeChange(ctx); err != nil {
				return sinks.Outcome{}, err
			}
			if _, err := s.store.Write(ctx, txn); errors.Is(err, mesh.ErrConflict) && try < tries {
				continue
			} else if err != nil {
				return sinks.Outcome{}, sinks.MeshError(err)
			}
		}
		if apply {
			s.sent = out.Values[hostsOutput].([]string)
			out.Values[hostsOutput] = slices.Clone(s.sent)
		}
		return out, nil
	}
}

// decide compares what was seen with what has to be, and returns the changes that lead there.
func (s *schedule) decide(seen view) (sinks.Outcome, mesh.Txn, error) {
	var out sinks.Outcome
	var txn mesh.Txn
	host := s.store.Host()
	if s.offer != nil {
		before, there := seen.offers[host]
		seen.offers[host] = *s.offer
		if !there || before != *s.offer {
			value, err := json.Marshal(s.offer)
			if err != nil {
				return out, txn, err
			}
			txn.Ops = append(txn.Ops, mesh.Op{Key: offerKey(host, s.role), Value: value, Bound: true})
			out.Changes = append(out.Changes, offered(before, there, *s.offer))
		}
	}
	after := choose(s.role, seen.decision, seen.offers, seen.roles)
	if !after.equal(seen.decision) {
		value, err := json.Marshal(after)
		if err != nil {
			return out, txn, err
		}
		txn.If = append(txn.If, mesh.Condition{Key: decisionKey(s.role), Revision: seen.revision})
		txn.Ops = append(txn.Ops, mesh.Put(decisionKey(s.role), value))
	}
	before := s.sent
	if before == nil || !slices.Equal(seen.decision.Hosts, after.Hosts) {
		before = seen.decision.Hosts
	}
	if !slices.Equal(before, after.Hosts) {
		out.Changes = append(out.Changes, sinks.Change{Field: hostsOutput, From: strings.Join(before, " "), To: strings.Join(after.Hosts, " ")})
	}
	out.Changed = len(txn.Ops) > 0 || len(out.Changes) > 0
	out.Values = map[string]any{
		hostsOutput:  append([]string{}, after.Hosts...),
		chosenOutput: slices.Contains(after.Hosts, host),
	}
	return out, txn, nil
}

// offered is how a new offer is told.
func offered(before offer, there bool, after offer) sinks.Change {
	tell := func(o offer) string {
		if o.Load == 0 {
			return fmt.Sprintf("%s, max %d", o.Strategy, o.Max)
		}
		return fmt.Sprintf("%s, max %d, load %v", o.Strategy, o.Max, o.Load)
	}
	c := sinks.Change{Field: "offer", From: "none", To: tell(after)}
	if there {
		c.From = tell(before)
	}
	return c
}

// claims counts the resources that offer this host for a role: more than one while one
// takes the place of another.
type claims struct {
	mu    sync.Mutex
	count int
}

// key is under which the resources of a run share the claims of a host for a role.
type key struct{ host, role string }

func (s *schedule) claims() *claims {
	return s.space.Value(key{s.store.Host(), s.role}, func() any { return &claims{} }).(*claims)
}

// claimRole counts the resource, once.
func (s *schedule) claimRole() {
	if s.offer == nil {
		return
	}
	s.claim.Do(func() {
		c := s.claims()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.count++
	})
}

// Close implements sinks.Closer: the host does not offer itself any more, unless another
// resource does so for it.
func (s *schedule) Close() error {
	claimed := s.offer != nil
	s.claim.Do(func() { claimed = false }) // it has never run
	if !claimed || s.store == nil {
		return nil
	}
	c := s.claims()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if _, err := s.store.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Delete(offerKey(s.store.Host(), s.role))}}); err != nil {
		return fmt.Errorf("this host offers itself for the role %s until it leaves the mesh: %w", s.role, err)
	}
	return nil
}
