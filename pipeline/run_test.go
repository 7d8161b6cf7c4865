package pipeline_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/timer"
	"github.com/mgmtproject/mgmt/streams"
)

var updateTraces = flag.Bool("update-traces", false, "write the traces in testdata/traces as they are now")

// step is a kind for traces: its runs end as Outcomes lists them, the last one for ever.
type stepConfig struct {
	// Outcomes are words: ok, change, fail, "change fail".
	Outcomes []string `param:"outcomes"`

	// Takes is how long a run takes.
	Takes time.Duration `param:"takes" unit:"ms"`

	// Watch is the bell that wakes it.
	Watch string `param:"watch"`

	// Waits makes it a Waiter.
	Waits bool `param:"waits"`

	// Acts makes it an Actor.
	Acts bool `param:"acts"`

	// Values are what its runs send as out, the last one for ever; "-" sends nothing.
	Values []string `param:"values"`

	// Hidden makes what it sends secret.
	Hidden bool `param:"hidden"`

	// In is shown in its changes, as in.
	In string `param:"in"`

	// Group is with whom it groups.
	Group string `param:"group"`

	// Undoes is what it does when it is reversed: how its run ends.
	Undoes string `param:"undoes"`

	// Holds makes it a Closer, which takes a second to close.
	Holds bool `param:"holds"`

	// Rewatches asks for its watches to begin anew, each time it is notified.
	Rewatches bool `param:"rewatches"`

	refreshes *int // counts them, those that were applied
}

type stepResource struct {
	stepConfig
	runs int
}

// groupResource is a step that groups, holder one that is closed.
type (
	groupResource struct{ *stepResource }
	holder        struct{ *stepResource }
)

var stepSpec = sinks.Spec{Kind: "step", New: func() sinks.Config { return &stepConfig{} }}

func (c *stepConfig) Build(string, sinks.Options) (sinks.Resource, error) {
	r := &stepResource{stepConfig: *c}
	switch {
	case c.In == "bad":
		return nil, &sinks.ParamError{Param: "in", Err: errors.New("is bad")}
	case c.Group != "":
		return groupResource{r}, nil
	case c.Holds:
		return holder{r}, nil
	}
	return r, nil
}

func (c *stepConfig) Outputs() []sinks.Output {
	return []sinks.Output{{Name: "out", Type: sinks.TypeString, Secret: c.Hidden, Doc: "What it says."}}
}

func (c *stepConfig) Reverse(was map[string]string) (sinks.Config, error) {
	if was == nil || was["state"] == "" {
		return nil, nil
	}
	return &stepConfig{Outcomes: []string{c.Undoes}}, nil
}

func (g groupResource) Group() string { return g.stepConfig.Group }

func (g groupResource) CheckApplyGroup(ctx context.Context, apply bool, members []sinks.Resource) []sinks.GroupResult {
	results := make([]sinks.GroupResult, len(members))
	for i, m := range members {
		results[i].Outcome, results[i].Err = m.CheckApply(ctx, apply)
	}
	return results
}

func (h holder) Close() error {
	time.Sleep(time.Second)
	return nil
}

func (s *stepResource) Waits() bool { return s.stepConfig.Waits }
func (s *stepResource) Acts() bool  { return s.stepConfig.Acts }

func (s *stepResource) Watches() []sources.Watch {
	if s.Watch == "" {
		return nil
	}
	return []sources.Watch{bell(s.Watch)}
}

func (s *stepResource) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return s.run(ctx, apply, "state")
}

func (s *stepResource) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if s.refreshes != nil && apply {
		*s.refreshes++
	}
	return s.run(ctx, apply, "refresh")
}

func (s *stepResource) run(ctx context.Context, apply bool, field string) (o sinks.Outcome, err error) {
	select {
	case <-time.After(s.Takes):
	case <-ctx.Done():
		return o, ctx.Err()
	}
	word := "ok"
	if n := len(s.Outcomes); n > 0 {
		word = s.Outcomes[min(s.runs, n-1)]
	}
	if n := len(s.Values); n > 0 && s.Values[min(s.runs, n-1)] != "-" {
		o.Values = map[string]any{"out": s.Values[min(s.runs, n-1)]}
	}
	if o.Changed = strings.Contains(word, "change"); o.Changed {
		o.Changes = []sinks.Change{{Field: field, From: "old", To: "new"}}
		if s.In != "" {
			o.Changes = append(o.Changes, sinks.Change{Field: "in", To: s.In})
		}
	}
	o.Rewatch = s.Rewatches && field == "refresh"
	if strings.Contains(word, "fail") {
		err = errors.New("it does not work")
	}
	if strings.Contains(word, "leak") {
		err = fmt.Errorf("it does not work with %s", s.In)
	}
	if apply || err != nil || !o.Changed { // otherwise the engine applies next
		s.runs++
	}
	return o, err
}

// bell is a watch that the script rings; belfry serves it. The bell "broken" can't be
// watched until the script mends it.
type bell string

func (bell) Source() string   { return "bells" }
func (b bell) String() string { return string(b) }

type belfry struct {
	rings chan sources.Event

	mu     sync.Mutex
	counts map[string]int
	broken map[string]bool
}

func newBelfry() *belfry {
	return &belfry{rings: make(chan sources.Event), counts: map[string]int{}, broken: map[string]bool{}}
}

func (*belfry) Name() string                                { return "bells" }
func (b *belfry) Events() streams.Observable[sources.Event] { return streams.FromChan(b.rings) }

func (b *belfry) Add(w sources.Watch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken[w.String()] {
		return errors.New("the bell is broken")
	}
	b.counts[w.String()]++
	return nil
}

func (b *belfry) Remove(w sources.Watch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[w.String()]--
}

func traceRegistry(t testing.TB) *sinks.Registry {
	reg, err := sinks.NewRegistry(stepSpec)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// TestTraces runs each script of testdata/traces against its graph, in virtual time, and
// compares what happens with the trace. A script has a command a line:
//
//	load FILE   a new version of the graph
//	ring NAME   an event of that bell; "ring" alone: all bells may have rung
//	break NAME  the watch of the bell fails, and can't be begun again
//	mend NAME   it can be begun again
//	restart     the process is killed, and started again with the newest graph
//	wait TIME
//
// The comment of the archive says what is shown, and may set options: "noop",
// "parallel" (by default one thing runs at a time), "converged TIME", "state" (what has to
// survive a restart does).
func TestTraces(t *testing.T) {
	files, err := filepath.Glob("testdata/traces/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no traces", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { runTrace(t, file, ar) })
		})
	}
}

func runTrace(t *testing.T, file string, ar *txtar.Archive) {
	reg := traceRegistry(t)
	part := func(name string) []byte {
		for _, f := range ar.Files {
			if f.Name == name {
				return f.Data
			}
		}
		t.Fatal(fs.ErrNotExist, name)
		return nil
	}
	var bells *belfry
	updates := make(chan pipeline.Update)
	opts := pipeline.Options{Kinds: reg, Trace: true, MaxParallel: 1, ConvergedTimeout: time.Hour}
	for line := range strings.Lines(string(ar.Comment)) {
		switch f := append(strings.Fields(line), "", ""); f[0] {
		case "option":
			switch f[1] {
			case "noop":
				opts.Noop = true
			case "parallel":
				opts.MaxParallel = 0
			case "converged":
				opts.ConvergedTimeout, _ = time.ParseDuration(f[2])
			case "state":
				opts.State = &memory{}
			case "fights":
				opts.Fights.Repairs = 3
			}
		}
	}
	began := time.Now()
	var mu sync.Mutex
	var got []string
	var cancel context.CancelFunc
	var done chan struct{}
	start := func() {
		var ctx context.Context
		ctx, cancel = context.WithCancel(t.Context())
		bells = newBelfry()
		opts.Sources = []sources.Source{bells, timer.New()}
		done = make(chan struct{})
		go func(bells *belfry) {
			defer close(done)
			_ = pipeline.Run(streams.FromChan(updates), opts).Subscribe(ctx, func(r pipeline.Result) bool {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprintf("%-6v %s", time.Since(began).Round(time.Millisecond), traceLine(r)))
				return true
			})
		}(bells)
	}
	start()
	var newest string
	load := func() {
		g, err := pipeline.Load(newest, part(newest), reg)
		if err == nil {
			err = g.Compile(sinks.Options{})
		}
		updates <- pipeline.Update{Graph: g, Err: err}
	}
	for line := range strings.Lines(string(part("script"))) {
		f := append(strings.Fields(line), "")
		switch f[0] {
		case "load":
			newest = f[1]
			load()
		case "restart":
			cancel()
			<-done
			start()
			load()
		case "ring":
			ev := sources.Event{Source: "bells", What: "ding"}
			if f[1] != "" {
				ev.Watch = bell(f[1])
			}
			bells.rings <- ev
		case "break":
			bells.mu.Lock()
			bells.broken[f[1]] = true
			bells.mu.Unlock()
			bells.rings <- sources.Event{Source: "bells", Watch: bell(f[1]), Err: errors.New("the bell has cracked")}
		case "mend":
			bells.mu.Lock()
			bells.broken[f[1]] = false
			bells.mu.Unlock()
		case "wait":
			d, err := time.ParseDuration(f[1])
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(d)
		case "":
		default:
			t.Fatalf("unknown command %q", f[0])
		}
		synctest.Wait()
	}
	cancel()
	<-done
	sortStarts(got)
	trace := strings.Join(got, "\n") + "\n"
	for i, f := range ar.Files {
		if f.Name != "trace" {
			continue
		}
		if *updateTraces {
			ar.Files[i].Data = []byte(trace)
			if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if string(f.Data) != trace {
			t.Errorf("got\n%s\nwant\n%s", trace, f.Data)
		}
	}
}

// sortStarts brings what starts at once, and so in any order, in alphabetical order.
func sortStarts(trace []string) {
	for i := range trace {
		end := i
		for end < len(trace) && strings.HasPrefix(trace[end][7:], "start") && trace[end][:7] == trace[i][:7] {
			end++
		}
		slices.Sort(trace[i:end])
	}
}

func traceLine(r pipeline.Result) string {
	words := []string{string(r.Kind)}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if r.Vertex != nil {
		add("%s", r.Vertex)
	}
	switch r.Kind {
	case pipeline.GraphSwapped:
		add("added %d changed %d removed %d kept %d", r.Swap.Added, r.Swap.Changed, r.Swap.Removed, r.Swap.Kept)
	case pipeline.Woken:
		add("by %s", r.Event)
	case pipeline.Started:
		add("(%s)", r.Cause)
		if r.Refresh {
			add("refresh")
		}
	case pipeline.Blocked:
		add("by %s", r.By)
	case pipeline.Waiting:
		add("for %s of %s", r.Output, r.By)
	case pipeline.Flapping:
		add("after %d repairs, rests for %v (%s)", r.Count, r.RetryAfter, r.Cause)
	case pipeline.Finished:
		if r.Took > 0 {
			add("after %v", r.Took)
		}
		if r.Noop && r.Outcome.Changed {
			add("would change")
		} else if r.Outcome.Changed {
			add("changed")
		}
		for _, c := range r.Outcome.Changes {
			add("%s", c)
		}
		if r.Batch > 0 {
			add("with %d", r.Batch)
		}
		if r.Left {
			add("left")
		}
	}
	if r.Err != nil {
		add("error: %s", strings.ReplaceAll(r.Err.Error(), "\n", " | "))
	}
	if r.WillRetry {
		add("again in %v", r.RetryAfter)
	}
	return strings.Join(words, " ")
}

func TestRunFailsWithTheFirstGraph(t *testing.T) {
	want := errors.New("no such file")
	err := pipeline.Run(streams.Of(pipeline.Update{Err: want}), pipeline.Options{}).Subscribe(t.Context(), func(pipeline.Result) bool { return true })
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestStatusNamesFailuresAndWhatTheyBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &pipeline.Graph{Name: "g"}
		a := g.Add("step", "a", &stepConfig{Outcomes: []string{"fail"}})
		b := g.Add("step", "b", &stepConfig{})
		g.Add("step", "c", &stepConfig{})
		g.Connect(a, b, false)
		if err := g.Compile(sinks.Options{}); err != nil {
			t.Fatal(err)
		}
		var s pipeline.Status
		run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{ConvergedExit: true, ConvergedTimeout: time.Second})
		if err := run.Subscribe(t.Context(), func(r pipeline.Result) bool { s.Observe(r); return true }); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, err := range s.Failures() {
			got = append(got, err.Error())
		}
		want := []string{"step[a]: it does not work", "step[b]: not run, because step[a] has failed"}
		if !slices.Equal(got, want) || !s.Loaded || !s.Converged || s.Resources != 3 {
			t.Errorf("got %q, want %q; %+v", got, want, s)
		}
	})
}

func TestResyncLeavesAloneWhatActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &pipeline.Graph{Name: "g"}
		g.Add("step", "checks", &stepConfig{Watch: "x"})
		g.Add("step", "acts", &stepConfig{Watch: "x", Acts: true})
		g.Add("step", "polls", &stepConfig{Watch: "x"}, func(m *pipeline.Meta) { m.Poll = 1000 * time.Hour })
		g.Add("step", "watches nothing", &stepConfig{})
		if err := g.Compile(sinks.Options{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Hour)
		defer cancel()
		bells := &belfry{counts: map[string]int{}}
		opts := pipeline.Options{Sources: []sources.Source{bells, timer.New()}, Resync: 10 * time.Hour, ConvergedTimeout: time.Hour}
		runs := map[string]int{}
		_ = pipeline.Run(streams.Of(pipeline.Update{Graph: g}), opts).Subscribe(ctx, func(r pipeline.Result) bool {
			if r.Kind == pipeline.Finished && r.Cause.Kind == "resync" {
				runs[r.Vertex.Name]++
			}
			return true
		})
		if n := runs["checks"]; len(runs) != 1 || n < 8 || n > 10 {
			t.Errorf("runs in 95 hours with a resync each 10: %v", runs)
		}
	})
}

// memory is a State for tests in virtual time.
type memory struct {
	mu    sync.Mutex
	saved pipeline.Saved
}

func (m *memory) Load() (pipeline.Saved, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return pipeline.Saved{Refreshes: slices.Clone(m.saved.Refreshes), Reversals: slices.Clone(m.saved.Reversals)}, nil
}

func (m *memory) Save(c pipeline.StateChanges) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range slices.Concat(c.AddRefreshes, c.DropRefreshes) {
		m.saved.Refreshes = slices.DeleteFunc(m.saved.Refreshes, func(s string) bool { return s == r })
	}
	m.saved.Refreshes = append(m.saved.Refreshes, c.AddRefreshes...)
	m.saved.Reversals = slices.DeleteFunc(m.saved.Reversals, func(r pipeline.Reversal) bool {
		return slices.Contains(c.DropReversals, r.Ref()) ||
			slices.ContainsFunc(c.PutReversals, func(p pipeline.Reversal) bool { return p.Ref() == r.Ref() })
	})
	m.saved.Reversals = append(m.saved.Reversals, c.PutReversals...)
	return nil
}
