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
		return sinks.Outcome{Changed: broken == "never idle"}, nil
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
	return sinks.Outcome{Changed: changed, Changes: []sinks.Change{change}[:map[bool]int{true: 1, false: 0}[changed]]}, os.WriteFile(r.c.Path, []byte(r.c.Text), 0o644)
}

func sound(t *testing.T) sinktest.Case {
	path := filepath.Join(t.TempDir(), "f")
	return sinktest.Case{
		Name:     "a text",
		Resource: "x",
		Params:   map[string]any{"path": path, "text": "right"},
		Disturb:  func() error { return os.WriteFile(path, []byte("wrong"), 0o644) },
		State:    sinktest.Files(path),
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
