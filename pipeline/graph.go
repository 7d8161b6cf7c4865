package pipeline

import (
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
)

// Graph is what a graph file describes, or what a program has composed with Add and
// Connect. It is complete, and safe to run, when Compile has returned nil; nothing
// changes it afterwards.
type Graph struct {
	// Name is the graph's name, Comment free text.
	Name, Comment string

	// File is the name of the file as problems show it; empty for a composed graph.
	File string

	// Vertices are the resources that belong to this host, in file order, followed by
	// those that a collect entry of the file takes from its own exports. Kind and name
	// together are unique in a compiled graph.
	Vertices []*Vertex

	// Edges say what runs before what. No two edges of a compiled graph connect the
	// same vertices in the same direction.
	Edges []Edge

	// Links say which output of a resource is sent to which parameter of another. For each
	// there is an edge in a compiled graph.
	Links []Link

	// Notes are what Compile has to say about a graph that is in order: automatic edges
	// that it has left out, and meta-parameters that are not what they seem to be.
	Notes []Note

	// Exports are the resources that are published for other hosts. They are built and
	// checked like the others, and not applied here.
	Exports []*Vertex

	// Collect says which published resources this host applies. Load has applied it to
	// the exports of the file itself.
	Collect []Collect

	// Remote is the URL of the host that the graph is meant for; empty for this one.
	Remote string

	outgoing []outgoing    // what exported resources receive
	problems Problems      // found by Connect, for Compile
	options  sinks.Options // those of Compile, with which a run builds resources of received values
}

// Vertex is one resource of a graph.
type Vertex struct {
	// Kind is the registered name of the resource's kind, in lower case.
	Kind string

	// Name is the resource's name, without the @@ of an exported one.
	Name string

	// Meta is never nil in a compiled graph. Vertices without meta-parameters share
	// one value, so it must not be changed.
	Meta *Meta

	// Config is the desired state.
	Config sinks.Config

	// Resource is what Config.Build has returned: set by Compile.
	Resource sinks.Resource

	// Pos is where the file describes the resource; zero in a composed graph.
	Pos Position

	// Exported says that the name began with @@.
	Exported bool

	// Host is the host that exports a resource which was collected from another host.
	Host string

	// Undo says that the resource is there to undo what another of its name has done, which
	// has left the graph. Only a run makes such vertices.
	Undo bool

	collected bool // from the exports of its own file: set by Load

	tainted  bool       // something secret is sent to it: set by Compile
	sends    []string   // the outputs that somebody receives, in alphabetical order: set by Compile
	receives []received // what it is sent, in order: set by Compile, and by Load for an exported one

	partly bool       // broken by unknown parameters only: the known ones can be checked
	broken bool       // already reported: don't build it, don't report what follows from it
	index  int32      // in Vertices, for Connect
	node   *yaml.Node // what the file says, for positions, until Compile is done
}

// outgoing is a Link to an exported resource, in place of the vertex To.
type outgoing struct {
	Link
	to     *Vertex
	at     int  // in its receives
	linked bool // there is a Link for the same, since the graph collects it
}

// received is a value that a vertex is sent, as far as it is a part of its desired state.
type received struct {
	from               string // the sender, as users write it
	output, param, key string
}

// String is the resource as users write it: file[/etc/motd], file[@@/etc/motd].
func (v *Vertex) String() string {
	if v.Exported {
		return ref(v.Kind, exportMark+v.Name)
	}
	return ref(v.Kind, v.Name)
}

// exportMark begins the name of an exported resource.
const exportMark = "@@"

func ref(kind, name string) string { return kind + "[" + name + "]" }

// Edge says that one vertex runs before another.
type Edge struct {
	// From and To are indices into Vertices.
	From, To int32

	// Notify says that a change of From also refreshes To.
	Notify bool

	// Name is free text.
	Name string

	// Why tells of an edge that nobody has declared why it is there: "which holds it" for
	// one that a Need has led to. Empty for declared edges.
	Why string

	// Pos is where the file has the edge; zero in a composed graph.
	Pos Position
}

// Link says that an output of one resource is sent to a parameter of another.
type Link struct {
	// From and To are indices into Vertices.
	From, To int32

	// Output is the name of the output; Compile fills in the only one that there is if it is
	// empty. Param is the name of the parameter. Key is the key of a parameter that is a
	// map, which gets only that value.
	Output, Param, Key string

	// Secret says that the value is hidden: the output is secret, or its sender has
	// received something secret. Compile sets it.
	Secret bool

	// Pos is where the file has it; zero in a composed graph.
	Pos Position

	outputAt, paramAt Position // where the file has their names; zero is Pos
}

// Note is a remark about a graph that is in order.
type Note struct {
	Pos  Position
	Text string
}

// Collect selects published resources to be applied on this host.
type Collect struct {
	// Kind of the resources, in lower case.
	Kind string

	// Pattern is the directory that a path is moved to; empty leaves it alone.
	Pattern string

	// Live leaves out what hosts export that are not there, since at least Grace. A host's
	// own exports are always live.
	Live  bool
	Grace time.Duration

	// Pos is where the file has the entry.
	Pos Position
}

// Position is a place in a graph file. Both count from 1; a zero Line means nowhere.
type Position struct{ Line, Column int32 }

// Add appends a resource and returns its vertex. The kind is only a name here, it need
// not be registered. A name that begins with @@ is exported. Each function of meta
// changes the meta-parameters, which begin with their defaults. What is wrong with the
// resource is reported by Compile.
func (g *Graph) Add(kind, name string, cfg sinks.Config, meta ...func(*Meta)) *Vertex {
	v := &Vertex{Kind: kind, Config: cfg, Meta: &defaultMeta}
	v.Name, v.Exported = strings.CutPrefix(name, exportMark)
	if len(meta) > 0 {
		m := DefaultMeta()
		for _, change := range meta {
			change(&m)
		}
		v.Meta = &m
	}
	g.put(v)
	return v
}

// put files v under Vertices or Exports.
func (g *Graph) put(v *Vertex) {
	if v.Exported {
		g.Exports = append(g.Exports, v)
		return
	}
	v.index = int32(len(g.Vertices))
	g.Vertices = append(g.Vertices, v)
}

// Connect makes from run before to, both of which Add of this graph has returned, and
// with notify a change of from refresh to. What is wrong with the edge is reported by
// Compile. An edge from or to an exported resource has no effect on this host.
func (g *Graph) Connect(from, to *Vertex, notify bool) {
	if g.joins("an edge", from, to) {
		g.Edges = append(g.Edges, Edge{From: from.index, To: to.index, Notify: notify})
	}
}

// joins reports whether something can lead from one vertex to another on this host.
func (g *Graph) joins(what string, from, to *Vertex) bool {
	for _, v := range []*Vertex{from, to} {
		switch {
		case v == nil:
			g.problems = append(g.problems, Problem{File: g.File, Message: what + " has no vertex at one end", Hint: "connect what Add has returned"})
			return false
		case v.Exported:
			return false
		case int(v.index) >= len(g.Vertices) || g.Vertices[v.index] != v:
			g.problems = append(g.problems, Problem{File: g.File, Message: what + " leads to " + v.String() + ", which belongs to another graph", Hint: "connect what Add of this graph has returned"})
			return false
		}
	}
	return true
}
