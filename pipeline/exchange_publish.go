package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
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
	gone   map[string]int64   // when the mesh has lost what a write under way may have put
	synced bool               // there is the truth

	pending map[string]bool // keys for which want and there may differ
	alone   []string        // keys that were refused together: one of them is at fault
	writes  int             // that are under way
	written map[string]bool // their keys
	rest    time.Duration   // after the next failure
	restsTo time.Time
	ailing  string // the failure that was told

	values    map[string]map[string]any // what resources have sent, by their names and outputs
	receivers map[string][]string       // keys of what is made of that

	sealer
}

// export is a resource that is to be published.
type export struct {
	v      *Vertex
	file   string
	secret bool

	// value is what is published. As long as there is none, since a value has not been
	// received or sealed, what is there stays, unless purge says otherwise.
	value []byte
	purge bool

	// plain is the contents of a secret one.
	plain []byte
}

// version is a value of the store, as of a revision.
type version struct {
	value    []byte
	revision int64
}

func (p *publisher) init(x *Exchange) {
	*p = publisher{
		x: x, want: map[string]*export{}, there: map[string]version{}, gone: map[string]int64{}, pending: map[string]bool{},
		written: map[string]bool{}, rest: shortRest,
		values: map[string]map[string]any{}, sealer: newSealer(),
	}
}

// any says that something is to be published.
func (p *publisher) any() bool { return len(p.want) > 0 }

// adopt makes what g exports what is to be published.
func (p *publisher) adopt(g *Graph) {
	old := p.want
	list := exported(g)
	p.want, p.receivers, p.secrets = make(map[string]*export, len(list)), map[string][]string{}, 0
	for _, v := range list {
		key := mesh.ExportKey(p.x.opts.Host, v.Kind, v.Name)
		secret := v.isSecret()
		if secret {
			p.secrets++
		}
		for _, r := range v.receives {
			p.receivers[r.from] = append(p.receivers[r.from], key)
		}
		if was := old[key]; was != nil && was.file == g.File && was.secret == secret && sameExport(was.v, v) {
			was.v = v
			p.want[key] = was
			continue
		}
		p.want[key] = &export{v: v, file: g.File, secret: secret}
		p.pending[key] = true
		p.make(key)
	}
	for key := range old {
		if p.want[key] == nil {
			p.pending[key] = true
		}
	}
	p.restsTo = time.Time{}
	p.x.listen(p.receivers)
}

// sameExport says that two vertices are published as the same.
func sameExport(a, b *Vertex) bool {
	return sameLinks(a, b) && (a.Meta == b.Meta || reflect.DeepEqual(a.Meta, b.Meta)) && params.Equal(a.Config, b.Config)
}

// received takes in what a resource has sent.
func (p *publisher) received(from string, values map[string]any) {
	if reflect.DeepEqual(p.values[from], values) {
		return
	}
	p.values[from] = values
	for _, key := range p.receivers[from] {
		p.make(key)
	}
}

// make makes the value that is published, unless something is missing for it.
func (p *publisher) make(key string) {
	e := p.want[key]
	err := p.encode(key, e)
	if err != nil {
		p.x.opts.Log.Warn("not published", "res", e.v.String(), "error", err)
	}
	p.check(key)
}

func (p *publisher) encode(key string, e *export) error {
	cfg, missing, err := p.valued(e.v)
	if err != nil || missing {
		return err
	}
	spec, ok := p.x.opts.Kinds.Spec(e.v.Kind)
	if !ok {
		return errors.New("its kind can't be published")
	}
	c, err := pack(e.v, cfg, spec)
	if err != nil {
		return err
	}
	if e.secret {
		e.plain, err = json.Marshal(secret{key, c})
		e.value = nil
		p.unsealed[key] = true
		return err
	}
	e.value, err = json.Marshal(parcel{Version: parcelVersion, Hosts: hostsOf(e.v), File: e.file, contents: c})
	return err
}

// valued returns the Config of v with what it receives, and whether some of that is
// missing.
func (p *publisher) valued(v *Vertex) (cfg sinks.Config, missing bool, err error) {
	if len(v.receives) == 0 {
		return v.Config, false, nil
	}
	cfg = params.Clone(v.Config)
	for _, r := range v.receives {
		value, ok := p.values[r.from][r.output]
		if !ok {
			return nil, true, nil
		}
		if err := params.SetValue(cfg, r.param, r.key, value); err != nil {
			return nil, false, fmt.Errorf("%s, which %s sends as %s: %w", r.param, r.from, r.output, err)
		}
	}
	return cfg, false, nil
}

// check notes that what the mesh has of a key may not be right any more.
func (p *publisher) check(key string) {
	if e := p.want[key]; e != nil {
		e.purge = e.value == nil && e.secret && !p.hides(key, e)
	}
	if !p.right(key) {
		p.pending[key] = true
	}
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
		p.lose(key, revision)
		p.differs(key, false)
	}
}

// lose forgets what the mesh has had of a key.
func (p *publisher) lose(key string, revision int64) {
	delete(p.there, key)
	if p.writes > 0 {
		p.gone[key] = revision
	}
}

// reset takes in that the mesh has nothing but what was seen at a revision.
func (p *publisher) reset(seen map[string]bool, revision int64) {
	for key, was := range p.there {
		if !seen[key] && was.revision <= revision {
			p.lose(key, revision)
			p.differs(key, true)
		}
	}
	p.synced = true
}

// differs takes in that the mesh has something else of a key than it had.
func (p *publisher) differs(key string, expected bool) {
	if p.pending[key] || p.written[key] { // which is looked at in any case
		return
	}
	if p.check(key); p.pending[key] && !expected && p.synced {
		p.x.opts.Log.Warn("somebody else has changed what this host exports", "key", key, "next", "it is published again")
		p.restsTo = time.Now().Add(reassertAfter)
	}
}

// right says that the mesh has of a key what it should.
func (p *publisher) right(key string) bool {
	want := p.want[key]
	has, ok := p.there[key]
	switch {
	case want == nil:
		return !ok
	case want.value == nil:
		return !ok || !want.purge
	}
	return ok && bytes.Equal(want.value, has.value)
}

// publish writes what differs.
func (p *publisher) publish(now time.Time) time.Time {
	p.seal()
	if p.synced && p.writes == 0 && len(p.want) == 0 && len(p.there) == 0 {
		p.x.kept.withdrawn()
	}
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
	for len(p.alone) > 0 && !p.written[p.alone[0]] {
		key := p.alone[0]
		p.alone = p.alone[1:]
		if delete(p.pending, key); !p.right(key) {
			return []mesh.Op{p.op(key)}
		}
	}
	var ops []mesh.Op
	size := 0
	for key := range p.pending {
		if p.written[key] {
			continue
		}
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
	if want := p.want[key]; want != nil && want.value != nil {
		return mesh.Put(key, want.value)
	}
	return mesh.Delete(key)
}

func (p *publisher) write(ops []mesh.Op) {
	p.writes++
	for _, op := range ops {
		p.written[op.Key] = true
	}
	p.x.work.Go(func() {
		revision, err := p.x.store.Write(p.x.ctx, mesh.Txn{Ops: ops})
		p.x.later(func() { p.wrote(ops, revision, err) })
	})
}

// wrote takes in what came of a write.
func (p *publisher) wrote(ops []mesh.Op, revision int64, err error) {
	gone := p.gone
	if p.writes--; p.writes == 0 {
		p.gone = map[string]int64{}
	}
	for _, op := range ops {
		delete(p.written, op.Key)
	}
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
		case was.revision > revision || gone[op.Key] > revision:
		case op.Delete:
			delete(p.there, op.Key)
		default:
			p.there[op.Key] = version{op.Value, revision}
		}
		p.check(op.Key)
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
	return p.x.shares == nothing || p.x.opts.Noop || p.synced && p.writes == 0 && len(p.pending) == 0 && len(p.alone) == 0 && p.sealing == 0
}
