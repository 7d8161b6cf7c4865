package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/control"
	"github.com/mgmtproject/mgmt/pipeline"
)

// onScreen is how many resources of a sort are shown to people.
const onScreen = 10

func statusCommand(p Program) *cobra.Command {
	var t target
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status [FLAGS]",
		Short: "Show how a run is: what has failed, and what that holds back",
		Long: `Show how a mgmt run that goes on is: how many resources are right, and which have failed, are
blocked by one that has, wait for a value that was not sent, are undone again and again by
something else, or are pending, that is: they run, will be tried again, or wait for their turn.
Of each sort the first 10 are shown, with --json the first 1000.

With a single run on this host that is the one; of several, say which with --file. A run can be
asked by the user that it belongs to and by root, unless it was started with --noop.

Exit status:
    0  nothing has failed, is blocked or waits for a value; something may be pending
    1  something has, is or does; or no run was found
    2  a mistake in the arguments`,
		Example: `  mgmt status
  mgmt status --file graph.yaml
  mgmt status --json | jq -r '.failed[] | .resource + ": " + .error'`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args:              noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := t.client(cmd.Context())
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(p.Out, s)
			} else {
				err = writeStatus(p.Out, s, time.Now())
			}
			if err == nil && !s.Well() {
				return exitStatus(exitFailed)
			}
			return err
		},
	}
	t.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the answer as a JSON document; docs/control.md describes it")
	return cmd
}

func writeJSON(w io.Writer, value any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(value)
}

// sheet is text for a screen in the making. What can't be printed is escaped.
type sheet struct{ strings.Builder }

func (s *sheet) line(format string, args ...any) {
	s.WriteString(console.Line(fmt.Sprintf(format, args...)))
	s.WriteByte('\n')
}

// columns writes rows of two columns below a heading, if there are any; more says how
// many there are beside them.
func (s *sheet) columns(heading string, rows [][2]string, more int) {
	if len(rows) == 0 {
		return
	}
	s.WriteByte('\n')
	s.line("%s", heading)
	width := 0
	for _, r := range rows {
		width = max(width, len(console.Line(r[0])))
	}
	width = min(width, 40)
	for _, r := range rows {
		s.line("  %s", strings.TrimRight(fmt.Sprintf("%-*s  %s", width, console.Line(r[0]), r[1]), " "))
	}
	if more > 0 {
		s.line("  and %d more", more)
	}
}

func writeStatus(w io.Writer, st control.Status, now time.Time) error {
	var s sheet
	s.line("%s (pid %d) keeps %s, begun %s", st.Program, st.PID, st.File, ago(st.Began, now))
	if !st.Loaded {
		s.line("no graph is loaded yet")
		_, err := io.WriteString(w, s.String())
		return err
	}
	c := st.Counts
	state := "not converged"
	if st.Converged {
		state = "converged"
	}
	s.line("graph %s, loaded %s: %s, %s; %s", st.Graph, ago(st.Since, now), counted(c.Resources, "resource"), counted(st.Edges, "edge"), state)
	s.line("%s", totals(c))
	for _, sort := range []struct {
		name  string
		list  []pipeline.ResourceStatus
		count int
	}{
		{"failed", st.Failed, c.Failed}, {"blocked", st.Blocked, c.Blocked}, {"waiting for a value", st.Waiting, c.Waiting},
		{"flapping", st.Flapping, c.Flapping}, {"pending", st.Pending, c.Pending}, {"not changed, as asked for", st.Differs, c.Differs},
	} {
		var rows [][2]string
		for _, r := range sort.list[:min(onScreen, len(sort.list))] {
			about := plight(r, now)
			if sort.name == "flapping" {
				about = flaps(r.Flapping, now)
			}
			if r.Undo {
				about = strings.TrimSuffix("to be undone: "+about, ": ")
			}
			rows = append(rows, [2]string{r.Resource, about})
		}
		s.columns(sort.name, rows, sort.count-len(rows))
	}
	var gone [][2]string
	for _, text := range st.Gone {
		gone = append(gone, [2]string{text})
	}
	s.columns("not in the graph any more, and failed", gone, 0)
	_, err := io.WriteString(w, s.String())
	return err
}

// totals counts how the resources are.
func totals(c pipeline.Counts) string {
	parts := []string{fmt.Sprintf("%d right", c.Right)}
	for _, part := range []struct {
		n    int
		what string
	}{
		{c.Failed, "failed"}, {c.Blocked, "blocked"}, {c.Waiting, "waiting"}, {c.Pending, "pending"}, {c.Differs, "not changed"}, {c.Hidden, "hidden"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	text := strings.Join(parts, ", ")
	if c.Flapping > 0 {
		text += fmt.Sprintf("; %d flapping", c.Flapping)
	}
	return text + fmt.Sprintf("; %s changed so far", counted(c.Changed, "resource"))
}

// plight says what there is to know of a resource that is not right.
func plight(r pipeline.ResourceStatus, now time.Time) string {
	switch r.State {
	case "failed":
		return r.Error + lately(r.Last, now)
	case "retrying":
		return "tried again " + until(r.RetryAt, now) + ": " + r.Error
	case "blocked":
		return "by " + r.By
	case "waiting":
		return "for " + r.Output + " of " + r.By
	case "running":
		return "runs now"
	case "differs":
		if r.Last != nil && len(r.Last.Changes) > 0 {
			return r.Last.Changes[0].String()
		}
	}
	return ""
}

// lately says when and why a resource ran.
func lately(l *pipeline.LastRun, now time.Time) string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf("  (%s, by %s)", ago(l.Began, now), l.Cause)
}

func flaps(f *pipeline.FlappingStatus, now time.Time) string {
	text := fmt.Sprintf("undone and repaired %d times, lately by %s", f.Count, f.Cause)
	if f.Until.After(now) {
		text += "; rests " + strings.TrimPrefix(until(f.Until, now), "in ") + " more"
	}
	return text
}

// ago is a time in the past as people are told it.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d < time.Second:
		return "just now"
	case d < 48*time.Hour:
		return console.Round(d).Truncate(time.Second).String() + " ago"
	}
	return t.Local().Format(time.DateTime)
}

// until is a time in the future as people are told it.
func until(t, now time.Time) string {
	if d := t.Sub(now); d > 0 {
		return "in " + console.Round(d).String()
	}
	return "now"
}
