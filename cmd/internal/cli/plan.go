package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/instance"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/pipeline/state"
	"github.com/mgmtproject/mgmt/sinks"
	allsinks "github.com/mgmtproject/mgmt/sinks/all"
)

// exitChanges is the exit status of a plan that has something to do.
const exitChanges = 2

// planName is the name of the command, which has exit statuses of its own.
const planName = "plan"

// planOptions are the flags of mgmt plan.
type planOptions struct {
	prefix  directory
	host    mesh.Host
	json    bool
	noColor bool
}

func planCommand(p Program) *cobra.Command {
	var opts planOptions
	cmd := &cobra.Command{
		Use:   planName + " FILE [FLAGS]",
		Short: "Show what a run would change, and change nothing",
		Long: `Show what mgmt run would do with a graph file: each resource that is not as desired, with
the difference, in an order in which a run could take them, and a line of totals.

Nothing is changed, not even the time at which a file was last read, as far as mgmt may ask
for that: it must own the file, or be root, and reading through a symbolic link marks the link.
No command of an exec runs but its ifcmd and nifcmd, and these only with meta.safe: true, by
which the graph promises that they have no effect. Otherwise what they would decide is shown as
"would run". What needs a server may ask it.

A resource that depends on something that is not there yet, and that others of the graph would
bring about, is shown as "later", after those. What fails for no such reason would fail in a run.
A notification that an earlier run has not delivered yet is taken into account, as is what it
would undo since the graph no longer has it. The file - is standard input.

Exit status:
    0  there is nothing to do
    1  a resource would fail; or a mistake in the arguments or in the graph file
    2  something would be changed, or a command run
   70  a fault of mgmt itself`,
		Example: `  mgmt plan graph.yaml
  mgmt plan graph.yaml >plan.txt; test $? -ne 1 && mail -s changes admin <plan.txt
  mgmt plan graph.yaml --json | jq -r '.steps[] | select(.state == "change") | .resource'`,
		ValidArgsFunction: files,
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("which graph file? Name one")
			case 1:
				return nil
			}
			return usagef("unexpected argument %q; one graph is planned at a time", args[1])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return opts.plan(ctx, p, cmd, args[0])
		},
	}
	prefixFlag(cmd, &opts.prefix, "look below `DIR` for what earlier runs have left to do")
	cmd.Flags().Var(&opts.host, "hostname", "plan for the host that has the name `NAME` in a mesh, if it is given one")
	cmd.Flags().BoolVar(&opts.json, "json", false, "write the plan as a JSON document; docs/plan.md describes it")
	cmd.Flags().BoolVar(&opts.noColor, "no-color", false, "write without colours, as if NO_COLOR were set; they are used on a terminal only")
	return cmd
}

// usageStatus is the exit status for a mistake in the arguments.
func usageStatus(cmd *cobra.Command) int {
	if cmd.Name() == planName {
		return exitFailed // 2 means something else
	}
	return exitUsage
}

func (o *planOptions) plan(ctx context.Context, p Program, cmd *cobra.Command, file string) error {
	reg, err := sinks.NewRegistry(allsinks.Specs...)
	if err != nil {
		return err
	}
	build, left, err := o.earlier(file)
	if err != nil {
		return err
	}
	g, err := o.open(p, file, build)
	if err != nil {
		_ = complain(p, cmd, err) // whose status is that of other commands
		return exitStatus(exitFailed)
	}
	f, err := pipeline.Plan(ctx, g, pipeline.PlanOptions{State: left, Kinds: reg})
	if err != nil {
		return err
	}
	if o.json {
		err = writePlanJSON(p.Out, file, g.Name, f)
	} else {
		err = console.WritePlan(p.Out, f, !o.noColor && colors(p.Out))
	}
	switch {
	case err != nil:
		return err
	case f.Fails():
		return exitStatus(exitFailed)
	case f.Changes():
		return exitStatus(exitChanges)
	}
	return nil
}

// built is what resources are built with, and the directory of what earlier runs have kept;
// "" if there is none.
type built struct {
	sinks.Options
	dir string
}

// earlier is what resources are built with, and what earlier runs of the graph file have
// left to do; nil if that can't be known, as while another run is under way.
func (o *planOptions) earlier(file string) (built, pipeline.State, error) {
	build := built{Options: sinks.Options{Shared: &sinks.Shared{}}}
	prefix, asked, err := o.prefix.choose()
	if err != nil {
		return build, nil, nil //nolint:nilerr // then nothing is kept by a run, either
	}
	place, err := instance.At(prefix, file)
	if err != nil {
		return build, nil, err
	}
	place = place.For(o.host.String())
	build.Dir, build.dir = place.Kinds(), place.Dir
	if place.Held() {
		return build, nil, nil
	}
	saved, err := state.Peek(place.Dir)
	switch {
	case err == nil:
		return build, frozen(saved), nil
	case asked || !errors.Is(err, fs.ErrPermission):
		return build, nil, err
	}
	return build, nil, nil
}

// open reads and compiles a file, with what the last run of it has collected.
func (o *planOptions) open(p Program, file string, build built) (*pipeline.Graph, error) {
	g, err := openQuietly(p, file, build.Options)
	if err != nil || build.dir == "" || len(g.Collect) == 0 {
		return g, err
	}
	reg, err := sinks.NewRegistry(allsinks.Specs...)
	if err != nil {
		return nil, err
	}
	host := mesh.Settings{Host: o.host}
	return pipeline.NewExchange(pipeline.ExchangeOptions{Host: host.Name(), Kinds: reg, Dir: build.dir}).Known(g)
}

// openQuietly reads and compiles a file without a trace in its access time, if we may ask
// for that.
func openQuietly(p Program, path string, opts sinks.Options) (*pipeline.Graph, error) {
	reg, err := sinks.NewRegistry(allsinks.Specs...)
	if err != nil {
		return nil, err
	}
	if path == stdinName {
		text, err := io.ReadAll(p.In)
		if err != nil {
			return nil, err
		}
		return compile("standard input", text, reg, opts)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOATIME, 0)
	if errors.Is(err, syscall.EPERM) {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return compile(path, text, reg, opts)
}

// colors says whether w is a terminal whose user wants colours.
func colors(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

// planDocument is a plan in JSON, as docs/plan.md describes it.
type planDocument struct {
	Plan    string         `json:"plan"`
	Version int            `json:"version"`
	File    string         `json:"file"`
	Graph   string         `json:"graph"`
	Steps   []planStep     `json:"steps"`
	Totals  map[string]int `json:"totals"`
}

type planStep struct {
	Resource string         `json:"resource"`
	State    string         `json:"state"`
	Notified bool           `json:"notified,omitempty"`
	Changes  []sinks.Change `json:"changes,omitempty"`
	After    []string       `json:"after,omitempty"`
	By       string         `json:"by,omitempty"`
	Error    string         `json:"error,omitempty"`
}

func writePlanJSON(w io.Writer, file, graph string, f pipeline.Forecast) error {
	doc := planDocument{Plan: "mgmt-plan", Version: 1, File: file, Graph: graph, Steps: make([]planStep, 0, len(f.Steps)), Totals: map[string]int{}}
	for _, s := range pipeline.StepStates {
		doc.Totals[string(s)] = f.Count(s)
	}
	for _, s := range f.Steps {
		doc.Steps = append(doc.Steps, planned(s))
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(doc)
}

// planned is a step in JSON.
func planned(s pipeline.Step) planStep {
	step := planStep{Resource: s.Ref(), State: string(s.State), Notified: s.Refresh && s.Outcome.Changed}
	for _, c := range s.Outcome.Changes {
		step.Changes = append(step.Changes, c.Shown())
	}
	for _, v := range s.After {
		step.After = append(step.After, v.String())
	}
	if s.By != nil {
		step.By = s.By.String()
	}
	if s.Err != nil {
		step.Error = console.Describe(s.Err)
	}
	return step
}
