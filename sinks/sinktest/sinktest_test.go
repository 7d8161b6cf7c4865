package sinktest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// config is a kind that keeps a text in a file, and breaks the contract in the way that
// the environment asks for.
type config struct {
	Path string `param:"path"`
	Text string `param:"text"`

	Noisy bool `param:"noisy"`

	seen int
}

const breakage = "SINKTEST_BREAKAGE"

var broken = os.Getenv(breakage)

var spec = sinks.Spec{Kind: "keeper", New: func() sinks.Config { return &config{} }}

func (c *config) Build(_ string, _ sinks.Options) (sinks.Resource, error) {
	if c.Text == "bad" {
		return nil, fmt.Errorf("text %q is bad", c.Text)
	}
	if broken == "Build acts" {
		os.WriteFile(c.Path, []byte("built"), 0o644)
	}
	return &resource{c: c}, nil
}

type resource struct {
	c       *config
	applied int
	closed  bool
}

func (c *config) Outputs() []sinks.Output {
	o := sinks.Output{Name: "length", Type: sinks.TypeInt, Doc: "The length of the text."}
	switch broken {
	case "an output of no type":
		o.Type = "number"
	case "an output without a word":
		o.Doc = ""
	case "two outputs of a name":
		return []sinks.Output{o, o}
	}
	return []sinks.Output{o, {Name: "text", Type: sinks.TypeString, Secret: broken == "shows a secret", Doc: "The text."}}
}

func (c *config) Reverse(was map[string]string) (sinks.Config, error) {
	text, changed := was["text"]
	switch {
	case broken == "is never undone":
		return nil, fmt.Errorf("no way back")
	case broken == "forgets what was":
		return nil, nil
	case broken == "undoes nothing else" && !changed:
		return &config{Path: c.Path, Text: "x"}, nil
	case broken == "undoes it wrongly":
		text = "something else"
	case broken == "undoes it badly":
		text = "bad"
	case broken == "Reverse acts":
		os.Remove(c.Path)
	case broken == "undoes it in secret" && changed:
		return &config{Path: c.Path, Text: text, seen: 1}, nil
	case broken == "undoes it with noise" && changed:
		return &config{Path: c.Path, Text: text, Noisy: true}, nil
	}
	if !changed {
		return nil, nil
	}
	return &config{Path: c.Path, Text: text}, nil
}

func (r *resource) Group() string {
	if broken == "never idle" || broken == "is on its own" {
		return ""
	}
	return r.c.Path
}

func (r *resource) CheckApplyGroup(ctx context.Context, apply bool, members []sinks.Resource) []sinks.GroupResult {
	var results []sinks.GroupResult
	switch {
	case broken == "a group without results":
		return nil
	case broken == "a group that fails":
		return []sinks.GroupResult{{Err: fmt.Errorf("no company")}}
	case broken == "a group that ignores a cancel":
		ctx = context.WithoutCancel(ctx)
		if apply {
			apply = false
		}
	case broken == "a group whose check acts":
		apply = true
	}
	for _, m := range members {
		out, err := m.CheckApply(ctx, apply)
		if broken == "a group that says something else" && out.Changed {
			out.Changes = []sinks.Change{{Field: "colour"}}
		}
		if broken == "a group that is never idle" {
			out.Changed = true
		}
		results = append(results, sinks.GroupResult{Outcome: out, Err: err})
	}
	return results
}

func (r *resource) Plan(ctx context.Context, safe, refresh bool) (sinks.Outcome, error) {
	switch broken {
	case "a plan acts":
		os.Remove(r.c.Path)
	case "a plan fails":
		return sinks.Outcome{}, fmt.Errorf("no foresight")
	case "a plan foretells nothing":
		return sinks.Outcome{}, nil
	}
	return r.CheckApply(ctx, false)
}

func (r *resource) Close() error {
	if r.closed {
		return fmt.Errorf("closed twice")
	}
	r.closed = true
	switch broken {
	case "does not close":
		return fmt.Errorf("the door is stuck")
	case "hangs when it is closed":
		select {}
	case "leaks when it is closed":
		go func() { select {} }()
	}
	return nil
}

// outcome is out with what is sent.
func (r *resource) outcome(out sinks.Outcome) sinks.Outcome {
	out.Values = map[string]any{"length": int64(len(r.c.Text)), "text": r.c.Text}
	switch broken {
	case "sends another type":
		out.Values["length"] = len(r.c.Text)
	case "sends what it does not tell":
		out.Values["colour"] = "blue"
	case "asks to be watched for ever":
		out.Rewatch = true
	}
	return out
}

func (r *resource) Watches() []sources.Watch {
	switch broken {
	case "no watch":
		return nil
	case "another watch":
		return []sources.Watch{inotify.Path(r.c.Path + ".other")}
	case "an unknown source":
		return []sources.Watch{nowhere{}}
	}
	return []sources.Watch{inotify.Path(r.c.Path), inotify.Path(r.c.Path + ".side")}
}

type nowhere struct{}

func (nowhere) Source() string { return "nowhere" }
func (nowhere) String() string { return "anything" }

func (r *resource) Acts() bool { return broken == "an actor" }

func (r *resource) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if broken == "an unapplied refresh acts" {
		os.Chtimes(r.c.Path, time.Now(), time.Now())
	}
	if broken == "a refresh fails" && apply {
		return sinks.Outcome{}, fmt.Errorf("no refreshment")
	}
	return r.CheckApply(ctx, apply)
}

func (r *resource) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		switch broken {
		case "ignores a cancel":
		case "acts in spite of a cancel":
			os.Remove(r.c.Path)
			return sinks.Outcome{}, context.Cause(ctx)
		case "hangs on a cancel":
			select {}
		default:
			return sinks.Outcome{}, context.Cause(ctx)
		}
	}
	if broken == "an idle apply is seen" {
		os.Chmod(r.c.Path, 0o644)
	}
	if broken == "an idle apply wakes itself" && apply {
		os.WriteFile(r.c.Path+".side", nil, 0o644)
	}
	if broken == "leaks" && apply {
		go func() { select {} }()
	}
	if broken == "changes its Config" {
		r.c.seen++
	}
	got, err := os.ReadFile(r.c.Path)
	right := err == nil && string(got) == r.c.Text
	if right || broken == "blind" {
		if apply {
			r.applied++
		}
		return r.outcome(sinks.Outcome{Changed: broken == "never idle" || r.c.Noisy}), nil
	}
	if !apply {
		if broken == "a check acts" {
			return sinks.Outcome{Changed: true}, os.WriteFile(r.c.Path, []byte(r.c.Text), 0o644)
		}
		return sinks.Outcome{Changed: true}, nil
	}
	switch {
	case broken == "fails":
		return sinks.Outcome{}, fmt.Errorf("no luck")
	case broken == "does not repair" && r.applied > 0:
		return sinks.Outcome{Changed: true}, nil
	case broken == "repairs half" && r.applied > 0:
		return sinks.Outcome{Changed: true}, os.WriteFile(r.c.Path, []byte(r.c.Text[:1]), 0o644)
	}
	change := sinks.Change{Field: "text", From: string(got), To: r.c.Text}
	changed := broken != "repairs in secret" || r.applied == 0
	return r.outcome(sinks.Outcome{Changed: changed, Changes: []sinks.Change{change}[:map[bool]int{true: 1, false: 0}[changed]]}), os.WriteFile(r.c.Path, []byte(r.c.Text), 0o644)
}

func sound(t *testing.T) sinktest.Case {
	path := filepath.Join(t.TempDir(), "f")
	return sinktest.Case{
		Name:     "a text",
		Resource: "x",
		Params:   map[string]any{"path": path, "text": "right"},
		Disturb:  func() error { return os.WriteFile(path, []byte("wrong"), 0o644) },
		State:    sinktest.Files(path),
		Undone:   sinktest.Contents(path),
	}
}

func TestSound(t *testing.T) {
	if broken != "" {
		t.Skip("run by TestGuards")
	}
	sinktest.Run(t, spec, sound(t))
	sinktest.Invalid(t, spec, "x", map[string]any{"text": "bad"}, `text "bad" is bad`)
	if sinktest.Build(t, spec, "x", sound(t).Params) == nil {
		t.Error("Build returned nothing")
	}
}

// TestBroken fails, in a process of its own.
func TestBroken(t *testing.T) {
	if broken == "" {
		t.Skip("run by TestGuards")
	}
	sinktest.SetPatience(time.Second)
	c := sound(t)
	switch broken {
	case "no cases":
		sinktest.Run(t, spec)
		return
	case "no State":
		c.State = nil
	case "an idle Disturb":
		c.Disturb = func() error { return nil }
	case "a failing Disturb":
		c.Disturb = func() error { return fmt.Errorf("peace") }
	case "says it acts":
		c.Acts = true
	case "an accepted parameter":
		sinktest.Invalid(t, spec, "x", map[string]any{"text": "good"}, "bad")
		return
	case "another error":
		sinktest.Invalid(t, spec, "x", map[string]any{"text": "bad"}, "good")
		return
	case "an unknown parameter":
		c.Params["colour"] = "blue"
	}
	sinktest.Run(t, spec, c)
}

// TestGuards sees each guard of the kit fail once.
func TestGuards(t *testing.T) {
	if broken != "" {
		t.Skip("run by TestGuards")
	}
	tests := []struct{ breakage, want string }{
		{"no cases", "the kind keeper has no cases"},
		{"no State", "the case has Disturb and no State"},
		{"an idle Disturb", "Disturb does not change what State returns"},
		{"a failing Disturb", "disturbing it: peace"},
		{"an unknown parameter", "building it: "},
		{"an accepted parameter", `keeper[x]: map[text:good] is accepted, want an error with "bad"`},
		{"another error", `is refused with "text \"bad\" is bad", want "good" in it`},
		{"Build acts", "building it has changed the system"},
		{"an actor", "says, as a sinks.Actor, that it acts"},
		{"says it acts", "a check after the first apply: Changed is false, want true"},
		{"fails", "the first apply failed: no luck"},
		{"never idle", "a check after the first apply: Changed is true, want false"},
		{"an unapplied refresh acts", "a refresh that is only a check has changed the system"},
		{"a refresh fails", "a refresh: no refreshment"},
		{"a check acts", "a check has changed the system"},
		{"blind", "a check does not notice the disturbance"},
		{"does not repair", "the repair has not changed anything"},
		{"repairs half", "a check after the repair: Changed is true"},
		{"repairs in secret", "the repair does not report a change"},
		{"no watch", "the resource watches nothing"},
		{"another watch", "after the disturbance no watch of the resource fires"},
		{"an unknown source", `there is no source "nowhere"`},
		{"an idle apply is seen", "has changed the system"},
		{"an idle apply wakes itself", "an apply that has nothing to do wakes the resource by"},
		{"ignores a cancel", "CheckApply with a cancelled context returned <nil>"},
		{"acts in spite of a cancel", "CheckApply with a cancelled context has changed the system"},
		{"hangs on a cancel", "CheckApply with a cancelled context does not return"},
		{"leaks", "found unexpected goroutines"},
		{"an output of no type", `the output length is of the type "number", which there is not`},
		{"an output without a word", "the output length is not documented"},
		{"two outputs of a name", `Outputs has the name "length" twice`},
		{"sends another type", "sends length as a int, want a int64 as its type is int"},
		{"sends what it does not tell", "sends colour, which is not among the Outputs"},
		{"shows a secret", "shows the output text, which is secret, in the change of text"},
		{"asks to be watched for ever", "asks to be watched anew"},
		{"a group without results", "an idle apply of a group has 0 results for one member"},
		{"a group that fails", "an idle apply of a group failed: no company"},
		{"a group that is never idle", "an idle apply of a group of one says {Changed:true"},
		{"a group that says something else", "a check of a group of one says {Changed:true Changes:[colour"},
		{"a group whose check acts", "a check of a group has changed the system"},
		{"a group that ignores a cancel", "CheckApplyGroup with a cancelled context returned <nil>"},
		{"a plan acts", "a plan of what is right has changed the system"},
		{"a plan fails", "a plan of what is right failed: no foresight"},
		{"a plan foretells nothing", "a plan after a disturbance: Changed is false, but a check says true"},
		{"is never undone", "the case can be undone, but the kind says: no way back"},
		{"forgets what was", "returned <nil>, <nil>"},
		{"undoes nothing else", "where nothing was changed it would be undone by"},
		{"undoes it wrongly", "undone it is"},
		{"undoes it badly", `what undoes it can't be built: text "bad" is bad`},
		{"undoes it with noise", "want Changed to be false"},
		{"undoes it in secret", "is not the same when it is read again from its parameters"},
		{"Reverse acts", "Reverse has changed the system"},
		{"does not close", "Close: the door is stuck"},
		{"hangs when it is closed", "Close does not return"},
		{"leaks when it is closed", "found unexpected goroutines"},
		{"changes its Config", "the Config has changed while the resource ran"},
	}
	for _, tt := range tests {
		t.Run(tt.breakage, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestBroken$", "-test.count=1")
			cmd.Env = append(os.Environ(), breakage+"="+tt.breakage)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("the kit has passed it:\n%s", out)
			}
			if !strings.Contains(string(out), tt.want) {
				t.Errorf("the kit says\n%s\nwant %q in it", out, tt.want)
			}
		})
	}
}
