package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/control"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

func tapCommand(p Program) *cobra.Command {
	var t target
	var limit count
	asJSON := false
	cmd := &cobra.Command{
		Use:   "tap [RESOURCE] [FLAGS]",
		Short: "Show what a run does, as it happens",
		Long: `Show what happens in a mgmt run that goes on, from now on: events, checks with their causes and
what they change, failures, and what is held back. With a resource, such as 'file[/etc/motd]',
only what concerns that one. With --json the lines are those of the event stream, which
docs/events.md describes. It goes on until the run ends or it is interrupted.

The run does not wait for a reader who is slow: events are dropped then, and counted. That of a
run with --converged-timeout tells of no events and no starts, unless it logs at level debug.

With a single run on this host that is the one; of several, say which with --file. A run can be
asked by the user that it belongs to and by root, unless it was started with --noop.

Exit status:
    0  the run has ended, or --limit was reached
    1  no run was found, it has no such resource, or it was killed
    2  a mistake in the arguments
  130  interrupted by SIGINT; 143 by SIGTERM`,
		Example: `  mgmt tap
  mgmt tap 'file[/etc/motd]' --limit 10
  mgmt tap --json | jq -c 'select(.changed)'`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			_, file, err := t.client(cmd.Context())
			if err != nil || file == "" || file == stdinName {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return resources(p, file)
		},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("unexpected argument %q; name one resource, or none for all", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := t.client(cmd.Context())
			if err != nil {
				return err
			}
			s, err := c.Tap(cmd.Context(), strings.Join(args, ""), int(limit))
			if err != nil {
				return err
			}
			defer s.Close()
			show := func(line []byte) error { _, err := p.Out.Write(line); return err }
			if !asJSON {
				show = follow(console.NewText(p.Out, console.Options{Level: slog.LevelDebug, Color: colors(p.Out)}))
			}
			return copyLines(s, show)
		},
	}
	f := cmd.Flags()
	f.Var(&limit, "limit", "end after `N` events")
	complete(cmd, "limit")
	t.flags(cmd)
	f.BoolVar(&asJSON, "json", false, "write the lines of the event stream as they are")
	return cmd
}

// resources completes the names of the resources of a graph file.
func resources(p Program, file string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if g, err := openQuietly(p, file, sinks.Options{Shared: &sinks.Shared{}}); err == nil {
		for _, v := range g.Vertices {
			names = append(names, v.String())
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// copyLines shows each line of an event stream.
func copyLines(s *control.Stream, show func([]byte) error) error {
	for {
		line, err := s.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errors.New("the run has not said that it ends: it was killed, or has crashed")
		}
		if err := show(line); err != nil {
			return err
		}
	}
}

// event is a line of the event stream, of whatever type.
type event struct {
	Type                                 string
	Time                                 time.Time
	Graph, Resource, By, Output          string
	Source, Watch, What                  string
	Cause                                pipeline.CauseInfo
	Refresh, Changed, Noop, Left         bool
	Changes                              []sinks.Change
	Error, Reason, Program, File, Signal string
	DurationMS                           float64 `json:"duration_ms"`
	RetryMS                              float64 `json:"retry_ms"`
	RestMS                               float64 `json:"rest_ms"`
	WillRetry                            bool    `json:"will_retry"`
	Count, PID, Code, Resources, Edges   int
	Batch                                int
	Problems                             []struct {
		File         string
		Line, Column int
		Message      string
	}
}

// follow returns a function that shows a line of the event stream to people, in the way of
// the log.
func follow(h slog.Handler) func([]byte) error {
	return func(line []byte) error {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("what the run says: %w", err)
		}
		level, message, attrs := e.told()
		if message == "" {
			return nil
		}
		r := slog.NewRecord(e.Time.Local(), level, message, 0)
		r.AddAttrs(attrs...)
		return h.Handle(context.Background(), r)
	}
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// told is the event as a record of a log: nothing for one that is of a newer version.
func (e *event) told() (level slog.Level, message string, attrs []slog.Attr) {
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	text("res", e.Resource)
	switch e.Type {
	case "stream":
		text("program", e.Program)
		text("pid", strconv.Itoa(e.PID))
		text("file", e.File)
		return slog.LevelInfo, "tapped", attrs
	case "graph":
		text("graph", e.Graph)
		return slog.LevelInfo, "graph", append(attrs, slog.Int("resources", e.Resources), slog.Int("edges", e.Edges))
	case "rejected":
		for _, p := range e.Problems {
			text("problem", fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message))
		}
		return slog.LevelError, "rejected", attrs
	case "event":
		text("event", strings.Join(strings.Fields(e.Source+" "+e.Watch+" "+e.What), " "))
		text("error", e.Error)
		return slog.LevelDebug, "event", attrs
	case "start":
		text("cause", e.Cause.String())
		return slog.LevelDebug, "start", append(attrs, slog.Bool("refresh", e.Refresh))
	case "end":
		return e.ended(attrs)
	case "blocked":
		text("by", e.By)
		return slog.LevelWarn, "blocked", attrs
	case "waiting":
		text("for", e.By)
		text("output", e.Output)
		return slog.LevelWarn, "waiting", attrs
	case "flapping":
		text("cause", e.Cause.String())
		return slog.LevelWarn, "flapping", append(attrs, slog.Int("repairs", e.Count), slog.Duration("rests", milliseconds(e.RestMS)))
	case "delayed":
		return slog.LevelInfo, "swap delayed", attrs
	case "steady", "converged":
		return slog.LevelInfo, e.Type, attrs
	case "dropped":
		return slog.LevelWarn, "events lost", append(attrs, slog.Int("count", e.Count), slog.String("why", "they were not read in time"))
	case "exit":
		text("reason", e.Reason)
		text("signal", e.Signal)
		text("error", e.Error)
		return slog.LevelInfo, "run ended", append(attrs, slog.Int("status", e.Code))
	}
	return 0, "", nil
}

// ended tells of the end of a check.
func (e *event) ended(attrs []slog.Attr) (slog.Level, string, []slog.Attr) {
	level, message := slog.LevelDebug, "right"
	if e.Changed {
		level, message = slog.LevelInfo, "changed"
		if e.Noop {
			message = "would change"
		}
	}
	if len(e.Changes) > 0 {
		var list []string
		for _, c := range e.Changes {
			list = append(list, c.String())
		}
		attrs = append(attrs, slog.String("changes", strings.Join(list, ", ")))
	}
	if e.Error != "" {
		level, message = slog.LevelError, "failed"
		attrs = append(attrs, slog.String("error", e.Error))
	}
	attrs = append(attrs, slog.Duration("took", milliseconds(e.DurationMS)))
	if e.WillRetry {
		attrs = append(attrs, slog.Duration("retry_in", milliseconds(e.RetryMS)))
	}
	if e.Batch > 0 {
		attrs = append(attrs, slog.Int("together", e.Batch))
	}
	if e.Left {
		attrs = append(attrs, slog.String("why", "it left the graph meanwhile"))
	}
	return level, message, attrs
}
