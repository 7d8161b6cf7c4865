package console_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// entries logs through f and returns what the journal gets.
func entries(t *testing.T, level slog.Level, f func(*slog.Logger)) []map[string]string {
	t.Helper()
	var list []map[string]string
	j := console.Journal{Send: func(message string, p journal.Priority, fields map[string]string) error {
		entry := maps.Clone(fields)
		entry["MESSAGE"], entry["PRIORITY"] = message, fmt.Sprint(int(p))
		if entry["SYSLOG_IDENTIFIER"] != "mgmt" {
			t.Errorf("the identifier is %q", entry["SYSLOG_IDENTIFIER"])
		}
		delete(entry, "SYSLOG_IDENTIFIER")
		list = append(list, entry)
		return nil
	}}
	f(slog.New(console.NewJournal(j, level)))
	return list
}

func TestJournalEntries(t *testing.T) {
	for _, c := range []struct {
		name  string
		level slog.Level
		log   func(*slog.Logger)
		want  []map[string]string
	}{
		{"a message is what a terminal shows", slog.LevelInfo, func(l *slog.Logger) {
			l.Warn("graph kept", "why", "the new one is rejected")
		}, []map[string]string{{
			"MESSAGE": `graph kept    why="the new one is rejected"`, "PRIORITY": "4",
			"MGMT_MESSAGE": "graph kept", "MGMT_WHY": "the new one is rejected",
		}}},
		{"levels are priorities, and a low one is left out", slog.LevelInfo, func(l *slog.Logger) {
			l.Error("a")
			l.Info("b")
			l.Debug("c")
		}, []map[string]string{
			{"MESSAGE": "a", "PRIORITY": "3", "MGMT_MESSAGE": "a"},
			{"MESSAGE": "b", "PRIORITY": "6", "MGMT_MESSAGE": "b"},
		}},
		{"debugging has a priority too", slog.LevelDebug, func(l *slog.Logger) { l.Debug("c") },
			[]map[string]string{{"MESSAGE": "c", "PRIORITY": "7", "MGMT_MESSAGE": "c"}}},
		{"names become those of fields", slog.LevelInfo, func(l *slog.Logger) {
			l.With("res", "exec[a]").WithGroup("exit").With("retry_in", 2).Info("m", "code-é", 3, slog.Group("in", "x", 4))
		}, []map[string]string{{
			"MESSAGE": "m             exec[a]  exit.retry_in=2  exit.code-é=3  exit.in.x=4", "PRIORITY": "6", "MGMT_MESSAGE": "m",
			"MGMT_RESOURCE": "exec[a]", "MGMT_EXIT_RETRY_IN": "2", "MGMT_EXIT_CODE__": "3", "MGMT_EXIT_IN_X": "4",
		}}},
		{"nothing found on the host breaks an entry", slog.LevelInfo, func(l *slog.Logger) {
			l.Info("m", "error", "one\ntwo\x1b[2J")
		}, []map[string]string{{
			"MESSAGE": `m             one; two\x1b[2J`, "PRIORITY": "6", "MGMT_MESSAGE": "m", "MGMT_ERROR": "one\ntwo\x1b[2J",
		}}},
		{"what an error quotes is more lines of the message", slog.LevelInfo, func(l *slog.Logger) {
			l.Info("m", "error", "its last lines:\n\tone\n\ttwo\x1b", "n", 1)
		}, []map[string]string{{
			"MESSAGE": "m             its last lines:  n=1\n\tone\n\ttwo\\x1b", "PRIORITY": "6", "MGMT_MESSAGE": "m",
			"MGMT_ERROR": "its last lines:\n\tone\n\ttwo\x1b", "MGMT_N": "1",
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, entries(t, c.level, c.log)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestJournalHasCausesAndDifferences(t *testing.T) {
	v := &pipeline.Vertex{Kind: "file", Name: "/etc/motd"}
	cause := pipeline.Cause{Kind: "event", Watch: inotify.Path("/etc/motd"), Source: "inotify"}
	got := entries(t, slog.LevelInfo, func(l *slog.Logger) {
		r := console.NewReport(l, noon)
		r.Observe(pipeline.Result{Kind: pipeline.Finished, Time: noon, Vertex: v, Cause: cause, Outcome: sinks.Outcome{
			Changed: true, Changes: []sinks.Change{{Field: "content", From: "a\nb\n", To: "a\nc\n"}},
		}})
		r.Observe(pipeline.Result{Kind: pipeline.Finished, Time: noon, Vertex: v, Cause: cause, Err: errors.New("it broke")})
	})
	if len(got) != 2 {
		t.Fatalf("there are %d entries", len(got))
	}
	for _, entry := range got {
		if entry["MGMT_RESOURCE"] != "file[/etc/motd]" || entry["MGMT_CAUSE"] != "event inotify /etc/motd" || strings.Contains(entry["MESSAGE"], "inotify") {
			t.Errorf("the entry is %q", entry)
		}
	}
	if diff := got[0]["MGMT_DIFF"]; !strings.Contains(diff, "\n-b\n+c\n") || strings.Contains(got[0]["MESSAGE"], "\n") {
		t.Errorf("the difference is %q, the message %q", diff, got[0]["MESSAGE"])
	}
	if got[1]["MGMT_ERROR"] != "it broke" {
		t.Errorf("the error is %q", got[1]["MGMT_ERROR"])
	}
}

func TestWithoutTheJournalMessagesGoToItsStream(t *testing.T) {
	var b bytes.Buffer
	j := console.Journal{Stream: &b, Send: func(string, journal.Priority, map[string]string) error { return errors.New("refused") }}
	log := slog.New(console.NewJournal(j, slog.LevelInfo))
	log.Error("failed", "res", "exec[a]")
	log.LogAttrs(context.Background(), slog.LevelInfo, "converged")
	log.Error("failed", "error", "it said:\n\tone\n\ttwo")
	if want := "<3>failed        exec[a]\n<6>converged\n<3>failed        it said:\n<3>\tone\n<3>\ttwo\n"; b.String() != want {
		t.Errorf("the stream got %q, want %q", b.String(), want)
	}
}
