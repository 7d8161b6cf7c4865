package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	allsinks "github.com/mgmtproject/mgmt/sinks/all"
)

// stdinName is how arguments call standard input.
const stdinName = "-"

// compile turns the text of a graph file into a graph that could be run. The error is
// pipeline.Problems.
func compile(name string, text []byte, reg *sinks.Registry, opts sinks.Options) (*pipeline.Graph, error) {
	g, err := pipeline.Load(name, text, reg)
	if err == nil {
		err = g.Compile(opts)
	}
	if err != nil {
		return nil, err
	}
	return g, nil
}

// open reads and compiles a file that is named on the command line.
func open(p Program, path string) (*pipeline.Graph, error) {
	reg, err := sinks.NewRegistry(allsinks.Specs...)
	if err != nil {
		return nil, err
	}
	var text []byte
	if path == stdinName {
		text, err = io.ReadAll(p.In)
		path = "standard input"
	} else {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	return compile(path, text, reg, sinks.Options{})
}

// complain lists what is wrong with a file, and returns the error to end with.
func complain(p Program, cmd *cobra.Command, err error) error {
	for _, line := range problemLines(cmd.CommandPath()+": ", err) {
		fmt.Fprintln(p.Err, line)
	}
	return exitStatus(exitUsage)
}

func validateCommand(p Program) *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE...",
		Short: "Find the mistakes in graph files, and touch nothing",
		Long: `Check graph files as mgmt run would, without touching the host. All mistakes of all
files are listed on standard error, with file, line and column; a file without any gets
a line on standard output. Automatic edges that are left out, since others lead the other
way, are noted on standard error. The file - is standard input.

Exit status:
    0  there are no mistakes
    2  there are, or a file can't be read`,
		Example: `  mgmt validate graph.yaml
  mgmt validate graphs/*.yaml && git commit graphs`,
		ValidArgsFunction: files,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which graph file? Name at least one")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var wrong error
			for _, path := range args {
				g, err := open(p, path)
				if err != nil {
					wrong = complain(p, cmd, err)
					continue
				}
				if _, err := fmt.Fprintf(p.Out, "%s: ok, %s, %s\n", path, counted(len(g.Vertices)+len(g.Exports), "resource"), edges(g)); err != nil {
					return err
				}
				note(p, g)
			}
			return wrong
		},
	}
}

// edges counts those of a graph: 3 edges, 2 of them automatic.
func edges(g *pipeline.Graph) string {
	automatic := 0
	for _, e := range g.Edges {
		if e.Automatic() {
			automatic++
		}
	}
	text := counted(len(g.Edges), "edge")
	switch {
	case automatic == 0:
		return text
	case automatic == len(g.Edges):
		return text + ", automatic"
	}
	return fmt.Sprintf("%s, %d of them automatic", text, automatic)
}

// maxNotes is how many notes about a graph are printed.
const maxNotes = 50

// note prints what there is to say about a graph that is in order.
func note(p Program, g *pipeline.Graph) {
	for i, n := range g.Notes {
		if i == maxNotes {
			fmt.Fprintf(p.Err, "and %d more\n", len(g.Notes)-i)
			return
		}
		fmt.Fprintln(p.Err, console.Line(pipeline.Problem{File: g.File, Pos: n.Pos, Message: "note: " + n.Text}.Error()))
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func graphCommand(p Program) *cobra.Command {
	format := choice{value: "dot", among: []string{"dot", "svg"}}
	cmd := &cobra.Command{
		Use:   "graph FILE",
		Short: "Draw the graph of a graph file",
		Long: `Draw the resources of a graph file and their edges on standard output: in the language
of Graphviz, or with --format svg as a picture, which needs the program dot of Graphviz.
A bold arrow notifies, a dashed one is automatic, with the reason as its tooltip. What is
sent along an arrow is written at it. A dotted box is hidden, a dashed one is exported.
The file - is standard input.

Exit status:
    0  the graph is drawn
    1  it can't be drawn
    2  the file has mistakes, or can't be read`,
		Example: `  mgmt graph graph.yaml | dot -Tpng >graph.png
  mgmt graph graph.yaml --format svg >graph.svg`,
		ValidArgsFunction: files,
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("which graph file? Name one")
			case 1:
				return nil
			}
			return usagef("unexpected argument %q; one graph is drawn at a time", args[1])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := open(p, args[0])
			if err != nil {
				return complain(p, cmd, err)
			}
			note(p, g)
			return draw(cmd.Context(), p.Out, g, format.value)
		},
	}
	cmd.Flags().Var(&format, "format", "draw as `FORMAT`: dot, svg")
	complete(cmd, "format", format.among...)
	return cmd
}

func draw(ctx context.Context, w io.Writer, g *pipeline.Graph, format string) error {
	picture := []byte(g.DOT())
	if format == "svg" {
		var err error
		if picture, err = pipeline.SVG(ctx, string(picture)); err != nil {
			return err
		}
	}
	_, err := w.Write(picture)
	return err
}
