package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/exec"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/streams"
)

// A graph is composed, brought to the host, and the run ends when all is right.
func ExampleRun() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	g := &pipeline.Graph{Name: "web"}
	conf := g.Add("file", filepath.Join(dir, "app.conf"), &file.Config{Content: new("port = 80\n")})
	reload := g.Add("exec", "reload", &exec.Config{Cmd: "true"}, func(m *pipeline.Meta) { m.Retry, m.Delay = 3, time.Second })
	g.Connect(conf, reload, true)
	if err := g.Compile(sinks.Options{}); err != nil {
		panic(err)
	}
	run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{Sources: all.New(nil), ConvergedExit: true})
	for r, err := range run.Seq(context.Background()) {
		switch {
		case err != nil:
			panic(err)
		case r.Kind == pipeline.Finished && r.Outcome.Changed:
			fmt.Println(r.Vertex.Kind, "changed", r.Outcome.Changes)
		case r.Kind == pipeline.Converged:
			fmt.Println("converged")
		}
	}
	// Output:
	// file changed [state: absent -> exists content: "" -> "port = 80\n"]
	// exec changed [cmd: (not run) -> true]
	// converged
}

// A graph that comes later takes the place of the one before: what is the same goes on
// undisturbed. A broken one is reported and changes nothing.
func ExampleRun_update() {
	version := func(commands ...string) pipeline.Update {
		g := &pipeline.Graph{}
		for _, c := range commands {
			g.Add("exec", c, &exec.Config{Cmd: c})
		}
		return pipeline.Update{Graph: g, Err: g.Compile(sinks.Options{})}
	}
	next := []pipeline.Update{version("true", "sleep 0"), version("sleep 0", "echo"), {Err: errors.New("there is a mistake in it")}}
	updates := make(chan pipeline.Update, 1)
	follow := func() {
		updates <- next[0]
		next = next[1:]
	}
	follow()
	run := pipeline.Run(streams.FromChan(updates), pipeline.Options{})
	for r, err := range run.Seq(context.Background()) {
		switch r.Kind {
		case pipeline.GraphSwapped:
			fmt.Printf("%+v\n", r.Swap)
		case pipeline.Finished:
			if len(next) == 1 {
				fmt.Println("new:", r.Vertex)
			}
		case pipeline.Converged:
			follow()
		case pipeline.GraphRejected:
			fmt.Println("rejected:", r.Err)
			return
		}
		if err != nil {
			panic(err)
		}
	}
	// Output:
	// {Added:2 Changed:0 Removed:0 Kept:0}
	// {Added:1 Changed:0 Removed:1 Kept:1}
	// new: exec[echo]
	// rejected: there is a mistake in it
}

// Status tells what a run has come to.
func ExampleStatus() {
	g := &pipeline.Graph{}
	broken := g.Add("exec", "broken", &exec.Config{Cmd: "false"})
	g.Connect(broken, g.Add("exec", "behind it", &exec.Config{Cmd: "true"}), false)
	g.Add("exec", "beside it", &exec.Config{Cmd: "true"})
	if err := g.Compile(sinks.Options{}); err != nil {
		panic(err)
	}
	var status pipeline.Status
	run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{ConvergedExit: true})
	err := run.Subscribe(context.Background(), func(r pipeline.Result) bool {
		status.Observe(r)
		return true
	})
	fmt.Println("converged:", status.Converged, err)
	for _, failure := range status.Failures() {
		fmt.Println(failure)
	}
	// Output:
	// converged: true <nil>
	// exec[broken]: cmd "false" exited with status 1
	// exec[behind it]: not run, because exec[broken] has failed
}

// With Noop, or the meta-parameter of that name, nothing is changed.
func ExampleResult() {
	g := &pipeline.Graph{}
	g.Add("file", "/no-such-directory/motd", &file.Config{Content: new("be nice\n")})
	if err := g.Compile(sinks.Options{}); err != nil {
		panic(err)
	}
	run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{Sources: all.New(nil), Noop: true, ConvergedExit: true})
	for r, err := range run.Seq(context.Background()) {
		if err != nil {
			panic(err)
		}
		if r.Kind == pipeline.Finished {
			fmt.Println(r.Vertex, "because of", r.Cause)
			fmt.Println("would change:", r.Noop, r.Outcome.Changes)
		}
	}
	// Output:
	// file[/no-such-directory/motd] because of swap
	// would change: true [state: absent -> exists content: "" -> "be nice\n"]
}

// The problems of a file have their places.
func ExampleProblems() {
	_, err := pipeline.Load("graph.yaml", []byte("graph: web\nresources:\n  svc:\n  - nmae: nginx\n"), kinds)
	if problems, ok := errors.AsType[pipeline.Problems](err); ok {
		for _, p := range problems {
			fmt.Printf("line %d, column %d: %s (%s)\n", p.Pos.Line, p.Pos.Column, p.Message, p.Hint)
		}
	}
	// Output: line 4, column 5: unknown parameter "nmae" of svc (did you mean "name"?)
}

func ExampleMeta_Validate() {
	m := pipeline.DefaultMeta()
	m.Retry = -2
	fmt.Println(m.Validate())
	// Output: retry: -2 is too small, expected a number of attempts, or -1 for ever
}

func ExampleGraph_Order() {
	g := &pipeline.Graph{}
	c := g.Add("file", "/srv/c", &fileConfig{})
	b := g.Add("file", "/srv/b", &fileConfig{})
	a := g.Add("file", "/srv/a", &fileConfig{})
	g.Connect(a, b, false)
	g.Connect(b, c, false)
	for _, i := range g.Order() {
		fmt.Println(g.Vertices[i])
	}
	// Output:
	// file[/srv/a]
	// file[/srv/b]
	// file[/srv/c]
}
