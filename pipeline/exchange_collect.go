package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// collector knows what other hosts export, and makes of it what the graph collects.
type collector struct {
	x *Exchange

	collect []Collect // of the graph
	options sinks.Options
	names   map[identity]bool  // of the graph's own resources
	owned   map[string]*Vertex // what they manage

	offers  map[string]*offer // by key
	sorted  []*offer          // the same, in the order in which they count; nil if that may have changed
	chosen  []*offer          // those that are collected
	changed bool              // what is to be collected is not what was
	shaped  bool              // chosen holds, but for what each offer says
	told    map[string]string // what was told of offers, by key

	watching bool // presence
	alive    map[string]bool
	left     map[string]time.Time // when hosts were noticed to have gone
	checked  time.Time            // up to when that has been considered

	opening chan struct{} // slots for what opens sealed contents
	busy    int           // how many are being opened

	revision int64 // of the store, up to which all was taken in
}

// offer is what another host exports.
type offer struct {
	entry            mesh.Entry
	host, kind, name string
	file             string // where it is described on its host, if that is known

	vertex *Vertex  // what the graph makes of it; nil if it does not collect it
	owns   []string // what that manages
	err    error    // why vertex is not what the entry says

	opened  *contents // what was sealed
	closing bool      // it is being opened
}

// maxOpening is how many sealed contents are opened at once.
const maxOpening = 4

func (c *collector) init(x *Exchange) {
	*c = collector{
		x: x, offers: map[string]*offer{}, alive: map[string]bool{}, left: map[string]time.Time{},
		opening: make(chan struct{}, maxOpening),
	}
}

// adopt makes g the graph for which is collected.
func (c *collector) adopt(g *Graph) {
	c.options, c.shaped = g.options, false
	c.names = make(map[identity]bool, len(g.Vertices))
	c.owned = map[string]*Vertex{}
	for _, v := range g.Vertices {
		c.names[identity{v.Kind, v.Name}] = true
		if owner, ok := v.Resource.(sinks.Owner); ok && !v.Meta.Hidden {
			for _, thing := range owner.Owns() {
				c.owned[thing] = v
			}
		}
	}
	if slices.EqualFunc(c.collect, g.Collect, Collect.equal) {
		return
	}
	c.collect = g.Collect
	c.x.kept.touch()
	for _, o := range c.offers {
		o.vertex, o.err = nil, nil
		c.evaluate(o)
	}
}

func (c Collect) equal(d Collect) bool {
	c.Pos, d.Pos = Position{}, Position{}
	return c == d
}

// put takes in what a host exports.
func (c *collector) put(e mesh.Entry, host, kind, name string) {
	o := c.offers[e.Key]
	if o == nil {
		o = &offer{host: host, kind: kind, name: name}
		c.offers[e.Key] = o
		c.sorted = nil
	} else if bytes.Equal(o.entry.Value, e.Value) {
		o.entry = e
		return
	}
	o.entry, o.opened, o.closing = e, nil, false
	c.evaluate(o)
}

// drop takes in that something is exported no more.
func (c *collector) drop(key string) {
	o := c.offers[key]
	if o == nil {
		return
	}
	delete(c.offers, key)
	c.sorted = nil
	if o.vertex != nil || o.err != nil {
		c.changed, c.shaped = true, false
	}
	if o.vertex != nil {
		c.x.kept.touch()
	}
}

// reset takes in that nothing is exported but what was seen.
func (c *collector) reset(seen map[string]bool) {
	for key := range c.offers {
		if !seen[key] {
			c.drop(key)
		}
	}
}

// evaluate makes of an offer what the graph collects of it. If that can't be done, what
// was made of it before stays.
func (c *collector) evaluate(o *offer) {
	v, err := c.make(o)
	if errors.Is(err, errOpening) {
		return
	}
	if err != nil {
		if o.err == nil || o.err.Error() != err.Error() {
			o.err, c.changed, c.shaped = err, true, false
		}
		return
	}
	if o.err != nil {
		o.err, c.changed, c.shaped = nil, true, false
	}
	if v == nil && o.vertex == nil {
		return
	}
	c.x.kept.touch()
	if v != nil && o.vertex != nil && same(v, o.vertex) {
		return
	}
	var owns []string
	if v != nil {
		if owner, ok := v.Resource.(sinks.Owner); ok && !v.Meta.Hidden {
			owns = owner.Owns()
		}
		v.Resource = nil // it was built for this
	}
	c.shaped = c.shaped && v != nil && o.vertex != nil && slices.Equal(owns, o.owns)
	o.vertex, o.owns, c.changed = v, owns, true
}

// make returns what the graph collects of an offer; nil if it does not. Whatever others
// have published, it returns.
func (c *collector) make(o *offer) (v *Vertex, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = nil, fmt.Errorf("internal error: %v; please report it", r)
		}
	}()
	entry := c.match(o)
	if entry == nil {
		return nil, nil
	}
	p, err := openParcel(o.entry.Value)
	if err != nil {
		return nil, err
	}
	o.file = p.File
	if !meantFor(p.Hosts, c.x.opts.Host) {
		return nil, nil
	}
	switch {
	case len(p.Sealed) == 0:
	case !slices.Contains(p.For, c.x.opts.Host):
		return nil, errors.New("it is secret, and not sealed for this host yet")
	case o.opened == nil:
		return nil, c.open(o, p.Sealed)
	default:
		p.contents = *o.opened
	}
	spec, ok := c.x.opts.Kinds.Spec(o.kind)
	if !ok {
		return nil, fmt.Errorf("there is no kind %q on this host", o.kind)
	}
	v, err = p.unpack(o.kind, o.name, spec)
	if err != nil {
		return nil, err
	}
	v.Host = o.host
	if len(p.Sealed) > 0 {
		v.Meta = new(*v.Meta)
		v.Meta.Secret = true // here, too
	}
	if v.Config, err = moved(v, entry.Pattern); err != nil {
		return nil, err
	}
	alone := Graph{Vertices: []*Vertex{v}}
	if wrong := alone.Compile(c.options); wrong != nil {
		return nil, errors.New(strings.TrimPrefix(wrong.Error(), v.String()+": "))
	}
	return v, nil
}

// match returns the first entry of collect that takes an offer.
func (c *collector) match(o *offer) *Collect {
	for i := range c.collect {
		if e := &c.collect[i]; e.Kind == o.kind && (!e.Live || c.isLive(o.host, e.Grace, time.Now())) {
			return e
		}
	}
	return nil
}

// merge adds to a compiled graph what is collected for it. If that is nothing it returns
// the graph itself, if it may.
func (c *collector) merge(g *Graph, itself bool) (*Graph, error) {
	if !c.shaped {
		c.choose()
	}
	list := make([]*Vertex, len(c.chosen))
	for i, o := range c.chosen {
		list[i] = o.vertex
	}
	if len(list) == 0 && itself {
		return g, nil
	}
	merged, err := assemble(g, list)
	if err == nil || len(list) == 0 {
		return merged, err
	}
	// Each was compiled by itself, so this is one that doesn't suit the others.
	return c.bisect(g, nil, list)
}

// bisect adds what can be added of list to a graph that has good.
func (c *collector) bisect(g *Graph, good, list []*Vertex) (*Graph, error) {
	merged, err := assemble(g, slices.Concat(good, list))
	switch {
	case err == nil:
		return merged, nil
	case len(list) == 1:
		c.x.opts.Log.Warn("not collected", "res", list[0].String(), "host", list[0].Host, "error", err)
		return assemble(g, good)
	}
	half := len(list) / 2
	if merged, err = c.bisect(g, good, list[:half]); err != nil {
		return nil, err
	}
	return c.bisect(g, merged.Vertices[len(g.Vertices):], list[half:])
}

// choose finds out what is to be added to the graph, and tells what is left out.
func (c *collector) choose() {
	c.chosen, c.shaped = nil, true
	names := map[identity]*offer{}
	owned := map[string]*offer{}
	problems := map[string]string{}
	for _, o := range c.inOrder() {
		if o.err != nil {
			problems[o.entry.Key] = o.err.Error()
		}
		if o.vertex == nil {
			continue
		}
		id := identity{o.kind, o.name}
		if why := c.clash(o, names[id], owned); why != "" {
			problems[o.entry.Key] = why
			continue
		}
		names[id] = o
		for _, thing := range o.owns {
			owned[thing] = o
		}
		c.chosen = append(c.chosen, o)
	}
	c.tell(problems)
}

// clash says why an offer can't be a part of the graph beside those that count more.
func (c *collector) clash(o, first *offer, owned map[string]*offer) string {
	if c.names[identity{o.kind, o.name}] {
		return "the graph of this host has a resource of this name, which counts more"
	}
	if first != nil {
		return fmt.Sprintf("the host %s exports one of the same name, and comes first", first.host)
	}
	for _, thing := range o.owns {
		if v := c.owned[thing]; v != nil {
			return fmt.Sprintf("%s of this host's graph manages the %s, too, and counts more", v, thing)
		}
		if other := owned[thing]; other != nil {
			return fmt.Sprintf("%s of the host %s manages the %s, too, and comes first", other.vertex, other.host, thing)
		}
	}
	return ""
}

// inOrder returns the offers in the order in which they count: by host, kind and name.
func (c *collector) inOrder() []*offer {
	if c.sorted == nil {
		c.sorted = slices.SortedFunc(maps.Values(c.offers), func(a, b *offer) int {
			return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
		})
	}
	return c.sorted
}

// tell logs problems with offers that were not told before.
func (c *collector) tell(problems map[string]string) {
	const most = 20
	told := 0
	for _, key := range slices.Sorted(maps.Keys(problems)) {
		if c.told[key] == problems[key] {
			continue
		}
		if told++; told <= most {
			o := c.offers[key]
			attrs := []any{"res", ref(o.kind, o.name), "host", o.host}
			if o.file != "" {
				attrs = append(attrs, "file", o.file)
			}
			c.x.opts.Log.Warn("not collected", append(attrs, "error", problems[key])...)
		}
	}
	if told > most {
		c.x.opts.Log.Warn("more is not collected", "resources", told-most)
	}
	c.told = problems
}

// assemble compiles a graph anew with more resources. Nothing of the graph is changed but
// what all its versions share, which is never changed.
func assemble(g *Graph, more []*Vertex) (*Graph, error) {
	merged := *g
	all := make([]Vertex, len(g.Vertices)+len(more))
	merged.Vertices = make([]*Vertex, len(all))
	for i := range all {
		v := &all[i]
		if i < len(g.Vertices) {
			*v = *g.Vertices[i]
		} else {
			*v = *more[i-len(g.Vertices)]
		}
		v.index, v.Resource = int32(i), nil
		merged.Vertices[i] = v
	}
	merged.Edges, merged.Links = slices.Clone(g.Edges), slices.Clone(g.Links)
	merged.Exports, merged.problems = nil, nil
	if err := merged.Compile(g.options); err != nil {
		return nil, err
	}
	merged.Exports = g.Exports
	return &merged, nil
}

// errOpening says that contents are sealed, and are being opened.
var errOpening = errors.New("it is being opened")

// open begins to open sealed contents.
func (c *collector) open(o *offer, sealed []byte) error {
	vault, ok := c.x.store.(mesh.Vault)
	switch {
	case c.x.store == nil, o.closing:
		return errOpening
	case !ok:
		return errors.New("it is sealed, and can't be opened without a key of this host")
	}
	o.closing = true
	c.busy++
	key, revision := o.entry.Key, o.entry.Revision
	c.x.work.Go(func() {
		c.opening <- struct{}{}
		opened, err := c.unseal(vault, key, sealed)
		<-c.opening
		c.x.later(func() {
			c.busy--
			switch {
			case o.entry.Revision != revision || c.offers[o.entry.Key] != o || c.x.ctx.Err() != nil:
				return
			case err != nil:
				o.err, c.changed, c.shaped = err, true, false
				return
			}
			o.opened = opened
			c.evaluate(o)
		})
	})
	return errOpening
}

// unseal waits until the mesh can be reached.
func (c *collector) unseal(vault mesh.Vault, key string, sealed []byte) (*contents, error) {
	for {
		plain, err := vault.Open(c.x.ctx, sealed)
		switch {
		case err == nil:
			return openContents(key, plain)
		case !errors.Is(err, mesh.ErrUnreachable):
			return nil, err
		}
		select {
		case <-c.x.ctx.Done():
			return nil, context.Cause(c.x.ctx)
		case <-time.After(shortRest):
		}
	}
}

// presence takes in which hosts are there.
func (c *collector) presence(ch mesh.Change) {
	now := time.Now()
	var seen map[string]bool
	if ch.Reset {
		seen = map[string]bool{}
	}
	for _, e := range ch.Put {
		host := e.Key[len(mesh.AlivePrefix):]
		if ch.Reset {
			seen[host] = true
		}
		c.came(host)
	}
	if ch.Reset {
		for host := range c.alive {
			if !seen[host] {
				c.went(host, now)
			}
		}
	}
	for _, key := range ch.Deleted {
		c.went(key[len(mesh.AlivePrefix):], now)
	}
}

func (c *collector) came(host string) {
	if c.alive[host] {
		return
	}
	c.alive[host] = true
	delete(c.left, host)
	c.x.kept.touch()
	c.review(host)
}

func (c *collector) went(host string, now time.Time) {
	if !c.alive[host] {
		return
	}
	delete(c.alive, host)
	c.left[host] = now
	c.x.kept.touch()
	c.review(host)
	c.x.opts.Log.Log(c.x.ctx, slog.LevelDebug, "host gone", "host", host)
}

// review evaluates what a host exports, since it may count otherwise now.
func (c *collector) review(host string) {
	for _, o := range c.offers {
		if o.host == host {
			c.evaluate(o)
		}
	}
}

// isLive says that a host is there, or has been a moment ago.
func (c *collector) isLive(host string, grace time.Duration, now time.Time) bool {
	left, gone := c.left[host]
	return c.alive[host] || gone && now.Before(left.Add(grace))
}

// expire lets go what hosts export that have gone, when their time is over.
func (c *collector) expire(now time.Time) (next time.Time) {
	if len(c.left) == 0 {
		return time.Time{}
	}
	before := c.checked
	c.checked = now
	for host, left := range c.left {
		due := false
		for _, e := range c.collect {
			if !e.Live {
				continue
			}
			switch over := left.Add(e.Grace); {
			case over.After(now) && (next.IsZero() || over.Before(next)):
				next = over
			case !over.After(now) && over.After(before):
				due = true
			}
		}
		if due {
			c.review(host)
		}
	}
	return next
}
