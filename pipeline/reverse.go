package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// maxWas is how many bytes of what a resource found are remembered for each field.
const maxWas = 16 << 10

// undoMeta are the meta-parameters of what undoes: it is tried a few times, and again at
// the next swap or start.
var undoMeta = func() Meta {
	m := DefaultMeta()
	m.Retry, m.Delay, m.AutoGroup, m.AutoEdge = 3, time.Second, false, false
	return m
}()

// reverse reports a resource that can't be undone although it is to be.
func (c *compiler) reverse(v *Vertex) {
	if !v.Meta.Reverse {
		return
	}
	err := fmt.Errorf("the kind %s can't be undone", v.Kind)
	if r, ok := v.Config.(sinks.Reverser); ok {
		_, err = r.Reverse(nil)
	}
	if err == nil {
		return
	}
	at := v.Pos
	if v.node != nil {
		params.Each(v.node, func(key, value *yaml.Node, _ bool) {
			if key.Value == "meta" {
				if _, place := params.Locate(value, v.Meta, "reverse"); place != nil {
					at = posOf(place)
				}
			}
		})
	}
	c.report(at, "remove meta.reverse", "%s can't be reversed: %v", brief(v.String()), err)
}

// undoOf says how changes that are about to be made are undone. It is nil if that is
// noted already, or if the resource has been as desired before: then others have changed
// it since.
func (u *unit) undoOf(w *wiring, changes []sinks.Change) (*reversal, error) {
	v, e := u.vertex, u.engine
	was := map[string]string{}
	old := e.ledger.reversible(v.String())
	if old != nil {
		if old.Settled == fingerprint(v) {
			return nil, nil
		}
		was = maps.Clone(old.Was)
	}
	known := len(was)
	for _, c := range changes {
		if _, ok := was[c.Field]; ok {
			continue
		}
		if was[c.Field] = c.From; c.Secret || len(c.From) > maxWas {
			was[c.Field] = sinks.Withheld
		}
	}
	if old != nil && len(was) == known {
		return nil, nil
	}
	return e.reversalOf(v, w, was)
}

// reversalOf is how to undo what v has done, from what was there before.
func (e *engine) reversalOf(v *Vertex, w *wiring, was map[string]string) (*reversal, error) {
	r := &reversal{Reversal: Reversal{Kind: v.Kind, Name: v.Name, Was: was, Before: w.above}}
	reverser, ok := v.Config.(sinks.Reverser)
	if !ok || len(was) == 0 {
		return r, nil
	}
	cfg, err := reverser.Reverse(was)
	if err != nil || cfg == nil {
		return r, err
	}
	r.undo = cfg
	if e.opts.Kinds == nil {
		return r, nil
	}
	if spec, ok := e.opts.Kinds.Spec(v.Kind); ok {
		r.Params, err = params.Marshal(cfg, spec.New())
	}
	return r, err
}

// settle notes, once, that a resource that is to be undone is as desired.
func (u *unit) settle(w *wiring) error {
	s, v := u.extra(), u.vertex
	if s.settled {
		return nil
	}
	now := fingerprint(v)
	r := &reversal{Reversal: Reversal{Kind: v.Kind, Name: v.Name, Was: map[string]string{}, Before: w.above}}
	if old := u.engine.ledger.reversible(v.String()); old != nil {
		if s.settled = old.Settled == now; s.settled {
			return nil
		}
		*r = *old
	}
	r.Settled = now
	if err := u.engine.ledger.notify(u, nil, r); err != nil {
		return err
	}
	s.settled = true
	return nil
}

// fingerprint is the same for the same desired state, also in another process.
func fingerprint(v *Vertex) string {
	text, err := params.Marshal(v.Config, params.Zero(v.Config))
	if err != nil {
		text = err.Error()
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:12])
}

// undoing returns vertices that undo what resources have done which are not in g, and
// the edges between them: in the opposite order. Edges count the vertices of g first.
func (e *engine) undoing(g *Graph) (vertices []*Vertex, edges []Edge) {
	list := e.ledger.undoable()
	if len(list) == 0 {
		return nil, nil
	}
	in := make(map[identity]*Vertex, len(g.Vertices))
	for _, v := range g.Vertices {
		in[identity{v.Kind, v.Name}] = v
	}
	var forget []string
	var owned map[string]bool
	at := map[string]int32{}
	for _, r := range list {
		if v := in[identity{r.Kind, r.Name}]; v != nil {
			if !v.Meta.Reverse {
				forget = append(forget, r.Ref())
			}
			continue
		}
		if r.nothing() {
			forget = append(forget, r.Ref())
			continue
		}
		if owned == nil {
			owned = map[string]bool{}
			for _, name := range g.Managed() {
				owned[name] = true
			}
		}
		v, err := e.undo(r)
		if err != nil {
			e.opts.Log.Error("not undone", "res", r.Ref(), "error", err)
			continue
		}
		if owner, ok := v.Resource.(sinks.Owner); ok {
			if i := slices.IndexFunc(owner.Owns(), func(name string) bool { return owned[name] }); i >= 0 {
				e.opts.Log.Info("not undone", "res", r.Ref(), "why", "another resource manages the "+owner.Owns()[i]+" now")
				forget = append(forget, r.Ref())
				continue
			}
		}
		at[r.Ref()] = int32(len(g.Vertices) + len(vertices))
		vertices = append(vertices, v)
	}
	for _, r := range list {
		from, ok := at[r.Ref()]
		for _, before := range r.Before {
			if to, both := at[before]; ok && both {
				edges = append(edges, Edge{From: from, To: to, Why: "whose undoing comes first"})
			}
		}
	}
	if err := e.ledger.forgetReversals(forget); err != nil {
		e.opts.Log.Error("it may be undone later", "resources", forget, "error", err)
	}
	return vertices, edges
}

// undo is the vertex that undoes.
func (e *engine) undo(r *reversal) (*Vertex, error) {
	cfg, err := r.undoOf(e.opts.Kinds)
	if err != nil {
		return nil, err
	}
	opts := e.graphOptions()
	opts.Ref = r.Ref()
	resource, err := cfg.Build(r.Name, opts)
	if err != nil {
		return nil, err
	}
	return &Vertex{Kind: r.Kind, Name: r.Name, Meta: &undoMeta, Config: cfg, Resource: resource, Undo: true}, nil
}

// reversedAbove returns for each vertex that is to be reversed the nearest ones above it
// that are, too.
func reversedAbove(g *Graph) map[int32][]string {
	if !slices.ContainsFunc(g.Vertices, func(v *Vertex) bool { return v.Meta.Reverse }) {
		return nil
	}
	into := make([][]int32, len(g.Vertices))
	for _, e := range g.Edges {
		into[e.To] = append(into[e.To], e.From)
	}
	nearest := make([][]int32, len(g.Vertices)) // themselves if they are to be reversed
	above := map[int32][]string{}
	for _, v := range g.Order() {
		var list []int32
		for _, from := range into[v] {
			list = append(list, nearest[from]...)
		}
		slices.Sort(list)
		list = slices.Compact(list)
		nearest[v] = list
		if g.Vertices[v].Meta.Reverse {
			for _, a := range list {
				above[v] = append(above[v], g.Vertices[a].String())
			}
			nearest[v] = []int32{v}
		}
	}
	return above
}
