package pipeline_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	allsinks "github.com/mgmtproject/mgmt/sinks/all"
	allsources "github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/streams"
)

// TestPlanIsWhatRunDoes takes each host that testdata/plans describes: setup is a script
// that makes it, in the directory that both scripts and graphs call $DIR, and before.yaml,
// which may be left out, a graph that has been run on it. The plan of graph.yaml is as plan says: a state and a resource a line, without those that are right.
// A real run then changes exactly those resources that the plan lists as to be changed,
// fails with those that the plan says would fail, and leaves nothing but the lines of again.
func TestPlanIsWhatRunDoes(t *testing.T) {
	paths, err := filepath.Glob("testdata/plans/*.txtar")
	if err != nil || len(paths) < 30 {
		t.Fatalf("there are %d fixtures, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			fixture(t, path)
		})
	}
}

func fixture(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, f := range archive.Files {
		parts[f.Name] = strings.ReplaceAll(string(f.Data), "$DIR", dir)
	}
	setup := exec.CommandContext(t.Context(), "/bin/sh", "-euc", parts["setup"])
	setup.Dir = dir
	if out, err := setup.CombinedOutput(); err != nil {
		t.Fatalf("setup: %v: %s", err, out)
	}
	if text := parts["before.yaml"]; text != "" {
		realRun(t, loadKinds(t, text))
	}
	load := func() *pipeline.Graph { return loadKinds(t, parts["graph.yaml"]) }

	before := fingerprint(t, dir)
	f, err := pipeline.Plan(t.Context(), load(), pipeline.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if after := fingerprint(t, dir); after != before {
		t.Errorf("the plan has changed something: before\n%safter\n%s", before, after)
	}
	planned := listed(f)
	if *updateTraces {
		updatePlan(t, path, archive, strings.ReplaceAll(strings.Join(append(planned, ""), "\n"), dir, "$DIR"))
	} else if got, want := strings.Join(planned, "\n"), strings.TrimSpace(parts["plan"]); got != want {
		t.Errorf("the plan is\n%s\nwant\n%s", got, want)
	}

	changed, failed := realRun(t, load())
	if got := refsIn(f, pipeline.StepChange, pipeline.StepRun, pipeline.StepAfter); !slices.Equal(got, changed) {
		t.Errorf("the plan would change\n%q\nbut the run has changed\n%q", got, changed)
	}
	if got := refsIn(f, pipeline.StepFailed); !slices.Equal(got, failed) {
		t.Errorf("the plan would fail with\n%q\nbut the run has failed with\n%q", got, failed)
	}
	if f, err = pipeline.Plan(t.Context(), load(), pipeline.PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(listed(f), "\n"), strings.TrimSpace(parts["again"]); got != want {
		t.Errorf("after the run the plan is\n%s\nwant\n%s", got, want)
	}
}

// updatePlan writes the fixture with another plan.
func updatePlan(t *testing.T, path string, archive *txtar.Archive, plan string) {
	t.Helper()
	for i, f := range archive.Files {
		if f.Name == "plan" {
			archive.Files[i].Data = []byte(plan)
		}
	}
	if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// allKinds are all that there are.
func allKinds(t *testing.T) *sinks.Registry {
	t.Helper()
	reg, err := sinks.NewRegistry(allsinks.Specs...)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func loadKinds(t *testing.T, text string) *pipeline.Graph {
	t.Helper()
	g, err := pipeline.Load("graph.yaml", []byte(text), allKinds(t))
	if err == nil {
		err = g.Compile(sinks.Options{Shared: &sinks.Shared{}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// listed are the steps that are not right, a line each. Of those after others it says
// which, of those that are held back by whom.
func listed(f pipeline.Forecast) []string {
	var lines []string
	for _, s := range f.Steps {
		if s.State == pipeline.StepRight {
			continue
		}
		line := fmt.Sprintf("%s %s", s.State, s.Ref())
		for _, v := range s.After {
			line += " < " + v.String()
		}
		if s.By != nil {
			line += " by " + s.By.String()
		}
		lines = append(lines, line)
	}
	return lines
}

// refsIn are the resources in one of the states, sorted.
func refsIn(f pipeline.Forecast, states ...pipeline.StepState) []string {
	var refs []string
	for _, s := range f.Steps {
		if slices.Contains(states, s.State) {
			refs = append(refs, s.Ref())
		}
	}
	slices.Sort(refs)
	return refs
}

// realRun runs g until it has converged, and returns what it has changed and what has
// failed in the end, sorted.
func realRun(t *testing.T, g *pipeline.Graph) (changed, failed []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var status pipeline.Status
	changes, failures := map[string]bool{}, map[string]bool{}
	opts := pipeline.Options{Sources: allsources.New(nil), ConvergedExit: true, ConvergedTimeout: 20 * time.Millisecond}
	for r, err := range pipeline.Run(streams.Of(pipeline.Update{Graph: g}), opts).Seq(ctx) {
		if err != nil {
			t.Fatalf("%v; so far %v has changed", err, changes)
		}
		status.Observe(r)
		if r.Kind == pipeline.Finished {
			changes[r.Vertex.String()] = changes[r.Vertex.String()] || r.Outcome.Changed && !r.Noop
			failures[r.Vertex.String()] = r.Err != nil
		}
	}
	only := func(m map[string]bool) (list []string) {
		for name, is := range m {
			if is {
				list = append(list, name)
			}
		}
		slices.Sort(list)
		return list
	}
	return only(changes), only(failures)
}

// fingerprint is all that can be seen of what lies below dir.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
