package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

func compareReceived(a, b received) int {
	return cmp.Or(cmp.Compare(a.param, b.param), cmp.Compare(a.key, b.key), cmp.Compare(a.from, b.from), cmp.Compare(a.output, b.output))
}

// Send has an output of a resource sent to a parameter of another, both of which Add of
// this graph has returned: to runs after from, and not before the value is there. With
// param as "env.HOME" only the key HOME of the parameter env is sent, which is a map.
// What the Config of to says of the parameter counts for nothing. If from has only one
// output, its name may be empty. What is wrong with it is reported by Compile. A link
// from or to an exported resource has no effect on this host.
func (g *Graph) Send(from *Vertex, output string, to *Vertex, param string) {
	if g.joins("a link", from, to) {
		l := Link{From: from.index, To: to.index, Output: output}
		l.Param, l.Key = splitTarget(param)
		g.Links = append(g.Links, l)
	}
}

// splitTarget splits "env.HOME" into a parameter and a key of it.
func splitTarget(text string) (param, key string) {
	if param, key, ok := strings.Cut(text, "."); ok && key != "" {
		return param, key
	}
	return text, ""
}

// links checks the links, and notes with the vertices what they send and receive. It adds
// an edge for each that has none.
func (c *compiler) links() {
	g := c.g
	for _, v := range g.Vertices {
		v.receives, v.sends, v.tainted = nil, nil, v.Meta != nil && v.Meta.Secret
	}
	if len(g.Links) == 0 && len(g.outgoing) == 0 {
		return
	}
	outputs := map[int32][]sinks.Output{}
	for i := range g.Links {
		c.link(&g.Links[i], outputs)
	}
	t := targets{taken: map[target]*Link{}, given: map[target]bool{}, looked: map[target]bool{}, places: map[Position]bool{}}
	for _, l := range g.Links {
		t.places[l.Pos] = true
	}
	for i := range g.Links {
		c.collide(&g.Links[i], &t)
	}
	for i := range g.Links {
		l := &g.Links[i]
		if !g.has(l) {
			continue
		}
		from, to := g.Vertices[l.From], g.Vertices[l.To]
		to.receives = append(to.receives, received{from.String(), l.Output, l.Param, l.Key})
		from.sends = append(from.sends, l.Output)
	}
	c.outgoing(outputs)
	for _, v := range g.Vertices {
		slices.Sort(v.sends)
		v.sends = slices.Compact(v.sends)
		slices.SortFunc(v.receives, compareReceived)
	}
	g.connectLinks()
}

// has says that both ends of a link are in the graph.
func (g *Graph) has(l *Link) bool {
	n := int32(len(g.Vertices))
	return l.From >= 0 && l.From < n && l.To >= 0 && l.To < n
}

// link checks one link by itself, and fills in its output.
func (c *compiler) link(l *Link, outputs map[int32][]sinks.Output) {
	g := c.g
	if !g.has(l) {
		c.report(l.Pos, "", "a link leads from vertex %d to %d, but there are %d", l.From, l.To, len(g.Vertices))
		return
	}
	from, to := g.Vertices[l.From], g.Vertices[l.To]
	if l.From == l.To {
		c.report(l.Pos, "receive it from another resource", "%s receives from itself", brief(from.String()))
		return
	}
	if to.Config != nil {
		l.Param = params.NameOf(to.Config, l.Param)
	}
	all, known := outputs[l.From]
	if sender, ok := from.Config.(sinks.Sender); ok && !known {
		all = sender.Outputs()
		outputs[l.From] = all
	}
	out, ok := c.output(l, from, all)
	if !ok || to.Config == nil {
		return
	}
	l.Secret = out.Secret
	c.accepts(l, from, to, out)
}

// output finds the output of a link, and fills in its name if there is only one. It
// reports one that there is not, unless it may be there once the sender is mended.
func (c *compiler) output(l *Link, from *Vertex, all []sinks.Output) (sinks.Output, bool) {
	at := cmp.Or(l.outputAt, l.Pos)
	names := make([]string, len(all))
	for i, out := range all {
		if out.Name == l.Output || l.Output == "" && len(all) == 1 {
			l.Output = out.Name
			return out, true
		}
		names[i] = out.Name
	}
	switch near, ok := params.Nearest(l.Output, names); {
	case from.broken && !from.partly:
	case len(all) == 0:
		hint := ""
		if _, sender := from.Config.(sinks.Sender); !sender {
			hint = "receive from a kind that has outputs"
		}
		c.report(at, hint, "%s sends nothing", brief(from.String()))
	case l.Output == "":
		c.report(at, "add \"output: \" with one of "+strings.Join(names, ", "), "%s sends several values, and it is not said which", brief(from.String()))
	case ok:
		c.report(at, fmt.Sprintf("did you mean %q?", near), "%s has no output %q", brief(from.String()), brief(l.Output))
	default:
		c.report(at, "its outputs are "+strings.Join(names, ", "), "%s has no output %q", brief(from.String()), brief(l.Output))
	}
	return sinks.Output{}, false
}

// accepts reports a parameter that can't receive what is sent.
func (c *compiler) accepts(l *Link, from, to *Vertex, out sinks.Output) {
	at := cmp.Or(l.paramAt, l.Pos)
	err := params.Accepts(to.Config, l.Param, l.Key, out.Type)
	if err == nil {
		return
	}
	if unknown, ok := errors.AsType[params.Problem](err); ok {
		c.report(at, unknown.Hint, "unknown parameter %q of %s", brief(l.Param), to.Kind)
		return
	}
	if noMap, ok := errors.AsType[*params.NotAMap](err); ok {
		c.report(at, fmt.Sprintf("leave out %q", "."+brief(l.Key)), "%s of %s is %s and has no keys", l.Param, brief(to.String()), noMap.Wanted)
		return
	}
	if wrong, ok := errors.AsType[*params.Mismatch](err); ok {
		c.report(at, "", "%s sends %s, %s, but %s of %s is %s", brief(from.String()), out.Name, wrong.Sent, l.target(), brief(to.String()), wrong.Wanted)
		return
	}
	c.report(at, "", "%s of %s: %v", l.target(), brief(to.String()), err)
}

// target is the parameter with the key, if there is one: "env.HOME".
func (l *Link) target() string {
	if l.Key == "" {
		return l.Param
	}
	return l.Param + "." + brief(l.Key)
}

// target is what can be received only once.
type target struct {
	to         int32
	param, key string
}

// targets are the parameters that a file gives or that are received.
type targets struct {
	taken  map[target]*Link
	given  map[target]bool   // by the file itself
	looked map[target]bool   // the parameters that given is about
	places map[Position]bool // where the file says that something is received
}

// collide reports a parameter that is received twice, or is also given by the file.
func (c *compiler) collide(l *Link, t *targets) {
	if !c.g.has(l) {
		return
	}
	to := c.g.Vertices[l.To]
	at := cmp.Or(l.paramAt, l.Pos)
	this, whole, part := target{l.To, l.Param, l.Key}, target{l.To, l.Param, ""}, target{l.To, l.Param, anyKey}
	if to.node != nil && to.Config != nil && !t.looked[whole] {
		t.looked[whole] = true
		t.look(to, whole)
	}
	if t.given[this] || l.Key == "" && t.given[part] {
		c.report(at, "remove one of them", "%s of %s is received, and the file gives it as well", l.target(), brief(to.String()))
	}
	first := cmp.Or(t.taken[this], t.taken[whole])
	if l.Key == "" {
		first = cmp.Or(first, t.taken[part])
	}
	if first != nil {
		c.report(at, "keep one of them", "%s of %s is received from %s, and %s from %s%s", l.target(), brief(to.String()),
			brief(c.g.Vertices[l.From].String()), first.target(), brief(c.g.Vertices[first.From].String()), firstAtLine(first.Pos))
		return
	}
	t.taken[this] = l
	if l.Key != "" {
		t.taken[part] = l
	}
}

// look notes what the file itself gives for a parameter, and for its keys.
func (t *targets) look(to *Vertex, whole target) {
	_, value := params.Locate(to.node, to.Config, whole.param)
	switch {
	case value == nil || params.IsNull(value) || t.places[posOf(value)]:
		return
	case params.Resolve(value).Kind != yaml.MappingNode:
		t.given[whole] = true
		return
	}
	params.Each(value, func(key, v *yaml.Node, _ bool) {
		if !t.places[posOf(v)] {
			t.given[target{whole.to, whole.param, key.Value}] = true
			t.given[target{whole.to, whole.param, anyKey}] = true
		}
	})
}

// anyKey is no key that a file could have, since it is no text.
const anyKey = "\xff"

// firstAtLine says where a file has something, if it does.
func firstAtLine(at Position) string {
	if at.Line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", at.Line)
}

// linkWhy begins Edge.Why of an edge that nobody has declared but by a link.
const linkWhy = "sends "

func (e Edge) byLink() bool { return strings.HasPrefix(e.Why, linkWhy) }

// connectLinks adds an edge for the links between two vertices that have none.
func (g *Graph) connectLinks() {
	type pair struct{ from, to int32 }
	first := map[pair]int{} // the first link between them, and then its edge
	for i, l := range g.Links {
		if _, ok := first[pair{l.From, l.To}]; !ok && g.has(&l) && l.From != l.To {
			first[pair{l.From, l.To}] = i
		}
	}
	for _, e := range g.Edges {
		delete(first, pair{e.From, e.To})
	}
	if len(first) == 0 {
		return
	}
	edges := map[pair]int{}
	for i, l := range g.Links {
		p := pair{l.From, l.To}
		switch at, ok := first[p]; {
		case !ok:
		case at == i:
			edges[p] = len(g.Edges)
			g.Edges = append(g.Edges, Edge{From: l.From, To: l.To, Why: linkWhy + l.Output, Pos: l.Pos})
		default:
			e := &g.Edges[edges[p]]
			if why := strings.TrimPrefix(e.Why, linkWhy); !slices.Contains(strings.Split(why, ", "), l.Output) {
				e.Why += ", " + l.Output
			}
		}
	}
}

// taint follows secrets along the links: who has received one may send it on in any text.
// It reports those that would be shown. The edges make no cycle.
func (c *compiler) taint() {
	g := c.g
	if len(g.Links) == 0 && len(g.outgoing) == 0 {
		return
	}
	leaving := map[int32][]*Link{}
	for i := range g.Links {
		l := &g.Links[i]
		leaving[l.From] = append(leaving[l.From], l)
	}
	source := map[int32]*Link{} // by which the secret was sent that a vertex has received first
	for _, at := range g.Order() {
		v := g.Vertices[at]
		for _, l := range leaving[at] {
			direct := l.Secret || v.Meta.Secret && c.carriesText(v, l.Output)
			l.Secret = direct || v.tainted && c.carriesText(v, l.Output)
			if !l.Secret {
				continue
			}
			to := g.Vertices[l.To]
			if !to.tainted {
				to.tainted, source[l.To] = true, l
				if !direct {
					source[l.To] = source[at]
				}
			}
			if params.IsShown(to.Config, l.Param) {
				c.shown(l, direct, source[at])
			}
		}
	}
}

// carriesText says that an output may hold what the resource has received.
func (c *compiler) carriesText(v *Vertex, output string) bool {
	sender, ok := v.Config.(sinks.Sender)
	if !ok {
		return false
	}
	for _, out := range sender.Outputs() {
		if out.Name == output {
			return out.Type == sinks.TypeString || out.Type == sinks.TypeStrings || out.Type == sinks.TypeMap
		}
	}
	return false
}

// shown reports a secret that is sent to where everybody can see it.
func (c *compiler) shown(l *Link, direct bool, by *Link) {
	g := c.g
	from, to := brief(g.Vertices[l.From].String()), brief(g.Vertices[l.To].String())
	at := cmp.Or(l.paramAt, l.Pos)
	const hint = "send it to a parameter that is not shown"
	if direct {
		c.report(at, hint, "%s sends %s, which is secret, but %s of %s is shown", from, l.Output, l.target(), to)
		return
	}
	c.report(at, hint, "%s sends %s, which may hold the secret %s of %s, but %s of %s is shown",
		from, l.Output, by.Output, brief(g.Vertices[by.From].String()), l.target(), to)
}

// sameLinks says that two vertices of the same desired state are sent the same, and that
// was sends all that now is wanted of it. What is secret of it has to be the same, too.
func sameLinks(was, now *Vertex) bool {
	if was.tainted != now.tainted || !slices.Equal(was.receives, now.receives) {
		return false
	}
	for _, output := range now.sends {
		if _, ok := slices.BinarySearch(was.sends, output); !ok {
			return false
		}
	}
	return true
}
