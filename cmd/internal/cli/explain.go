package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/control"
	"github.com/mgmtproject/mgmt/cmd/internal/instance"
	"github.com/mgmtproject/mgmt/pipeline"
)

// explanation is what is printed of a resource.
type explanation struct {
	control.Explanation
	Plan *planStep `json:"plan,omitempty"`

	step *pipeline.Step // the same as Plan
	note string         // why there is no Now, if a run keeps the file
}

func explainCommand(p Program) *cobra.Command {
	var t target
	asJSON := false
	cmd := &cobra.Command{
		Use:   "explain [FILE] RESOURCE [FLAGS]",
		Short: "Show what a resource is, what it waits for and why, and how it is",
		Long: `Show what there is to know of a resource, such as 'file[/etc/motd]': its parameters after
defaults, the meta-parameters that are not the default, what has to be done before it and why
(declared, added automatically, or since a value is sent), what comes after it, and what it
watches. What is secret is not shown.

With a graph file it also says what mgmt plan would say of the resource, and, if a run on this
host keeps that file, how the resource is in the run: its last check with cause, duration and
result. Nothing is changed. Without a graph file a run is asked alone. With a single run on this
host that is the one; of several, say which with --file.

Exit status:
    0  it is explained, however it is
    1  there is no such resource, or no run was found
    2  a mistake in the arguments or in the graph file`,
		Example: `  mgmt explain graph.yaml 'file[/etc/motd]'
  mgmt explain 'exec[update]'
  mgmt explain graph.yaml 'svc[nginx]' --json | jq '.after'`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return files(cmd, args, word)
			case 1:
				return resources(p, args[0])
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("which resource? Name a graph file and one of its resources")
			case 1:
				if _, err := os.Stat(args[0]); err == nil && slices.Contains(graphExtensions, strings.TrimPrefix(filepath.Ext(args[0]), ".")) {
					return usagef("which resource of %s? Name it, as in 'file[/etc/motd]'", args[0])
				}
			case 2:
				if t.file != "" || t.socket != "" {
					return usagef("the graph file %s says which run, so there is no need of --file and --socket", args[0])
				}
			default:
				return usagef("unexpected argument %q; one resource is explained at a time", args[2])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var x explanation
			var err error
			if len(args) == 1 {
				var c *control.Client
				if c, _, err = t.client(cmd.Context()); err == nil {
					x.Explanation, err = c.Explain(cmd.Context(), args[0])
				}
			} else {
				x, err = t.explainFile(cmd, p, args[0], args[1])
			}
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(p.Out, x)
			}
			return writeExplanation(p.Out, x, time.Now())
		},
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the explanation as a JSON document; docs/control.md describes it")
	return cmd
}

// explainFile explains a resource of a graph file.
func (t *target) explainFile(cmd *cobra.Command, p Program, file, resource string) (explanation, error) {
	opts := planOptions{prefix: t.prefix, host: t.host}
	build, left, err := opts.earlier(file)
	if err != nil {
		return explanation{}, err
	}
	g, err := opts.open(p, file, build)
	if err != nil {
		return explanation{}, complain(p, cmd, err)
	}
	v, err := g.Lookup(resource)
	if err != nil {
		return explanation{}, fmt.Errorf("%s: %w", file, err)
	}
	x := explanation{Explanation: control.Explanation{Version: control.Version, Explanation: pipeline.Explain(g, v)}}
	step, err := pipeline.Foresee(cmd.Context(), g, v, pipeline.PlanOptions{State: left})
	if err != nil {
		return explanation{}, err
	}
	plan := planned(step)
	x.Plan, x.step = &plan, &step
	x.Now, x.note = t.whileRunning(cmd.Context(), file, v.String())
	return x, nil
}

// whileRunning asks the run that keeps a graph file, if there is one, how a resource is.
func (t *target) whileRunning(ctx context.Context, file, resource string) (*pipeline.ResourceStatus, string) {
	dir, _, err := t.prefix.choose()
	if err != nil {
		return nil, ""
	}
	place, err := instance.At(dir, file)
	if place = place.For(t.host.String()); err != nil || !place.Held() {
		return nil, ""
	}
	x, err := clientOf(ctx, place).Explain(ctx, resource)
	if _, refused := errors.AsType[*control.RefusedError](err); refused {
		return nil, "a run keeps this file, but has not put this resource in force"
	} else if err != nil {
		return nil, "a run keeps this file, but does not answer: " + err.Error()
	}
	return x.Now, ""
}

func writeExplanation(w io.Writer, x explanation, now time.Time) error {
	var s sheet
	where := ""
	switch {
	case x.Host != "":
		where = fmt.Sprintf("  (exported by %s)", x.Host)
	case x.Line > 0:
		where = fmt.Sprintf("  (%s:%d)", x.File, x.Line)
	}
	s.line("%s%s", x.Resource, where)
	if x.Hidden {
		s.line("hidden: it is never run on this host")
	}
	if x.Undo {
		s.line("it has left the graph, and is undone")
	}
	given, absent := parameterRows(x.Params)
	if len(absent) > 0 {
		given = append(given, [2]string{"not given", strings.Join(absent, ", ")})
	}
	s.columns("parameters", given, 0)
	meta, _ := parameterRows(x.Meta)
	s.columns("meta-parameters", meta, 0)
	s.columns("comes after "+inAll(len(x.After), x.AllAfter), relationRows(x.After), 0)
	s.columns("comes before "+inAll(len(x.Before), x.AllBefore), relationRows(x.Before), 0)
	var watches [][2]string
	for _, watch := range x.Watches {
		watches = append(watches, [2]string{watch.Source, watch.Watch})
	}
	s.columns("watches", watches, 0)
	if x.step != nil {
		s.columns("plan", [][2]string{{planText(*x.step), ""}}, 0)
	}
	s.columns("in the run", nowRows(x, now), 0)
	_, err := io.WriteString(w, s.String())
	return err
}

// inAll counts neighbours and those behind them.
func inAll(near, all int) string {
	if near == all {
		return counted(all, "resource")
	}
	return fmt.Sprintf("%s, and through them %d more", counted(near, "resource"), all-near)
}

// parameterRows splits parameters into those with a value and the names of the others.
func parameterRows(list []pipeline.ExplainedParam) (given [][2]string, absent []string) {
	for _, p := range list {
		value := valueText(p.Value)
		switch {
		case p.From != "":
			value = "sent by " + p.From + ", its " + p.Output
			if p.Secret {
				value += ", which is secret"
			}
			if p.Key != "" {
				p.Name += "." + p.Key
			}
		case value == "":
			absent = append(absent, p.Name)
			continue
		}
		given = append(given, [2]string{p.Name, value})
	}
	return given, absent
}

// valueText is a value on a line; empty for none.
func valueText(value any) string {
	const most = 200
	if s, ok := value.(string); ok && (s == "" || !strings.ContainsAny(s, "\n\t\" ")) {
		return s
	}
	if value == nil {
		return ""
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if len(text) <= most {
		return text
	}
	cut := most
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%s ... (%d bytes more)", text[:cut], len(text)-cut)
}

func relationRows(list []pipeline.Relation) [][2]string {
	var rows [][2]string
	for _, r := range list {
		var why []string
		if r.Declared {
			text := "declared"
			if r.Line > 0 {
				text += fmt.Sprintf(" in line %d", r.Line)
			}
			if r.Name != "" {
				text += " as " + r.Name
			}
			why = append(why, text)
		}
		if r.Why != "" {
			why = append(why, "automatic: "+r.Why)
		}
		for _, l := range r.Sends {
			param := l.Param
			if l.Key != "" {
				param += "." + l.Key
			}
			why = append(why, "sends "+l.Output+" to "+param)
		}
		if r.Notify {
			why = append(why, "notifies")
		}
		rows = append(rows, [2]string{r.Resource, strings.Join(why, "; ")})
	}
	return rows
}

// planText is what plan says of a resource, on a line.
func planText(s pipeline.Step) string {
	var changes []string
	for _, c := range s.Outcome.Changes {
		changes = append(changes, c.Shown().String())
	}
	what := strings.Join(changes, ", ")
	if s.Refresh && s.Outcome.Changed {
		what += " (notified)"
	}
	switch s.State {
	case pipeline.StepRight:
		return "all is as desired"
	case pipeline.StepChange:
		return "would change " + what
	case pipeline.StepRun:
		return "would run " + what
	case pipeline.StepNoop:
		return "not changed, as meta.noop asks: " + what
	case pipeline.StepWaiting:
		return "would wait for what " + s.By.String() + " does not send"
	case pipeline.StepBlocked:
		return "would be blocked, because " + s.By.String() + " would fail"
	case pipeline.StepAfter:
		var names []string
		for _, v := range s.After {
			names = append(names, v.String())
		}
		return "can be said only after " + strings.Join(names, ", ")
	}
	if s.Err != nil {
		return "would fail: " + console.Describe(s.Err)
	}
	return string(s.State)
}

// nowRows say how the resource is in the run.
func nowRows(x explanation, now time.Time) [][2]string {
	r := x.Now
	if r == nil {
		if x.note == "" {
			return nil
		}
		return [][2]string{{x.note, ""}}
	}
	rows := [][2]string{{"is", strings.TrimSuffix(r.State+": "+plight(*r, now), ": ")}}
	if l := r.Last; l != nil {
		rows = append(rows,
			[2]string{"last run", ago(l.Began, now) + ", in " + console.Round(l.Took()).String()},
			[2]string{"cause", l.Cause.String()})
		result := "nothing to change"
		switch {
		case l.Changed && l.Noop:
			result = "would change"
		case l.Changed:
			result = "changed"
		}
		if r.Error != "" {
			result = "failed: " + r.Error
		}
		for i, c := range l.Changes {
			result += []string{": ", ", "}[min(i, 1)] + c.String()
		}
		if l.Batch > 0 {
			result += fmt.Sprintf(" (together with %d others)", l.Batch-1)
		}
		rows = append(rows, [2]string{"result", result})
	}
	rows = append(rows, [2]string{"changed", counted(r.Repairs, "time") + " in this run"})
	if r.Flapping != nil {
		rows = append(rows, [2]string{"flapping", flaps(r.Flapping, now)})
	}
	return rows
}
