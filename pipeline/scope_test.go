package pipeline_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
	"github.com/mgmtproject/mgmt/streams"
)

// runner is a host that runs its graph until the whole mesh has converged.
type runner struct {
	host  string
	in    chan pipeline.Update
	ended chan error

	mu  sync.Mutex
	got []pipeline.Result
}

func runTogether(ctx context.Context, p *party) *runner {
	return runParty(ctx, p, pipeline.Options{Trace: true, ConvergedTimeout: 50 * time.Millisecond, Kinds: p.options.Kinds})
}

func runParty(ctx context.Context, p *party, options pipeline.Options) *runner {
	m := &runner{host: p.host, in: p.in, ended: make(chan error, 1)}
	x := pipeline.NewExchange(p.options)
	results := x.Results(pipeline.Run(x.Graphs(streams.FromChan(m.in)), options))
	go func() {
		m.ended <- results.Subscribe(ctx, func(r pipeline.Result) bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.got = append(m.got, r)
			return true
		})
	}()
	return m
}

func (m *runner) kinds(kind pipeline.Kind) (list []pipeline.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.got {
		if r.Kind == kind {
			list = append(list, r)
		}
	}
	return list
}

// wait waits for the end of the run.
func (m *runner) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-m.ended:
		return err
	case <-time.After(inTime):
		t.Fatalf("%s does not end", m.host)
		return nil
	}
}

func together(o *pipeline.ExchangeOptions) { o.Together = true }

// partyOf is a party that does not run by itself.
func partyOf(t testing.TB, store mesh.Store, host string, change ...func(*pipeline.ExchangeOptions)) *party {
	p := join(t, store, host, change...)
	p.stop()
	return p
}

func (p *party) update(text string) pipeline.Update {
	p.t.Helper()
	g, err := pipeline.Load(p.host+".yaml", []byte(text), p.options.Kinds)
	if err == nil {
		err = g.Compile(sinks.Options{})
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return pipeline.Update{Graph: g}
}

func TestAMeshConvergesTogether(t *testing.T) {
	noLeaks(t)
	node := meshtest.Start(t)
	const takes = 700 * time.Millisecond
	begin := time.Now()
	var members []*runner
	var stores []*meshtest.Store
	for _, host := range []string{"a", "b", "c"} {
		text := fmt.Sprintf("graph: g\nresources: {step: [{name: own}, {name: '@@%s', in: %s}]}\ncollect: [{kind: step}]\n", host, host)
		if host == "c" { // what it exports is known at once, but it is busy for longer
			text = strings.Replace(text, "{name: own}", fmt.Sprintf("{name: own, takes: %d}", takes.Milliseconds()), 1)
		}
		store := node.Store(t, host)
		stores = append(stores, store)
		p := partyOf(t, store, host, together)
		m := runTogether(t.Context(), p)
		m.in <- p.update(text)
		members = append(members, m)
	}
	for _, m := range members {
		if err := m.wait(t); err != nil {
			t.Errorf("%s: %v", m.host, err)
		}
		if took := time.Since(begin); took < takes {
			t.Errorf("%s has ended after %v, while c was busy for %v", m.host, took, takes)
		}
		done := map[string]bool{}
		for _, r := range m.kinds(pipeline.Finished) {
			done[r.Vertex.String()] = true
		}
		for _, want := range []string{"step[own]", "step[a]", "step[b]", "step[c]"} {
			if !done[want] {
				t.Errorf("%s has ended without %s", m.host, want)
			}
		}
		for _, r := range m.kinds(pipeline.Answered) {
			t.Errorf("%s was told an answer %d", m.host, r.Count)
		}
	}

	for _, store := range stores {
		if err := store.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}

	t.Log("a decision of before does not end another run")
	p := partyOf(t, node.Store(t, "c"), "c", together)
	m := runTogether(t.Context(), p)
	m.in <- p.update("graph: g\nresources: {step: [{name: own, takes: 500}]}\n")
	begin = time.Now()
	if err := m.wait(t); err != nil || time.Since(begin) < 400*time.Millisecond {
		t.Error(err, time.Since(begin))
	}
}

// What one host has found out only at the end has come into force on the others before
// any of them ends.
func TestNobodyEndsWhileSomethingIsOnItsWay(t *testing.T) {
	noLeaks(t)
	for round := range 8 {
		node := meshtest.Start(t)
		starter := node.Store(t, "starter") // who is busy until all have joined
		write(t, starter, mesh.Put(mesh.QuietPrefix+"starter", []byte(`{}`)))
		options := pipeline.Options{Trace: true}
		var members []*runner
		for _, host := range []string{"a", "b", "c"} {
			p := partyOf(t, node.Store(t, host), host, together)
			options.Kinds = p.options.Kinds
			m := runParty(t.Context(), p, options)
			text := "graph: g\ncollect: [{kind: step}]\n"
			if host == "b" {
				text += fmt.Sprintf("resources: {step: [{name: slow, takes: %d, values: [late]}, {name: '@@x', in: {from: 'step[slow]'}}]}\n", 20*round)
			}
			m.in <- p.update(text)
			members = append(members, m)
		}
		for joined := 0; joined < 4; time.Sleep(time.Millisecond) {
			list, err := starter.List(t.Context(), mesh.QuietPrefix)
			if err != nil {
				t.Fatal(err)
			}
			joined = len(list.Entries)
		}
		write(t, starter, mesh.Delete(mesh.QuietPrefix+"starter"))
		for _, m := range members {
			if err := m.wait(t); err != nil {
				t.Errorf("%s: %v", m.host, err)
			}
			// The export of b is for b, too.
			last := m.kinds(pipeline.Finished)
			if len(last) == 0 || last[len(last)-1].Vertex.String() != "step[x]" {
				t.Errorf("round %d: %s has ended before step[x] came: %v", round, m.host, last)
			}
		}
	}
}

func write(t *testing.T, store mesh.Store, ops ...mesh.Op) {
	t.Helper()
	if _, err := store.Write(t.Context(), mesh.Txn{Ops: ops}); err != nil {
		t.Fatal(err)
	}
}
