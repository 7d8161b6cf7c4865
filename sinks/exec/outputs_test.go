package exec_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/exec"
	"github.com/mgmtproject/mgmt/sinks/params"
)

func TestValuesAreOfTheTypesOfTheOutputs(t *testing.T) {
	cfg := &exec.Config{Cmd: "echo a; echo b >&2", Shell: sh}
	r, err := cfg.Build("x", sinks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sent := apply(t, r).Values
	for _, out := range cfg.Outputs() {
		if !params.HasType(sent[out.Name], out.Type) {
			t.Errorf("it sends %T as %s, want %s", sent[out.Name], out.Name, out.Type)
		}
	}
	if len(sent) != len(cfg.Outputs()) {
		t.Errorf("it sends %v", sent)
	}
}

// A command that is not needed any more sends what it has sent when it ran, if somebody
// receives it; one that was not needed yet sends nothing.
func TestSendsTheLastRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made")
	build := func(sends ...string) sinks.Resource {
		r, err := (&exec.Config{Cmd: "echo made; touch " + path, Shell: sh, Creates: path}).Build("x", sinks.Options{Sends: sends})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := build("stdout")
	first := apply(t, r)
	second := apply(t, r)
	if second.Changed || first.Values["stdout"] != "made\n" {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if diff := cmp.Diff(first.Values, second.Values); diff != "" {
		t.Errorf("it sends others than before:\n%s", diff)
	}
	second.Values["stdout"] = "the engine owns them"
	if third := apply(t, r); third.Values["stdout"] != "made\n" {
		t.Errorf("it sends %v", third.Values)
	}
	if out := apply(t, build("stdout")); out.Values != nil {
		t.Errorf("a command that has not run sends %v", out.Values)
	}
}
