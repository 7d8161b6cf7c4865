package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sources"
)

// Explanation says what a resource of a compiled graph is, and how it stands in the
// graph. It can be encoded as JSON.
type Explanation struct {
	// Resource is its name: "file[/etc/motd]".
	Resource string `json:"resource"`

	// File and Line say where it is described; empty and 0 for a composed graph.
	File string `json:"file,omitempty"`
	Line int32  `json:"line,omitempty"`

	// Host is the host that exports it, if it was collected from another one. It has no File
	// then.
	Host string `json:"host,omitempty"`

	// Hidden says that it is never run on this host.
	Hidden bool `json:"hidden,omitempty"`

	// Undo says that it is there to undo what has left the graph.
	Undo bool `json:"undo,omitempty"`

	// Params are the parameters after defaults, in the order of the kind, but for those
	// that only old files have and that are not given.
	Params []ExplainedParam `json:"params"`

	// Meta are the meta-parameters that are not the default.
	Meta []ExplainedParam `json:"meta"`

	// After are the resources that have to be done first, Before those that come after
	// this one: those that an edge connects, in the order of the graph. AllAfter and
	// AllBefore count what leads to them, too.
	After     []Relation `json:"after"`
	AllAfter  int        `json:"all_after"`
	Before    []Relation `json:"before"`
	AllBefore int        `json:"all_before"`

	// Watches are what wakes it, beside what it comes after.
	Watches []ExplainedWatch `json:"watches"`
}

// ExplainedParam is a parameter and its value.
type ExplainedParam struct {
	Name string `json:"name"`

	// Value is a string, bool, number, list or map, or nil if the parameter is not given
	// and has no default. A duration is a string: "250ms".
	Value any `json:"value"`

	// Secret says that the value is hidden.
	Secret bool `json:"secret,omitempty"`

	// From is the resource that sends the value, or that of the key Key, as Output. The
	// Value counts for nothing then.
	From   string `json:"from,omitempty"`
	Output string `json:"output,omitempty"`
	Key    string `json:"key,omitempty"`
}

// Relation is a resource that an edge connects with another.
type Relation struct {
	Resource string `json:"resource"`

	// Notify says that a change of the first refreshes the second.
	Notify bool `json:"notify,omitempty"`

	// Declared says that the graph has the edge, perhaps in Line of the file and by the
	// name Name. Otherwise Why says what for it was added, unless it is there since
	// something is sent.
	Declared bool   `json:"declared,omitempty"`
	Line     int32  `json:"line,omitempty"`
	Name     string `json:"name,omitempty"`
	Why      string `json:"why,omitempty"`

	// Sends are the values that the first sends the second.
	Sends []ExplainedLink `json:"sends,omitempty"`

	place int32 // of Resource in the graph
}

// ExplainedLink is a value that is sent.
type ExplainedLink struct {
	Output string `json:"output"`
	Param  string `json:"param"`
	Key    string `json:"key,omitempty"`
	Secret bool   `json:"secret,omitempty"`
}

// ExplainedWatch is a watch and the source that serves it.
type ExplainedWatch struct {
	Source string `json:"source"`
	Watch  string `json:"watch"`
}

// Lookup finds a resource that belongs to this host by its name as users write it, such
// as file[/etc/motd], or by the bare name /etc/motd if no other resource has it. The
// error offers the nearest name.
func (g *Graph) Lookup(resource string) (*Vertex, error) {
	kind, rest, _ := strings.Cut(resource, "[")
	kind = strings.ToLower(strings.TrimSpace(kind))
	name, full := strings.CutSuffix(rest, "]")
	var bare []*Vertex
	for _, v := range g.Vertices {
		if v.Name == resource {
			bare = append(bare, v)
		}
		if full && v.Name == name && v.Kind == kind {
			return v, nil
		}
	}
	switch {
	case len(bare) == 1:
		return bare[0], nil
	case len(bare) > 1:
		return nil, fmt.Errorf("%s and %s are both called that; name the kind as well", bare[0], bare[1])
	}
	return nil, g.unknown(resource)
}

func (g *Graph) unknown(resource string) error {
	for _, v := range g.Exports {
		if v.String() == resource || ref(v.Kind, v.Name) == resource {
			return fmt.Errorf("%s is exported, and not applied on this host", v)
		}
	}
	names := make([]string, len(g.Vertices))
	for i, v := range g.Vertices {
		names[i] = v.String()
	}
	err := fmt.Errorf("there is no resource %s in the graph", brief(resource))
	if near, ok := params.Nearest(resource, names); ok {
		return fmt.Errorf("%w; did you mean %s?", err, near)
	}
	for i, v := range g.Vertices {
		names[i] = v.Name
	}
	if near, ok := params.Nearest(resource, names); ok {
		return fmt.Errorf("%w; did you mean %s?", err, g.Vertices[slices.Index(names, near)])
	}
	return err
}

// Explain explains a resource of g, a compiled graph. It may be called while g runs: it
// builds the resource anew, which touches nothing, to ask it what it watches.
func Explain(g *Graph, v *Vertex) Explanation {
	at := int32(slices.Index(g.Vertices, v))
	x := Explanation{
		Resource: v.String(), File: g.File, Line: v.Pos.Line, Host: v.Host, Hidden: v.Meta.Hidden, Undo: v.Undo,
		Params: explainParams(v), Meta: explainMeta(v.Meta), After: []Relation{}, Before: []Relation{}, Watches: explainWatches(v),
	}
	if v.Host != "" {
		x.File = ""
	}
	received := map[string][]Link{}
	sent := map[[2]int32][]ExplainedLink{}
	for _, l := range g.Links {
		if l.To == at {
			received[l.Param] = append(received[l.Param], l)
		}
		if l.To == at || l.From == at {
			ends := [2]int32{l.From, l.To}
			sent[ends] = append(sent[ends], ExplainedLink{l.Output, l.Param, l.Key, l.Secret})
		}
	}
	x.Params = g.receives(x.Params, received)

	for _, e := range g.Edges {
		r := Relation{Notify: e.Notify, Name: e.Name, Line: e.Pos.Line, Sends: sent[[2]int32{e.From, e.To}]}
		if r.Declared = e.Why == ""; e.Automatic() {
			r.Why = e.Why
		}
		switch at {
		case e.To:
			r.Resource, r.place = g.Vertices[e.From].String(), e.From
			x.After = append(x.After, r)
		case e.From:
			r.Resource, r.place = g.Vertices[e.To].String(), e.To
			x.Before = append(x.Before, r)
		}
	}
	inOrder := func(a, b Relation) int { return cmp.Compare(a.place, b.place) }
	slices.SortFunc(x.After, inOrder)
	slices.SortFunc(x.Before, inOrder)
	x.AllAfter = len(g.reach(at, backwards)) - 1
	x.AllBefore = len(g.reach(at, forwards)) - 1
	return x
}

func forwards(e Edge) (from, to int32)  { return e.From, e.To }
func backwards(e Edge) (from, to int32) { return e.To, e.From }

// reach returns a vertex and those to which edges lead from it, in the direction that ends
// says.
func (g *Graph) reach(at int32, ends func(Edge) (from, to int32)) map[int32]bool {
	next := make(map[int32][]int32, len(g.Vertices))
	for _, e := range g.Edges {
		from, to := ends(e)
		next[from] = append(next[from], to)
	}
	seen := map[int32]bool{at: true}
	for queue := []int32{at}; len(queue) > 0; {
		v := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, to := range next[v] {
			if !seen[to] {
				seen[to] = true
				queue = append(queue, to)
			}
		}
	}
	return seen
}

func explainParams(v *Vertex) []ExplainedParam {
	list := []ExplainedParam{}
	for _, f := range params.FieldsOf(v.Config) {
		f.Secret = f.Secret || v.Meta.Secret && len(f.OneOf) == 0 && f.Type != "true or false"
		if p, given := explainParam(v.Config, f); given || !f.Legacy {
			list = append(list, p)
		}
	}
	return list
}

func explainMeta(m *Meta) []ExplainedParam {
	list := []ExplainedParam{}
	defaults := DefaultMeta()
	standard := params.FieldsOf(&defaults)
	for i, f := range params.FieldsOf(m) {
		if f.Default != standard[i].Default {
			p, _ := explainParam(m, f)
			list = append(list, p)
		}
	}
	return list
}

// explainParam reads one parameter of cfg, and says whether it has a value other than the
// zero value of its type.
func explainParam(cfg any, f params.Field) (p ExplainedParam, given bool) {
	v := reflect.ValueOf(cfg).Elem().FieldByName(f.Go)
	p = ExplainedParam{Name: f.Name, Secret: f.Secret}
	given = !v.IsZero()
	switch v.Kind() {
	case reflect.Pointer:
		if !given {
			return p, false
		}
		v = v.Elem()
	case reflect.Slice, reflect.Map:
		if !given {
			return p, false
		}
	}
	p.Value = v.Interface()
	if f.Secret && given {
		p.Value = "(secret)"
		return p, true
	}
	switch value := p.Value.(type) {
	case time.Duration:
		p.Value = value.String()
	case float64:
		if math.IsInf(value, 0) { // which JSON does not have
			p.Value = ".inf"
		}
	}
	return p, given
}

// receives puts into a list of parameters who sends them.
func (g *Graph) receives(list []ExplainedParam, links map[string][]Link) []ExplainedParam {
	var out []ExplainedParam
	for _, p := range list {
		whole := false
		for _, l := range links[p.Name] {
			whole = whole || l.Key == ""
		}
		if !whole {
			out = append(out, p)
		}
		for _, l := range links[p.Name] {
			out = append(out, ExplainedParam{
				Name: p.Name, Secret: p.Secret || l.Secret, From: g.Vertices[l.From].String(), Output: l.Output, Key: l.Key,
			})
		}
	}
	return out
}

// explainWatches asks the resource what it watches, or rather one that is built of the
// same Config: the one that runs must not be called from elsewhere.
func explainWatches(v *Vertex) []ExplainedWatch {
	list := []ExplainedWatch{}
	var watches []sources.Watch
	switch {
	case v.Meta.Hidden:
	case v.Meta.Poll > 0:
		watches = []sources.Watch{sources.Interval{Every: v.Meta.Poll}}
	default:
		if r, err := v.Config.Build(v.Name, sinks.Options{Ref: v.String(), Shared: &sinks.Shared{}}); err == nil {
			watches = r.Watches()
		}
	}
	for _, w := range watches {
		list = append(list, ExplainedWatch{w.Source(), w.String()})
	}
	return list
}

// Foresee returns what Plan says of one resource. It looks at that one and at what has to
// be done before it, and at nothing else. A hidden resource is StepRight.
func Foresee(ctx context.Context, g *Graph, v *Vertex, opts PlanOptions) (Step, error) {
	f, err := Plan(ctx, g.before(v), opts)
	if err != nil {
		return Step{}, err
	}
	for _, s := range f.Steps {
		if s.Vertex == v {
			return s, nil
		}
	}
	return Step{Vertex: v, State: StepRight}, nil
}

// before is the part of g that consists of v and what has to be done before it.
func (g *Graph) before(v *Vertex) *Graph {
	wanted := g.reach(int32(slices.Index(g.Vertices, v)), backwards)
	part := &Graph{Name: g.Name, File: g.File}
	moved := make(map[int32]int32, len(wanted))
	for i, v := range g.Vertices {
		if wanted[int32(i)] {
			moved[int32(i)] = int32(len(part.Vertices))
			part.Vertices = append(part.Vertices, v)
		}
	}
	for _, e := range g.Edges {
		if wanted[e.From] && wanted[e.To] {
			e.From, e.To = moved[e.From], moved[e.To]
			part.Edges = append(part.Edges, e)
		}
	}
	for _, l := range g.Links {
		if wanted[l.From] && wanted[l.To] {
			l.From, l.To = moved[l.From], moved[l.To]
			part.Links = append(part.Links, l)
		}
	}
	return part
}
