package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/emicklei/dot"
)

// DOT draws the graph in the language of Graphviz. A bold arrow notifies, a dashed one is
// automatic. A dotted box is hidden, a dashed one is published for other hosts and not
// applied on this one. What is sent along an arrow is written at it: the output and the
// parameter, never a value.
func (g *Graph) DOT() string {
	d := dot.NewGraph(dot.Directed)
	if g.Name != "" {
		d.Label(g.Name).Attr("labelloc", "t")
	}
	d.Attr("fontname", "sans-serif")
	box := func(id, label string, attrs ...any) dot.Node {
		n := d.Node(id).Label(label).Box()
		n.Attrs(append([]any{"fontname", "sans-serif", "style", "rounded"}, attrs...)...)
		return n
	}
	nodes := make([]dot.Node, len(g.Vertices))
	for i, v := range g.Vertices {
		// The library orders nodes by their id, so this keeps the order of the graph.
		id := fmt.Sprintf("v%09d", i)
		if v.Meta != nil && v.Meta.Hidden {
			nodes[i] = box(id, v.String(), "style", "rounded,dotted", "color", "gray50", "fontcolor", "gray50")
		} else {
			nodes[i] = box(id, v.String())
		}
	}
	for i, v := range g.Exports {
		box(fmt.Sprintf("x%09d", i), v.String(), "style", "rounded,dashed")
	}
	sent := g.sent()
	for _, e := range g.Edges {
		edge := d.Edge(nodes[e.From], nodes[e.To])
		if e.Notify {
			edge.Bold().Attr("color", "#b03a2e").Attr("tooltip", "notifies")
		}
		if e.Automatic() {
			edge.Dashed().Attr("color", "gray40").Attr("tooltip", "after "+g.Vertices[e.From].String()+", "+e.Why)
		}
		label := sent[[2]int32{e.From, e.To}]
		if e.Name != "" {
			label = append([]string{e.Name}, label...)
		}
		if len(label) > 0 {
			edge.Label(strings.Join(label, "\n")).Attr("fontname", "sans-serif").Attr("fontsize", 10)
		}
	}
	return d.String()
}

// sent says what is sent from one vertex to another.
func (g *Graph) sent() map[[2]int32][]string {
	sent := make(map[[2]int32][]string, len(g.Links))
	for _, l := range g.Links {
		to := l.Param
		if l.Key != "" {
			to += "." + l.Key
		}
		ends := [2]int32{l.From, l.To}
		sent[ends] = append(sent[ends], l.Output+" -> "+to)
	}
	return sent
}

// SVG turns what DOT returns into a picture, by the program dot of Graphviz. The error
// wraps exec.ErrNotFound if there is no such program.
func SVG(ctx context.Context, graph string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "dot", "-Tsvg")
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(graph)
	var picture, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &picture, &complaint
	err := cmd.Run()
	switch {
	case err == nil:
		return picture.Bytes(), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("the program dot, which draws SVG, is not installed; install graphviz, or write DOT instead: %w", exec.ErrNotFound)
	}
	if line, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n"); line != "" {
		return nil, fmt.Errorf("drawing the graph with dot: %w: %s", err, line)
	}
	return nil, fmt.Errorf("drawing the graph with dot: %w", err)
}
