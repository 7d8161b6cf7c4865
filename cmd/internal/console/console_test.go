package console_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.Local)

// text logs through f and returns what a terminal gets.
func text(opts console.Options, f func(*slog.Logger)) string {
	var b bytes.Buffer
	f(slog.New(atNoon{console.NewText(&b, opts)}))
	return b.String()
}

// atNoon makes every record one of noon.
type atNoon struct{ slog.Handler }

func (h atNoon) Handle(ctx context.Context, r slog.Record) error {
	r.Time = noon
	return h.Handler.Handle(ctx, r)
}

func (h atNoon) WithAttrs(a []slog.Attr) slog.Handler { return atNoon{h.Handler.WithAttrs(a)} }
func (h atNoon) WithGroup(n string) slog.Handler      { return atNoon{h.Handler.WithGroup(n)} }

func TestText(t *testing.T) {
	debug := console.Options{Level: slog.LevelDebug}
	for _, c := range []struct {
		name string
		opts console.Options
		log  func(*slog.Logger)
		want string
	}{
		{"columns are aligned", debug, func(l *slog.Logger) {
			l.Info("changed", "res", "file[/a]")
			l.Error("failed", "res", "exec[b]", "error", "it broke")
			l.Debug("event", "event", "inotify /a write")
			l.Warn("would change", "res", "file[/a]")
		}, `
12:00:00.000 INFO  changed       file[/a]
12:00:00.000 ERROR failed        exec[b]  it broke
12:00:00.000 DEBUG event         inotify /a write
12:00:00.000 WARN  would change  file[/a]
`},
		{"other attributes have their name", debug, func(l *slog.Logger) {
			l.Info("x", "n", 7, "d", 1234567*time.Microsecond, "s", "two words", "e", "", "plain", "word", "t", noon.UTC())
		}, "\n12:00:00.000 INFO  x             n=7  d=1.23s  s=\"two words\"  e=\"\"  plain=word  t=" + noon.UTC().Format(time.RFC3339) + "\n"},
		{"groups prefix the names", debug, func(l *slog.Logger) {
			l.With("res", "a").WithGroup("g").With("k", 1).Info("x", "m", 2, slog.Group("h", "n", 3), slog.Attr{})
		}, "\n12:00:00.000 INFO  x             a  g.k=1  g.m=2  g.h.n=3\n"},
		{"debug is off by default", console.Options{}, func(l *slog.Logger) {
			l.Debug("hidden")
			l.Info("shown")
		}, "\n12:00:00.000 INFO  shown\n"},
		{"nothing found on the host can steer the terminal", console.Options{Color: false}, func(l *slog.Logger) {
			l.Info("changed", "res", "file[/\x1b]0;gotcha\a]", "x", "\x9b31m", "error", "one\ntwo\n", "u", "grün\u202e")
		}, "\n12:00:00.000 INFO  changed       file[/\\x1b]0;gotcha\\a]  x=\\x9b31m  one; two  u=grün\\u202e\n"},
		{"a diff goes below the line", debug, func(l *slog.Logger) {
			l.Info("would change", "res", "file[/a]", "diff", console.Diff("@@ -1 +1 @@\n-\ta\x1b\n+b\n"), "n", 1)
		}, "\n12:00:00.000 INFO  would change  file[/a]  n=1\n@@ -1 +1 @@\n-\ta\\x1b\n+b\n"},
		{"what an error quotes goes below the line", debug, func(l *slog.Logger) {
			l.Error("failed", "res", "svc[a]", "error", "it ended; its last lines:\n\tone\x1b[2J\n\t\ttwo\tthree\n", "n", 1, "diff", console.Diff("-a\n"))
			l.Error("failed", "error", "first:\n\tone\nsecond:\n\ttwo\nthird", "why", "x\n\ty")
		}, "\n12:00:00.000 ERROR failed        svc[a]  it ended; its last lines:  n=1\n\tone\\x1b[2J\n\t\ttwo\tthree\n-a\n" +
			"12:00:00.000 ERROR failed        first:; second:; third  why=\"x\\n\\ty\"\n\tone\n\ttwo\n"},
		{"colours only when asked for", console.Options{Color: true}, func(l *slog.Logger) {
			l.Info("changed", "res", "file[/a]", "n", 1, "diff", console.Diff("@@ -1 +1 @@\n-a\n+b\n"))
		}, "\n\x1b[2m12:00:00.000\x1b[0m \x1b[32mINFO\x1b[0m  changed       file[/a]  \x1b[2mn=\x1b[0m1\n" +
			"\x1b[36m@@ -1 +1 @@\x1b[0m\n\x1b[31m-a\x1b[0m\n\x1b[32m+b\x1b[0m\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := "\n" + text(c.opts, c.log); got != c.want {
				t.Errorf("got:%swant:%s\n(%q)", got, c.want, got)
			}
		})
	}
}

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "grün\x1b": `grün\x1b`, "one\ntwo\n": "one; two", "a\tb": `a\tb`,
		"it ended; its last lines:\n\tone\n\ttwo\n": "it ended; its last lines: one; two",
	} {
		if got := console.Line(in); got != want {
			t.Errorf("%q is %q on a line, want %q", in, got, want)
		}
	}
}

func TestDerivedLoggersDoNotShareAttributes(t *testing.T) {
	got := text(console.Options{}, func(l *slog.Logger) {
		base := l.With("a", 1, "b", 2, "c", 3)
		x, y := base.With("d", "x"), base.With("d", "y")
		x.Info("m")
		y.Info("m")
	})
	if !strings.Contains(got, "d=x") || !strings.Contains(got, "d=y") {
		t.Errorf("got %s", got)
	}
}

// graph has a file and an exec.
func graph() (*pipeline.Graph, *pipeline.Vertex, *pipeline.Vertex) {
	g := &pipeline.Graph{Name: "site"}
	file, exec := g.Add("file", "/a", nil), g.Add("exec", "b", nil)
	g.Connect(file, exec, false)
	return g, file, exec
}

func TestNotesAreLoggedOnce(t *testing.T) {
	note := func(texts ...string) pipeline.Result {
		g := &pipeline.Graph{Name: "site", File: "site.yaml"}
		for i, text := range texts {
			g.Notes = append(g.Notes, pipeline.Note{Pos: pipeline.Position{Line: int32(i + 1), Column: 5}, Text: text})
		}
		return pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g}
	}
	many := make([]string, 13)
	for i := range many {
		many[i] = fmt.Sprintf("note %d", i)
	}
	got := text(console.Options{}, func(l *slog.Logger) {
		p := console.NewReport(l, noon)
		for _, r := range []pipeline.Result{note("one"), note("one", "two"), note(), note("one"), note(many...)} {
			p.Observe(r)
		}
	})
	var told []string
	for line := range strings.Lines(got) {
		if !strings.Contains(line, "graph") {
			told = append(told, strings.TrimSpace(line[len("12:00:00.000 INFO"):]))
		}
	}
	want := []string{`note          text="site.yaml:1:5: one"`, `note          text="site.yaml:2:5: two"`, `note          text="site.yaml:1:5: one"`}
	for i := range 10 {
		want = append(want, fmt.Sprintf(`note          text="site.yaml:%d:5: note %d"`, i+1, i))
	}
	want = append(want, "more notes    count=3")
	if !slices.Equal(told, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

func TestReport(t *testing.T) {
	g, file, exec := graph()
	broken := errors.New("it broke")
	loaded := pipeline.Result{Kind: pipeline.GraphSwapped, Time: noon, Graph: g, Swap: pipeline.Swap{Added: 2}}
	mode := sinks.Change{Field: "mode", From: "0600", To: "0644"}
	content := sinks.Change{Field: "content", From: "a\nb\nc\n", To: "a\nB\nc\n"}
	other := sinks.Change{Field: "content", To: "x\ny\n"}
	later := func(r pipeline.Result) pipeline.Result { r.Time = noon.Add(time.Hour); return r }
	secret := sinks.Change{Field: "content", From: "hunter1\nx\n", To: "hunter2\nx\n", Secret: true}
	end := func(v *pipeline.Vertex, err error, changes ...sinks.Change) pipeline.Result {
		return pipeline.Result{
			Kind: pipeline.Finished, Time: noon, Vertex: v, Err: err, Took: time.Millisecond,
			Outcome: sinks.Outcome{Changed: len(changes) > 0, Changes: changes},
		}
	}
	noop := func(r pipeline.Result) pipeline.Result { r.Noop = true; return r }
	retried := func(r pipeline.Result) pipeline.Result {
		r.WillRetry, r.RetryAfter = true, 2*time.Second
		return r
	}
	waits := pipeline.Result{Kind: pipeline.Waiting, Time: noon, Vertex: exec, By: file, Output: "content"}
	left := func(r pipeline.Result) pipeline.Result { r.Left = true; return r }
	many := make([]sinks.Change, 13)
	for i := range many {
		many[i] = sinks.Change{Field: fmt.Sprint(i), From: "a", To: "b"}
	}
	for _, c := range []struct {
		name    string
		level   slog.Level
		results []pipeline.Result
		want    string
	}{
		{"a graph is told when it is loaded and when it is swapped", slog.LevelInfo, []pipeline.Result{
			loaded,
			{Kind: pipeline.GraphSwapped, Time: noon, Graph: g, Swap: pipeline.Swap{Added: 1, Changed: 2, Removed: 3, Kept: 4}},
		}, `
INFO  graph loaded  site  resources=2  edges=1
INFO  graph swapped  site  added=1  changed=2  removed=3  kept=4  edges=1
`},
		{"a change has its fields, and what was right is silent", slog.LevelInfo, []pipeline.Result{
			end(file, nil), end(file, nil, mode, content),
		}, `
INFO  changed       file[/a]  mode: 0600 -> 0644, content: (3 lines, 6 bytes) -> (3 lines, 6 bytes)
--- file[/a] content (found)
+++ file[/a] content (desired)
@@ -1,3 +1,3 @@
 a
-b
+B
 c
`},
		{"what is repaired again and again is shown once, until it is something else", slog.LevelInfo, []pipeline.Result{
			end(file, nil, content), end(file, nil, content), end(file, nil, other), later(end(file, nil, other)),
		}, `
INFO  changed       file[/a]  content: (3 lines, 6 bytes) -> (3 lines, 6 bytes)
--- file[/a] content (found)
+++ file[/a] content (desired)
@@ -1,3 +1,3 @@
 a
-b
+B
 c
INFO  changed       file[/a]  content: (3 lines, 6 bytes) -> (3 lines, 6 bytes)
INFO  changed       file[/a]  content: "" -> (2 lines, 4 bytes)
--- file[/a] content (found)
+++ file[/a] content (desired)
@@ -0,0 +1,2 @@
+x
+y
INFO  changed       file[/a]  content: "" -> (2 lines, 4 bytes)
--- file[/a] content (found)
+++ file[/a] content (desired)
@@ -0,0 +1,2 @@
+x
+y
`},
		{"a long list of changes is cut", slog.LevelInfo, []pipeline.Result{end(file, nil, many...)}, `
INFO  changed       file[/a]  0: a -> b, 1: a -> b, 2: a -> b, 3: a -> b, 4: a -> b, 5: a -> b, 6: a -> b, 7: a -> b, 8: a -> b, 9: a -> b, and 3 more
`},
		{"noop shows the difference, but no secret", slog.LevelInfo, []pipeline.Result{
			noop(end(file, nil, mode, content, secret)),
		}, `
INFO  would change  file[/a]  mode: 0600 -> 0644, content: (3 lines, 6 bytes) -> (3 lines, 6 bytes), content: (secret) -> (secret)
--- file[/a] content (found)
+++ file[/a] content (desired)
@@ -1,3 +1,3 @@
 a
-b
+B
 c
`},
		{"whom a resource waits for is told once, until it has run", slog.LevelInfo, []pipeline.Result{
			waits, waits, end(exec, nil), waits, noop(waits),
		}, `
WARN  waiting       exec[b]  for=file[/a]  output=content
WARN  waiting       exec[b]  for=file[/a]  output=content
`},
		{"in a run that changes nothing it is no trouble", slog.LevelInfo, []pipeline.Result{noop(waits)}, `
INFO  waiting       exec[b]  for=file[/a]  output=content
`},
		{"a swap forgets who waited and is gone", slog.LevelInfo, []pipeline.Result{
			waits, {Kind: pipeline.GraphSwapped, Time: noon, Graph: &pipeline.Graph{Name: "site"}}, {Kind: pipeline.GraphSwapped, Time: noon, Graph: &pipeline.Graph{Name: "site"}}, waits,
		}, `
WARN  waiting       exec[b]  for=file[/a]  output=content
INFO  graph loaded  site  resources=0  edges=0
INFO  graph swapped  site  added=0  changed=0  removed=0  kept=0  edges=0
WARN  waiting       exec[b]  for=file[/a]  output=content
`},
		{"a fight is told with its cause, and its end", slog.LevelInfo, []pipeline.Result{
			{Kind: pipeline.Flapping, Time: noon, Vertex: file, Count: 5, RetryAfter: 2 * time.Second, Cause: pipeline.Cause{Kind: "predecessor", Vertex: exec}},
			{Kind: pipeline.Steady, Time: noon, Vertex: file},
		}, `
WARN  flapping      file[/a]  repairs=5  cause="predecessor exec[b]"  rests=2s  why="something else keeps undoing it"
INFO  steady        file[/a]  why="nothing undoes it any more"
`},
		{"a swap that waits says for whom", slog.LevelInfo, []pipeline.Result{{Kind: pipeline.SwapDelayed, Time: noon, Vertex: exec}}, `
INFO  swap delayed  until="exec[b] has run"  why="its meta.realize"
`},
		{"a failure is told once, and its end", slog.LevelInfo, []pipeline.Result{
			retried(end(exec, broken)), retried(end(exec, broken)), end(exec, errors.New("worse")), end(exec, nil), end(exec, nil),
		}, `
ERROR failed        exec[b]  it broke  retry_in=2s
ERROR failed        exec[b]  worse
INFO  recovered     exec[b]
`},
		{"what came of a resource that has left does not count", slog.LevelInfo, []pipeline.Result{
			left(end(exec, broken)), left(end(file, nil, mode)),
		}, "\n"},
		{"a change of which there is nothing to show is for those who debug", slog.LevelInfo, []pipeline.Result{
			{Kind: pipeline.Finished, Vertex: exec, Outcome: sinks.Outcome{Changed: true}},
		}, "\n"},
		{"what changes before the same failure again is told once too", slog.LevelInfo, []pipeline.Result{
			end(exec, broken, mode), end(exec, broken, mode), end(exec, nil, mode),
		}, `
INFO  changed       exec[b]  mode: 0600 -> 0644
ERROR failed        exec[b]  it broke
INFO  changed       exec[b]  mode: 0600 -> 0644
INFO  recovered     exec[b]
`},
		{"a part can be changed before a failure", slog.LevelInfo, []pipeline.Result{end(file, broken, mode)}, `
INFO  changed       file[/a]  mode: 0600 -> 0644
ERROR failed        file[/a]  it broke
`},
		{"a rejected graph lists every problem", slog.LevelInfo, []pipeline.Result{
			{Kind: pipeline.GraphRejected, Time: noon, Err: pipeline.Problems{
				{File: "g.yaml", Pos: pipeline.Position{Line: 3, Column: 5}, Message: "unknown kind \"fiel\"", Hint: `did you mean "file"?`},
				{File: "g.yaml", Message: "the graph has no name"},
			}},
		}, `
ERROR rejected      g.yaml:3:5: unknown kind "fiel"; did you mean "file"?
ERROR rejected      g.yaml: the graph has no name
WARN  graph kept    why="the new one is rejected; the last good one stays in force"
`},
		{"converged is told once", slog.LevelInfo, []pipeline.Result{
			{Kind: pipeline.Converged, Time: noon.Add(27 * time.Millisecond)},
			{Kind: pipeline.Converged, Time: noon.Add(time.Second)},
		}, `
INFO  converged     after=27ms
`},
		{"a panic is a fault of the program, without its stack", slog.LevelInfo, []pipeline.Result{
			end(exec, &streams.PanicError{Value: "index out of range", Stack: []byte("goroutine 7 [running]:\nmain.main()\n")}),
		}, `
ERROR failed        exec[b]  internal error: index out of range; please report it
`},
		{"who debugs sees all", slog.LevelDebug, []pipeline.Result{
			{Kind: pipeline.Woken, Time: noon, Vertex: file, Event: sources.Event{Source: "timer", Watch: sources.Interval{Every: time.Second}, What: "tick"}},
			{Kind: pipeline.Started, Time: noon, Vertex: file, Cause: pipeline.Cause{Kind: "event", Source: "timer", Watch: sources.Interval{Every: time.Second}}},
			end(file, nil),
			end(exec, broken), end(exec, broken),
			{Kind: pipeline.Blocked, Time: noon, Vertex: exec, By: file},
			end(file, &streams.PanicError{Value: "boom", Stack: []byte("goroutine 7 [running]:\n\tmain.main()\n")}),
			{Kind: pipeline.Converged, Time: noon}, {Kind: pipeline.Converged, Time: noon},
		}, `
DEBUG event         file[/a]  timer every 1s tick
DEBUG start         file[/a]  cause="event timer every 1s"  refresh=false
DEBUG right         file[/a]  took=1ms
ERROR failed        exec[b]  it broke
DEBUG failed        exec[b]  it broke
DEBUG blocked       exec[b]  by=file[/a]
ERROR failed        file[/a]  internal error: boom; please report it
DEBUG stack         file[/a]
goroutine 7 [running]:
	main.main()
INFO  converged     after=0s
DEBUG converged     after=0s
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := text(console.Options{Level: c.level}, func(l *slog.Logger) {
				p := console.NewReport(l, noon)
				for _, r := range c.results {
					p.Observe(r)
				}
			})
			if got = "\n" + strings.ReplaceAll(got, "12:00:00.000 ", ""); got != c.want {
				t.Errorf("got:%swant:%s", got, c.want)
			}
		})
	}
}

func TestSwapForgetsFailuresOfWhatIsGone(t *testing.T) {
	g, _, exec := graph()
	broken := pipeline.Result{Kind: pipeline.Finished, Vertex: exec, Err: errors.New("it broke")}
	got := text(console.Options{}, func(l *slog.Logger) {
		p := console.NewReport(l, noon)
		p.Observe(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g})
		p.Observe(broken)
		p.Observe(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: &pipeline.Graph{}})
		p.Observe(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g})
		p.Observe(broken)
	})
	if n := strings.Count(got, "it broke"); n != 2 {
		t.Errorf("the failure was told %d times, want once for each time that the resource was in the graph:\n%s", n, got)
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	_, file, _ := graph()
	p := console.NewReport(slog.New(slog.NewJSONHandler(&b, nil)), noon)
	p.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: file, Noop: true, Outcome: sinks.Outcome{Changed: true, Changes: []sinks.Change{
		{Field: "content", From: "a\nb\n", To: "a\nc\n"},
		{Field: "mode", From: "0600", To: "0644", Secret: true},
	}}})
	var got struct {
		Msg, Res, Diff string
		Changes        []string
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err, b.String())
	}
	if got.Msg != "would change" || got.Res != "file[/a]" || len(got.Changes) != 2 || got.Changes[1] != "mode: (secret) -> (secret)" ||
		!strings.Contains(got.Diff, "\n-b\n+c\n") {
		t.Errorf("got %+v", got)
	}
}

func TestDiffIsBounded(t *testing.T) {
	many := strings.Repeat("line\n", 5000)
	d := string(console.DiffOf("file[/a]", []sinks.Change{{Field: "content", To: many}}))
	if n := strings.Count(d, "\n"); n > 205 || !strings.HasSuffix(d, "more lines)\n") {
		t.Errorf("the diff has %d lines and ends with %q", n, d[len(d)-40:])
	}
}

func TestDiffOfManyAndOfLongLines(t *testing.T) {
	many := make([]sinks.Change, 10)
	for i := range many {
		many[i] = sinks.Change{Field: fmt.Sprint("content of ", i), To: strings.Repeat("line\n", 150)}
	}
	d := string(console.DiffOf("file[/a]", many))
	if n := strings.Count(d, "\n"); n > 410 || !strings.HasSuffix(d, "(7 more differences)\n") {
		t.Errorf("the diff has %d lines and ends with %q", n, d[len(d)-40:])
	}
	d = string(console.DiffOf("file[/a]", []sinks.Change{{Field: "content", To: strings.Repeat("ä", 3000)}}))
	if len(d) > 1200 || !strings.HasSuffix(d, "ä(5002 bytes more)\n") || strings.Contains(d, "\n-") {
		t.Errorf("got %q", d)
	}
}

func ExampleReport() {
	g := &pipeline.Graph{Name: "site"}
	motd := g.Add("file", "/etc/motd", nil)
	drop := func(_ []string, a slog.Attr) slog.Attr { // the time, which is never the same
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	p := console.NewReport(slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: drop})), time.Now())
	p.Observe(pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g})
	p.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: motd, Outcome: sinks.Outcome{
		Changed: true, Changes: []sinks.Change{{Field: "mode", From: "0600", To: "0644"}},
	}})
	// Output:
	// level=INFO msg="graph loaded" graph=site resources=1 edges=0
	// level=INFO msg=changed res=file[/etc/motd] changes="mode: 0600 -> 0644"
}
