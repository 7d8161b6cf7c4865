package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

const (
	// maxWrites is how many transactions may be under way at once, maxBatch about how many
	// bytes each has.
	maxWrites = 4
	maxBatch  = 512 << 10

	// shortRest and longRest are the bounds of the wait after a failed write.
	shortRest = 100 * time.Millisecond
	longRest  = 10 * time.Second

	// reassertAfter is the wait before something is published again that somebody else has
	// changed, so that two who do the same don't do it all the time.
	reassertAfter = time.Second
)

// publisher makes what this host has in the mesh what its graph exports. It writes only
// what differs.
type publisher struct {
	x      *Exchange
	want   map[string]*export // by key
	there  map[string]version // what the mesh has
	synced bool               // there is the truth

	pending map[string]bool // keys for which want and there may differ
	writes  int             // that are under way
	alone   []string        // keys that were refused together: one of them is at fault
	rest    time.Duration   // after the next failure
	restsTo time.Time
	ailing  string // the failure that was told
}

// export is a resource that is to be published.
type export struct {
	v     *Vertex
	value []byte
}

// version is a value of the store, as of a revision.
type version struct {
	value    []byte
	revision int64
}

func (p *publisher) init(x *Exchange) {
	*p = publisher{x: x, want: map[string]*export{}, there: map[string]version{}, pending: map[string]bool{}, rest: shortRest}
}

// any says that something is to be published.
func (p *publisher) any() bool { return len(p.want) > 0 }

// exported lists what a graph publishes.
func exported(g *Graph) []*Vertex {
	list := slices.Clone(g.Exports)
	for _, v := range g.Vertices {
		if len(v.Meta.Export) > 0 && !v.collected {
			list = append(list, v)
		}
	}
	return list
}

// adopt makes what g exports what is to be published.
func (p *publisher) adopt(g *Graph) {
	old := p.want
	p.want = map[string]*export{}
	for _, v := range exported(g) {
		if len(v.receives) > 0 {
			continue
		}
		key := mesh.ExportKey(p.x.opts.Host, v.Kind, v.Name)
		if was := old[key]; was != nil && sameExport(was.v, v) {
			p.want[key] = &export{v, was.value}
			continue
		}
		value, err := p.encode(g, v)
		if err != nil {
			p.x.opts.Log.Warn("not published", "res", v.String(), "error", err)
			continue
		}
		p.want[key] = &export{v, value}
		p.pending[key] = true
	}
	for key := range old {
		if p.want[key] == nil {
			p.pending[key] = true
		}
	}
	p.restsTo = time.Time{}
}

// sameExport says that two vertices are published as the same.
func sameExport(a, b *Vertex) bool {
	return (a.Meta == b.Meta || reflect.DeepEqual(a.Meta, b.Meta)) && params.Equal(a.Config, b.Config)
}

func (p *publisher) encode(g *Graph, v *Vertex) ([]byte, error) {
	spec, ok := p.x.opts.Kinds.Spec(v.Kind)
	if !ok {
		return nil, errors.New("its kind can't be published")
	}
	c, err := pack(v, v.Config, spec)
	if err != nil {
		return nil, err
	}
	return json.Marshal(parcel{Version: parcelVersion, Hosts: hostsOf(v), File: g.File, contents: c})
}

// has takes in that the mesh has something.
func (p *publisher) has(e mesh.Entry, reset bool) {
	if e.Revision < p.there[e.Key].revision {
		return // we have written it anew since
	}
	p.there[e.Key] = version{e.Value, e.Revision}
	p.differs(e.Key, reset)
}

// lacks takes in that the mesh has something no more.
func (p *publisher) lacks(key string, revision int64) {
	if was, ok := p.there[key]; ok && was.revision <= revision {
		delete(p.there, key)
		p.differs(key, false)
	}
}

// reset takes in that the mesh has nothing but what was seen at a revision.
func (p *publisher) reset(seen map[string]bool, revision int64) {
	for key, was := range p.there {
		if !seen[key] && was.revision <= revision {
			delete(p.there, key)
			p.differs(key, true)
		}
	}
	p.synced = true
}

// differs notes that what the mesh has of a key may not be right.
func (p *publisher) differs(key string, expected bool) {
	if p.right(key) || p.pending[key] {
		return
	}
	p.pending[key] = true
	if !expected && p.synced {
		p.x.opts.Log.Warn("somebody else has changed what this host exports", "key", key, "next", "it is published again")
		p.restsTo = time.Now().Add(reassertAfter)
	}
}

// right says that the mesh has of a key what it should.
func (p *publisher) right(key string) bool {
	want := p.want[key]
	has, ok := p.there[key]
	if want == nil {
		return !ok
	}
	return ok && bytes.Equal(want.value, has.value)
}

// publish writes what differs.
func (p *publisher) publish(now time.Time) time.Time {
	if p.x.opts.Noop || !p.synced || len(p.pending) == 0 && len(p.alone) == 0 {
		return time.Time{}
	}
	if now.Before(p.restsTo) {
		return p.restsTo
	}
	for p.writes < maxWrites {
		ops := p.batch()
		if len(ops) == 0 {
			return time.Time{}
		}
		if len(p.want) > 0 && !p.x.kept.Published {
			p.x.kept.publishes()
		}
		p.write(ops)
	}
	return time.Time{}
}

// batch takes what goes into one transaction out of what is pending.
func (p *publisher) batch() []mesh.Op {
	for len(p.alone) > 0 {
		key := p.alone[0]
		p.alone = p.alone[1:]
		if delete(p.pending, key); !p.right(key) {
			return []mesh.Op{p.op(key)}
		}
	}
	var ops []mesh.Op
	size := 0
	for key := range p.pending {
		delete(p.pending, key)
		if p.right(key) {
			continue
		}
		op := p.op(key)
		ops = append(ops, op)
		if size += len(op.Value); len(ops) == mesh.MaxOps || size > maxBatch {
			break
		}
	}
	return ops
}

// op makes the mesh have of a key what it should.
func (p *publisher) op(key string) mesh.Op {
	if want := p.want[key]; want != nil {
		return mesh.Put(key, want.value)
	}
	return mesh.Delete(key)
}

func (p *publisher) write(ops []mesh.Op) {
	p.writes++
	p.x.work.Go(func() {
		revision, err := p.x.store.Write(p.x.ctx, mesh.Txn{Ops: ops})
		p.x.later(func() { p.written(ops, revision, err) })
	})
}

// written takes in what came of a write.
func (p *publisher) written(ops []mesh.Op, revision int64, err error) {
	p.writes--
	if err != nil {
		p.failed(ops, err)
		return
	}
	p.rest = shortRest
	if p.ailing != "" {
		p.ailing = ""
		p.x.opts.Log.Info("published again")
	}
	for _, op := range ops {
		switch was := p.there[op.Key]; {
		case was.revision > revision:
		case op.Delete:
			delete(p.there, op.Key)
		default:
			p.there[op.Key] = version{op.Value, revision}
		}
		if !p.right(op.Key) {
			p.pending[op.Key] = true
		}
	}
}

// failed has a write tried again, or one by one what is in it, if something of it was
// refused. What is refused by itself waits for a change.
func (p *publisher) failed(ops []mesh.Op, err error) {
	switch {
	case p.x.ctx.Err() != nil:
	case errors.Is(err, mesh.ErrUnreachable):
		for _, op := range ops {
			p.pending[op.Key] = true
		}
		p.restsTo = time.Now().Add(p.rest)
		p.rest = min(2*p.rest, longRest)
		if p.ailing != err.Error() {
			p.ailing = err.Error()
			p.x.opts.Log.Warn("not published", "resources", len(p.pending), "error", err, "next", "it is tried again")
		}
	case len(ops) > 1:
		for _, op := range ops {
			p.alone = append(p.alone, op.Key)
		}
	default:
		name := ops[0].Key
		if want := p.want[name]; want != nil {
			name = want.v.String()
		}
		p.x.opts.Log.Warn("not published", "res", name, "error", err)
	}
}

// settled says that the mesh has all that this host exports.
func (p *publisher) settled() bool {
	return p.x.shares == nothing || p.x.opts.Noop || p.synced && p.writes == 0 && len(p.pending) == 0 && len(p.alone) == 0
}
