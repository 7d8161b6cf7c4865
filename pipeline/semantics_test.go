package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/exec"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/timer"
	"github.com/mgmtproject/mgmt/streams"
)

// runSteps runs g for d of virtual time and returns its results.
func runSteps(t *testing.T, g *pipeline.Graph, d time.Duration, opts pipeline.Options, during func(*belfry)) []pipeline.Result {
	t.Helper()
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	bells := newBelfry()
	opts.Sources = []sources.Source{bells, timer.New()}
	if opts.ConvergedTimeout == 0 {
		opts.ConvergedTimeout = time.Hour
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if during != nil {
		go during(bells)
	}
	var results []pipeline.Result
	_ = pipeline.Run(streams.Of(pipeline.Update{Graph: g}), opts).Subscribe(ctx, func(r pipeline.Result) bool {
		results = append(results, r)
		return true
	})
	return results
}

func TestBackoffDoublesTheDelayUpToItsMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &pipeline.Graph{Name: "g"}
		g.Add("step", "a", &stepConfig{Outcomes: []string{"fail", "fail", "fail", "fail", "fail", "fail", "ok", "fail"}, Watch: "a"}, func(m *pipeline.Meta) {
			m.Retry, m.Delay, m.Backoff, m.MaxDelay = -1, time.Second, true, 8*time.Second
		})
		var waits []time.Duration
		for _, r := range runSteps(t, g, time.Hour, pipeline.Options{}, func(b *belfry) {
			time.Sleep(30 * time.Minute)
			b.rings <- sources.Event{Source: "bells", Watch: bell("a")}
		}) {
			if r.WillRetry {
				waits = append(waits, r.RetryAfter)
			}
		}
		if len(waits) < 8 {
			t.Fatalf("only %d attempts", len(waits))
		}
		for i, want := range []float64{1, 2, 4, 8, 8, 8, 1, 2} { // the seventh run succeeds
			got := waits[i].Seconds()
			if got < want/2 || got > math.Min(want*1.5, 8) {
				t.Errorf("wait %d is %v s, want %v s and up to a half more or less, but no more than 8", i, got, want)
			}
		}
		if waits[0] == time.Second && waits[1] == 2*time.Second && waits[2] == 4*time.Second {
			t.Error("the waits are not varied")
		}
	})
}

func TestAStormCostsWhatTheLimitAllowsAndItsLastEventCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &pipeline.Graph{Name: "g"}
		g.Add("step", "a", &stepConfig{Watch: "a"}, func(m *pipeline.Meta) { m.Limit, m.Burst = 2, 3 })
		var last time.Time
		results := runSteps(t, g, time.Hour, pipeline.Options{}, func(b *belfry) {
			time.Sleep(time.Second)
			for range 1000 { // ten seconds
				last = time.Now()
				b.rings <- sources.Event{Source: "bells", Watch: bell("a")}
				time.Sleep(10 * time.Millisecond)
			}
		})
		runs := 0
		var newest time.Time
		for _, r := range results {
			if r.Kind == pipeline.Finished && r.Cause.Kind == "event" {
				runs++
				newest = r.Time
			}
		}
		if runs < 20 || runs > 24 { // a burst of 3, and 2 a second for 10 seconds
			t.Errorf("%d runs for 1000 events in 10 s, with a limit of 2 a second", runs)
		}
		if !newest.After(last) || newest.Sub(last) > 500*time.Millisecond {
			t.Errorf("the last run began %v after the last event", newest.Sub(last))
		}
	})
}

// broken is a State that can't be written.
type broken struct{ memory }

var errBroken = errors.New("the disk is full")

func (*broken) Save(pipeline.StateChanges) error { return errBroken }

func TestNothingIsChangedUnlessWhatFollowsIsNoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	g := &pipeline.Graph{Name: "g"}
	from := g.Add("file", path, &file.Config{Content: new("x")})
	to := g.Add("exec", "true", &exec.Config{})
	g.Connect(from, to, true)
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	var status pipeline.Status
	run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{State: &broken{}, ConvergedExit: true})
	// Sources are not needed: the watches fail, and that is not what is tested.
	err := run.Subscribe(t.Context(), func(r pipeline.Result) bool {
		status.Observe(r)
		if r.Kind == pipeline.Finished && r.Vertex == from && !errors.Is(r.Err, errBroken) {
			t.Errorf("the file has failed with %v", r.Err)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there although nobody would know of the notification: %v", err)
	}
}

func TestANotificationOutlivesAKillBetweenTheChangeAndItsReceiver(t *testing.T) {
	// The run is stopped at each result in turn, as a kill would: what is noted then must
	// be enough for the next run.
	for stop := 0; ; stop++ {
		over := false
		synctest.Test(t, func(t *testing.T) {
			state := &memory{}
			changed, refreshed := false, 0
			run := func(limit int) (ended bool) {
				g := &pipeline.Graph{Name: "g"}
				outcome := "change"
				if changed {
					outcome = "ok"
				}
				from := g.Add("step", "a", &stepConfig{Outcomes: []string{outcome, "ok"}})
				to := g.Add("step", "b", &stepConfig{refreshes: &refreshed})
				g.Connect(from, to, true)
				if err := g.Compile(sinks.Options{}); err != nil {
					t.Fatal(err)
				}
				n := 0
				_ = pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{State: state, Trace: true, ConvergedExit: true}).Subscribe(t.Context(), func(r pipeline.Result) bool {
					if r.Kind == pipeline.Finished && r.Vertex == from && r.Outcome.Changed {
						changed = true
					}
					n++
					ended = r.Kind == pipeline.Converged
					return limit == 0 || n < limit
				})
				return ended
			}
			over = run(stop + 1)
			run(0)
			if !changed || refreshed < 1 {
				t.Errorf("stopped at result %d: changed %v, refreshed %d times", stop, changed, refreshed)
			}
			before := refreshed
			run(0)
			if refreshed != before {
				t.Errorf("stopped at result %d: refreshed again although nothing has changed", stop)
			}
		})
		if over {
			break
		}
	}
}

func TestASecretIsInNoResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "abracadabra"
		g := &pipeline.Graph{Name: "g"}
		says := g.Add("step", "says", &stepConfig{Values: []string{secret}, Hidden: true})
		hears := g.Add("step", "hears", &stepConfig{Outcomes: []string{"change fail leak"}, Values: []string{secret}})
		farther := g.Add("step", "farther", &stepConfig{Outcomes: []string{"change"}})
		g.Send(says, "out", hears, "in")
		g.Send(hears, "out", farther, "in")
		for _, r := range runSteps(t, g, time.Minute, pipeline.Options{Trace: true}, nil) {
			text := fmt.Sprint(r.Failure(), r.Cause, r.Event)
			for _, c := range r.Outcome.Changes {
				text += c.String()
			}
			if strings.Contains(text, secret) {
				t.Errorf("%s of %s shows the secret: %s", r.Kind, r.Vertex, text)
			}
		}
		if strings.Contains(g.DOT(), secret) {
			t.Error("the picture shows the secret")
		}
	})
}

func TestWhatIsSecretIsNotTold(t *testing.T) {
	reg := traceRegistry(t)
	g, err := pipeline.Load("g.yaml", []byte("graph: g\nresources: {step: [{name: a, in: hush, outcomes: [change], meta: {secret: true}}, {name: b, in: known, outcomes: [change]}]}\n"), reg)
	if err == nil {
		err = g.Compile(sinks.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	err = pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{ConvergedExit: true, Kinds: reg}).Subscribe(t.Context(), func(r pipeline.Result) bool {
		for _, c := range r.Outcome.Changes {
			told[r.Vertex.Name] += c.Shown().String() + "\n"
		}
		return true
	})
	if err != nil || strings.Contains(told["a"], "hush") || !strings.Contains(told["a"], "in") || !strings.Contains(told["b"], "known") {
		t.Errorf("told %q, %v", told, err)
	}
}

func TestNotesAboutMetaParameters(t *testing.T) {
	g, err := pipeline.Load("g.yaml", []byte(`graph: g
resources:
  step:
  - {name: a, meta: {sema: ["disk:2"]}}
  - {name: b, meta: {sema: [disk, net]}}
  - {name: c, meta: {sema: [net]}}
`), traceRegistry(t))
	if err == nil {
		err = g.Compile(sinks.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	want := []pipeline.Note{
		{Pos: pipeline.Position{Line: 5, Column: 5}, Text: "step[b] counts the semaphore disk to 1, and step[a] to 2: the larger number counts"},
	}
	if !slices.Equal(g.Notes, want) {
		t.Errorf("got %q\nwant %q", g.Notes, want)
	}
}

func TestAPlanUndoesNothingOfWhatWasRight(t *testing.T) {
	state := &memory{}
	if err := state.Save(pipeline.StateChanges{PutReversals: []pipeline.Reversal{{Kind: "step", Name: "gone", Settled: "so"}}}); err != nil {
		t.Fatal(err)
	}
	g := &pipeline.Graph{Name: "g"}
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, kinds := range []*sinks.Registry{nil, traceRegistry(t)} {
		f, err := pipeline.Plan(t.Context(), g, pipeline.PlanOptions{State: state, Kinds: kinds})
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Steps) > 0 {
			t.Errorf("the plan is %v", f.Steps)
		}
	}
}
