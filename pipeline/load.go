package pipeline

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// Load decodes a graph file: YAML, of which JSON is a part, of either generation. The
// name is what problems call the file. The graph is then to be compiled; the error is
// Problems, and lists all that is wrong with the file, including what Compile would
// have found. A resource that is exported and also collected by the same file is among
// the vertices, under the path that the pattern gives it.
func Load(name string, data []byte, reg *sinks.Registry) (*Graph, error) {
	l := &loader{
		g:        &Graph{File: name},
		data:     data,
		reg:      reg,
		kinds:    map[string]*kindIndex{},
		metas:    map[*yaml.Node]*Meta{},
		hintCost: maxHintCost,
	}
	l.except = l.received
	root, problem := parseYAML(data)
	if problem != nil {
		problem.File = name
		return nil, Problems{*problem}
	}
	l.file(root)
	if len(l.problems) == 0 {
		return l.g, nil
	}
	// Report everything at once: also what Compile finds wrong with the rest.
	return nil, append(l.problems, l.g.compile(sinks.Options{})...).err()
}

// loader turns the nodes of one file into a graph.
type loader struct {
	g        *Graph
	data     []byte
	lines    [][]byte // of data, split when they are wanted
	reg      *sinks.Registry
	problems Problems
	kinds    map[string]*kindIndex // by the names that the file uses, in lower case
	metas    map[*yaml.Node]*Meta  // of meta mappings that have an anchor, to share them
	pending  []reference
	arrivals []arrival
	vertex   *Vertex       // that is being decoded
	except   params.Except // received, as a value
	own      []ownKey      // of the resource that is being decoded
	blind    bool          // the resources can't be read: an edge to nowhere is no news
	hintCost int           // names that may yet be looked at to find a near one
}

// maxHintCost bounds the search for near names, which would otherwise be quadratic in a
// file of which every edge is wrong.
const maxHintCost = 1_000_000

// kindIndex holds the resources of one kind.
type kindIndex struct {
	unknown bool             // there is no such kind, which has been reported
	blind   bool             // some have no name that could be read, which has been reported
	names   map[string]int32 // indices into Vertices; made when there are edges
	exports map[string]int32 // the same, of those that are also collected; else -1
	count   int              // how many names to expect
	list    []string         // the names, made when a near one is wanted
}

// ownKey is one of the reserved keys of a resource.
type ownKey struct{ key, value *yaml.Node }

// reference is one of require, before, notify and subscribe, to be resolved when all
// resources are known.
type reference struct {
	vertex *Vertex
	word   string
	node   *yaml.Node
}

// arrival is a parameter that a resource receives, to be resolved when all resources are
// known.
type arrival struct {
	vertex     *Vertex
	param, key string
	node       *yaml.Node
}

// header is what is simple at the top of a file.
type header struct {
	Graph   string `param:"graph"`
	Comment string `param:"comment"`
	Remote  string `param:"remote"`
}

const (
	resourcesKey = "resources"
	typesKey     = "types" // its old name
	edgesKey     = "edges"
	collectKey   = "collect"
)

// reserved are the keys of a resource that belong to no kind.
var reserved = []string{"name", "meta", "require", "before", "notify", "subscribe"}

func (l *loader) file(root *yaml.Node) {
	if params.Resolve(root).Kind != yaml.MappingNode {
		l.blind = true
		l.report(root, needs, "expected a graph, found %s", params.Describe(root))
		return
	}
	var h header
	wrong := params.Decode(root, &h, resourcesKey, typesKey, edgesKey, collectKey)
	l.take(wrong, "unknown key %q")
	if h.Graph == "" && !slices.ContainsFunc(wrong, func(p params.Problem) bool { return p.Param == "graph" || meant(p, "graph") }) {
		l.report(root, `begin the file with "graph: NAME"`, "the graph has no name")
	}
	if key, value := params.Locate(root, &h, "remote"); key != nil && h.Remote != "" {
		l.report(value, "remove the key and run mgmt on that host", "the graph is meant for %s, but remote mode is not supported yet", h.Remote)
	}
	l.g.Name, l.g.Comment, l.g.Remote = h.Graph, h.Comment, h.Remote

	var resources, collect, edges *yaml.Node
	var resourcesAt *yaml.Node
	params.Each(root, func(key, value *yaml.Node, _ bool) {
		switch key.Value {
		case resourcesKey, typesKey:
			if resourcesAt != nil {
				l.report(key, "put all resources under one of them", "%s and %s mean the same, and %s stands in line %d", resourcesKey, typesKey, resourcesAt.Value, resourcesAt.Line)
			} else {
				resourcesAt, resources = key, value
			}
		case collectKey:
			collect = value
		case edgesKey:
			edges = value
		}
	})
	if slices.ContainsFunc(wrong, func(p params.Problem) bool { return meant(p, resourcesKey) || meant(p, typesKey) }) {
		l.blind = true
	}
	if given(resources) {
		l.resources(resources)
	}
	if given(collect) {
		l.collect(collect)
	}
	l.collectOwn()
	if given(edges) || len(l.pending) > 0 || len(l.arrivals) > 0 {
		l.indexNames()
	}
	if given(edges) {
		l.edges(edges)
	}
	for _, r := range l.pending {
		l.reference(r)
	}
	for _, a := range l.arrivals {
		l.arrive(a)
	}
	slices.SortStableFunc(l.g.Links, func(a, b Link) int { return comparePositions(a.Pos, b.Pos) })
}

// needs is the hint for a file that is no graph.
const needs = `a graph file needs at least "graph: NAME" and a list of resources`

func given(n *yaml.Node) bool { return n != nil && !params.IsNull(n) }

// meant reports whether p is about a misspelling of that name.
func meant(p params.Problem, name string) bool {
	if !p.Unknown {
		return false
	}
	_, near := params.Nearest(p.Param, []string{name})
	return near
}

// report adds a problem at the place of a node.
func (l *loader) report(at *yaml.Node, hint, format string, args ...any) {
	l.problems = append(l.problems, Problem{File: l.g.File, Pos: posOf(at), Message: fmt.Sprintf(format, args...), Hint: hint})
}

// take adds problems of package params. Its format, with %q for the name, replaces the
// message about a name that does not exist.
func (l *loader) take(problems []params.Problem, unknown string) {
	for _, p := range problems {
		if p.Unknown {
			p.Message = fmt.Sprintf(unknown, brief(p.Param))
		}
		l.problems = append(l.problems, Problem{
			File: l.g.File, Pos: Position{int32(p.Line), int32(p.Column)}, Message: p.Message, Hint: p.Hint,
		})
	}
}

func posOf(n *yaml.Node) Position { return Position{int32(n.Line), int32(n.Column)} }

// index returns what is known about a kind of the file.
func (l *loader) index(kind string) *kindIndex {
	k := l.kinds[kind]
	if k == nil {
		k = &kindIndex{exports: map[string]int32{}}
		l.kinds[kind] = k
	}
	return k
}

// indexNames makes the vertices known by their names. Of those that have the same name it
// is the first.
func (l *loader) indexNames() {
	for _, k := range l.kinds {
		k.names = make(map[string]int32, k.count)
	}
	for i, v := range l.g.Vertices {
		names := l.kinds[v.Kind].names
		if _, twice := names[v.Name]; !twice {
			names[v.Name] = int32(i)
		}
	}
}

// resources decodes the map from kinds to lists.
func (l *loader) resources(node *yaml.Node) {
	if params.Resolve(node).Kind != yaml.MappingNode {
		l.blind = true
		l.report(node, "list the resources under their kind, such as \"file:\"", "expected a mapping from kinds to resources, found %s", params.Describe(node))
		return
	}
	seen := map[string]*yaml.Node{}
	l.take(params.Each(node, func(key, value *yaml.Node, _ bool) {
		kind := strings.ToLower(key.Value)
		if before := seen[kind]; before != nil {
			l.report(key, "keep one of them", "the kind %s is given twice, first in line %d", kind, before.Line)
			l.index(kind).blind = true
			return
		}
		seen[kind] = key
		spec, ok := l.reg.Spec(kind)
		if !ok {
			l.index(kind).unknown = true
			l.report(key, l.nearKind(kind), "unknown kind %q", brief(key.Value))
			return
		}
		l.kind(spec, value)
	}), "")
}

// kind decodes the list of resources of one kind.
func (l *loader) kind(spec sinks.Spec, node *yaml.Node) {
	list := params.Resolve(node)
	switch {
	case params.IsNull(list):
		return
	case list.Kind != yaml.SequenceNode:
		l.index(spec.Kind).blind = true
		l.report(node, "begin each with \"- name: \"", "expected a list of %s resources, found %s", spec.Kind, params.Describe(list))
		return
	}
	l.g.Vertices = slices.Grow(l.g.Vertices, len(list.Content))
	index := l.index(spec.Kind)
	index.count = len(list.Content)
	pick := func(key, value *yaml.Node, _ bool) {
		if slices.Contains(reserved, key.Value) {
			l.own = append(l.own, ownKey{key, value})
		}
	}
	for _, item := range list.Content {
		l.own = l.own[:0]
		params.Each(item, pick)
		l.resource(spec, index, item)
	}
}

// resource decodes a resource, of which l.own has the reserved keys.
func (l *loader) resource(spec sinks.Spec, index *kindIndex, item *yaml.Node) {
	if params.Resolve(item).Kind != yaml.MappingNode {
		index.blind = true
		l.report(item, "begin it with \"- name: \"", "expected a %s resource, found %s", spec.Kind, params.Describe(item))
		return
	}
	v := &Vertex{Kind: spec.Kind, Meta: &defaultMeta, Config: spec.New(), Pos: posOf(item), node: item}
	before, pending, arrivals := len(l.problems), len(l.pending), len(l.arrivals)
	var name *yaml.Node
	misnamed := false // which has been reported
	for _, own := range l.own {
		switch own.key.Value {
		case "name":
			name = own.value
			if text := params.Resolve(name); isText(text) {
				v.Name = text.Value
				continue
			}
			text, wrong := params.Text(own.key, name)
			l.take(wrong, "")
			v.Name, misnamed = text, len(wrong) > 0
		case "meta":
			v.Meta = l.meta(own.value)
		default:
			l.pending = append(l.pending, reference{v, own.key.Value, own.value})
		}
	}
	l.vertex = v
	wrong := params.DecodeExcept(item, v.Config, l.except, reserved...)
	l.take(wrong, "unknown parameter %q of "+spec.Kind)
	misnamed = misnamed || slices.ContainsFunc(wrong, func(p params.Problem) bool { return meant(p, "name") })

	v.Name, v.Exported = strings.CutPrefix(v.Name, exportMark)
	switch {
	case v.Name != "":
	case misnamed:
	case !given(name):
		l.report(item, "add \"name: \"", "this %s resource has no name", spec.Kind)
	default:
		l.report(name, "", "the name of this %s resource is empty", spec.Kind)
	}
	if v.Name == "" {
		index.blind = true
		l.pending, l.arrivals = l.pending[:pending], l.arrivals[:arrivals]
		return
	}
	v.broken = len(l.problems) > before
	v.partly = v.broken && onlyUnknown(wrong)
	l.g.put(v)
	if v.Exported {
		index.exports[v.Name] = -1
	}
}

// meta decodes meta-parameters. Those that several resources have by an alias are shared.
func (l *loader) meta(node *yaml.Node) *Meta {
	if params.IsNull(node) {
		return &defaultMeta
	}
	resolved := params.Resolve(node)
	if shared := l.metas[resolved]; shared != nil {
		return shared
	}
	m := new(DefaultMeta())
	wrong := params.Decode(node, m)
	l.take(wrong, "unknown meta-parameter %q")
	if key, _ := params.Locate(node, m, "burst"); key == nil && !math.IsInf(m.Limit, 1) {
		m.Burst = 1
	}
	if onlyUnknown(wrong) {
		if err := m.Validate(); err != nil {
			at, text := locate(node, m, err)
			l.problems = append(l.problems, Problem{File: l.g.File, Pos: at, Message: text})
		}
	}
	if resolved.Anchor != "" {
		l.metas[resolved] = m
	}
	return m
}

// collectEntry is one item of collect.
type collectEntry struct {
	Kind    string `param:"kind" alias:"type"`
	Pattern string `param:"pattern"`

	Live  bool          `param:"live"`
	Grace time.Duration `param:"grace" unit:"s"`
}

// defaultGrace is how long a host that is gone counts as live.
const defaultGrace = 30 * time.Second

func (l *loader) collect(node *yaml.Node) {
	list := params.Resolve(node)
	if list.Kind != yaml.SequenceNode {
		l.report(node, "begin each entry with \"- kind: \"", "expected a list of what to collect, found %s", params.Describe(list))
		return
	}
	for _, item := range list.Content {
		c := collectEntry{Grace: defaultGrace}
		wrong := params.Decode(item, &c)
		l.take(wrong, "unknown key %q in an entry of collect")
		kind := strings.ToLower(c.Kind)
		spec, known := l.reg.Spec(kind)
		at := item
		if _, value := params.Locate(item, &c, "kind"); value != nil {
			at = value
		}
		switch {
		case len(wrong) > 0:
		case kind == "":
			l.report(at, "add \"kind: \"", "this entry of collect has no kind")
		case !known && l.kinds[kind] != nil: // reported where it has resources
		case !known:
			l.report(at, l.nearKind(kind), "unknown kind %q", brief(c.Kind))
		case c.Grace < 0:
			_, value := params.Locate(item, &c, "grace")
			l.report(value, "", "grace: %v is negative, expected 0 or more", c.Grace)
		case c.Pattern != "" && !movable(spec.New()):
			_, value := params.Locate(item, &c, "pattern")
			l.report(value, "leave the pattern empty", "a pattern moves paths, and %s has none", kind)
		default:
			l.g.Collect = append(l.g.Collect, Collect{Kind: kind, Pattern: c.Pattern, Live: c.Live, Grace: c.Grace, Pos: posOf(item)})
		}
	}
}

// collectOwn applies collect to what this file itself exports.
func (l *loader) collectOwn() {
	collected := map[*Vertex]*Vertex{}
	by := map[*Vertex]Collect{}
	for _, c := range l.g.Collect {
		for _, e := range l.g.Exports {
			if e.Kind != c.Kind {
				continue
			}
			cfg, err := moved(e, c.Pattern)
			if err != nil {
				l.problems = append(l.problems, Problem{File: l.g.File, Pos: c.Pos, Message: err.Error(), Hint: "leave the pattern empty"})
				break
			}
			if first := collected[e]; first != nil {
				if !params.Equal(first.Config, cfg) {
					l.problems = append(l.problems, Problem{
						File: l.g.File, Pos: c.Pos,
						Message: fmt.Sprintf("%v is collected twice, first in line %d", e, by[e].Pos.Line),
						Hint:    "keep one of them",
					})
				}
				continue
			}
			v := &Vertex{Kind: e.Kind, Name: e.Name, Meta: e.Meta, Config: cfg, Pos: e.Pos, collected: true, broken: e.broken, node: e.node}
			collected[e], by[e] = v, c
			l.g.put(v)
			l.index(v.Kind).exports[v.Name] = v.index
		}
	}
}

// onlyUnknown says that all that is wrong are names, so that the values can be judged.
func onlyUnknown(wrong []params.Problem) bool {
	return !slices.ContainsFunc(wrong, func(p params.Problem) bool { return !p.Unknown })
}

// moved is the desired state of an exported resource after it was collected: its path,
// which is the parameter path (by default the name) unless dirname and basename are
// given, has the directory that the pattern names. An empty pattern leaves it alone.
func moved(v *Vertex, pattern string) (sinks.Config, error) {
	if pattern == "" {
		return v.Config, nil
	}
	text := func(param string) string {
		value, _ := params.Get(v.Config, param)
		s, _ := value.(string)
		return s
	}
	if !movable(v.Config) {
		return nil, fmt.Errorf("a pattern moves paths, and %s has none", v.Kind)
	}
	base := text("basename")
	if base == "" {
		path := text("path")
		if path == "" {
			path = v.Name
		}
		// The slash at the end of a directory belongs to its name.
		base = path[strings.LastIndexByte(strings.TrimRight(path, "/"), '/')+1:]
	}
	changed := map[string]any{"path": strings.TrimRight(pattern, "/") + "/" + base}
	for _, param := range []string{"dirname", "basename"} {
		if text(param) != "" {
			changed[param] = ""
		}
	}
	cfg := params.Clone(v.Config)
	return cfg, params.DecodeMap(cfg, changed)
}

// movable says that resources like cfg have a path.
func movable(cfg sinks.Config) bool {
	_, ok := params.Get(cfg, "path")
	return ok
}

// nearKind is the hint for a kind that does not exist.
func (l *loader) nearKind(kind string) string {
	if near, ok := params.Nearest(kind, l.reg.Kinds()); ok {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "the kinds are " + strings.Join(l.reg.Kinds(), ", ")
}

// brief cuts what is too long for a message.
func brief(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
