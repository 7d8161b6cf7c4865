package console_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

func forecast() pipeline.Forecast {
	g, file, exec := graph()
	more := make([]*pipeline.Vertex, 7)
	for i := range more {
		more[i] = g.Add("noop", string(rune('a'+i)), nil)
	}
	would := func(s pipeline.StepState, v *pipeline.Vertex, changes ...sinks.Change) pipeline.Step {
		return pipeline.Step{State: s, Vertex: v, Outcome: sinks.Outcome{Changed: true, Changes: changes}}
	}
	notified := would(pipeline.StepRun, exec, sinks.Change{Field: "cmd", From: "(not run)", To: "make"})
	notified.Refresh = true
	return pipeline.Forecast{Steps: []pipeline.Step{
		{State: pipeline.StepRight, Vertex: more[0]},
		would(pipeline.StepChange, file, sinks.Change{Field: "mode", From: "0600", To: "0644"},
			sinks.Change{Field: "symlink", From: "", To: strings.Repeat("long/", 20)}, sinks.Change{Field: "word", From: "a\n", To: ""},
			sinks.Change{Field: "content", From: "a\nb\n", To: "a\nc\n"}, sinks.Change{Field: "password", From: "x\ny\n", To: "z\n", Secret: true}),
		notified,
		{State: pipeline.StepAfter, Vertex: more[1], After: []*pipeline.Vertex{file}, Err: errors.New("open /a/b: no such\x1b file")},
		{State: pipeline.StepAfter, Vertex: more[2], After: more},
		would(pipeline.StepNoop, more[3], sinks.Change{Field: "mode", From: "0600", To: "0644"}),
		{State: pipeline.StepFailed, Vertex: more[4], Err: errors.New("it is broken")},
		{State: pipeline.StepBlocked, Vertex: more[5], By: more[4]},
		{State: pipeline.StepWaiting, Vertex: more[6], By: exec},
		{State: pipeline.StepUndo, Reversal: &pipeline.Reversal{Kind: "file", Name: "/old"}},
	}}
}

func TestPlan(t *testing.T) {
	want := `
would change  file[/a]
    mode: 0600 -> 0644
    symlink: "" -> ` + strings.Repeat("long/", 20) + `
    word: "a\n" -> ""
    --- file[/a] content (found)
    +++ file[/a] content (desired)
    @@ -1,2 +1,2 @@
     a
    -b
    +c
    password: (secret) -> (secret)
would run     exec[b]  notified
    cmd: (not run) -> make
later         noop[b]  after file[/a]  now: open /a/b: no such\x1b file
later         noop[c]  after noop[a], noop[b], noop[c], noop[d], noop[e], and 2 more
noop          noop[d]
    mode: 0600 -> 0644
failed        noop[e]  it is broken
blocked       noop[f]  because noop[e] would fail
waiting       noop[g]  for what exec[b] does not send
would undo    file[/old]
1 to change, 1 to run, 2 after others, 1 to undo, 1 noop, 1 waiting, 1 blocked, 1 failed, 1 right
`
	var b strings.Builder
	if err := console.WritePlan(&b, forecast(), false); err != nil || "\n"+b.String() != want {
		t.Errorf("got %v:\n%swant:%s", err, b.String(), want)
	}
	b.Reset()
	if err := console.WritePlan(&b, forecast(), true); err != nil || !strings.Contains(b.String(), "\n    \x1b[31m-b\x1b[0m\n") || !strings.Contains(b.String(), "\x1b[32mwould change\x1b[0m  file[/a]") {
		t.Errorf("with colours: %v, %q", err, b.String())
	}
}

func TestPlanIsBounded(t *testing.T) {
	many := make([]sinks.Change, 100)
	for i := range many {
		many[i] = sinks.Change{Field: "content", To: strings.Repeat("line\n", 150)}
	}
	_, file, _ := graph()
	var b strings.Builder
	f := pipeline.Forecast{Steps: []pipeline.Step{{Vertex: file, State: pipeline.StepChange, Outcome: sinks.Outcome{Changed: true, Changes: many}}}}
	if err := console.WritePlan(&b, f, false); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n > 600 || strings.Count(b.String(), `content: "" -> (150 lines, 750 bytes)`) != 97 {
		t.Errorf("the plan has %d lines, at the end:\n%s", n, b.String()[b.Len()-200:])
	}
}

func ExampleWritePlan() {
	g := &pipeline.Graph{Name: "site"}
	motd := g.Add("file", "/etc/motd", nil)
	_ = console.WritePlan(os.Stdout, pipeline.Forecast{Steps: []pipeline.Step{{
		Vertex: motd, State: pipeline.StepChange,
		Outcome: sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "mode", From: "0600", To: "0644"}}},
	}}}, false)
	// Output:
	// would change  file[/etc/motd]
	//     mode: 0600 -> 0644
	// 1 to change, 0 right
}
