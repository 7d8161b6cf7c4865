package pipeline

import (
	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks/params"
)

const (
	fromKey   = "from"
	outputKey = "output"
)

// arrivalEntry is what is simple in a value that is received.
type arrivalEntry struct {
	Output string `param:"output"`
}

// received implements params.Except: it takes upon itself a mapping that says from where
// a value is received. One that can be the value itself has to say exactly that.
func (l *loader) received(param, key string, fits bool, value *yaml.Node) bool {
	n := params.Resolve(value)
	if fits && !saysFrom(n) {
		return false
	}
	from, _ := params.Locate(n, &arrivalEntry{}, fromKey)
	output, _ := params.Locate(n, &arrivalEntry{}, outputKey)
	if from == nil && output == nil {
		return false
	}
	l.arrivals = append(l.arrivals, arrival{l.vertex, param, key, value})
	return true
}

// saysFrom reports whether a mapping has the keys from and output and no others, and
// what is at from reads as a resource.
func saysFrom(n *yaml.Node) bool {
	if len(n.Content) != 4 {
		return false
	}
	var from, output *yaml.Node
	for i := 0; i < len(n.Content); i += 2 {
		switch n.Content[i].Value {
		case fromKey:
			from = params.Resolve(n.Content[i+1])
		case outputKey:
			output = n.Content[i+1]
		}
	}
	if from == nil || output == nil {
		return false
	}
	if from.Kind != yaml.ScalarNode {
		return from.Kind == yaml.MappingNode
	}
	ends, _, bad := parseChain(from.Value)
	return bad == nil && len(ends) == 1
}

// arrive adds the link of a parameter that is received.
func (l *loader) arrive(a arrival) {
	v := a.vertex
	var e arrivalEntry
	wrong := params.Decode(a.node, &e, fromKey)
	l.take(wrong, "unknown key %q of a value that is received")
	link := Link{Output: e.Output, Param: a.param, Key: a.key, Pos: posOf(a.node)}
	if _, output := params.Locate(a.node, &e, outputKey); output != nil {
		link.outputAt = posOf(output)
	}
	_, from := params.Locate(a.node, &e, fromKey)
	own := v.index
	if v.Exported {
		// It is built without the value, wherever that will come from.
		v.receives = append(v.receives, received{output: e.Output, param: params.NameOf(v.Config, a.param), key: a.key})
		own = l.kinds[v.Kind].exports[v.Name]
	}
	ok := false
	if given(from) {
		link.From, ok = l.end(from)
	} else {
		l.report(a.node, `add "from: kind[name]"`, "it is not said from where this is received")
	}
	if !ok || len(wrong) > 0 {
		v.broken, v.partly = true, false // don't report what follows from the value that is missing
		return
	}
	if v.Exported {
		l.g.outgoing = append(l.g.outgoing, outgoing{Link: link, to: v, at: len(v.receives) - 1, linked: own >= 0})
	}
	if own >= 0 {
		link.To = own
		l.g.Links = append(l.g.Links, link)
	}
}

// send decodes what an edge sends: a mapping from outputs to parameters. The ends of the
// links are missing.
func (l *loader) send(node *yaml.Node) []Link {
	const form = `write "send: {OUTPUT: PARAMETER}"`
	if n := params.Resolve(node); n.Kind != yaml.MappingNode {
		l.report(node, form, "expected a mapping from outputs to parameters, found %s", params.Describe(n))
		return nil
	}
	var links []Link
	l.take(params.Each(node, func(key, value *yaml.Node, _ bool) {
		items := []*yaml.Node{value}
		if list := params.Resolve(value); list.Kind == yaml.SequenceNode {
			items = list.Content
		}
		for _, item := range items {
			n := params.Resolve(item)
			if n.Kind != yaml.ScalarNode || !isText(n) {
				l.report(item, form, "expected the name of a parameter, found %s", params.Describe(n))
				continue
			}
			link := Link{Output: key.Value, Pos: posOf(key), outputAt: posOf(key), paramAt: posOf(item)}
			link.Param, link.Key = splitTarget(n.Value)
			links = append(links, link)
		}
	}), "")
	return links
}
