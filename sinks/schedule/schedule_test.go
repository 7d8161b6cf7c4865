package schedule_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/schedule"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

type params = map[string]any

const (
	offers   = mesh.RolePrefix
	decision = mesh.SharedPrefix + "schedule/"
)

func write(t testing.TB, store mesh.Store, ops ...mesh.Op) {
	t.Helper()
	if _, err := store.Write(t.Context(), mesh.Txn{Ops: ops}); err != nil {
		t.Fatal(err)
	}
}

// list returns what is below a prefix, in lines.
func list(t testing.TB, store mesh.Store, prefix string) string {
	t.Helper()
	all, err := store.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range all.Entries {
		lines = append(lines, fmt.Sprintf("%s %s", strings.TrimPrefix(e.Key, prefix), e.Value))
	}
	return strings.Join(lines, "\n")
}

func TestConformance(t *testing.T) {
	node := meshtest.Start(t)
	store, other := node.Store(t, "a"), node.Store(t, "b")
	for _, s := range []mesh.Store{store, other} { // which connects them, before leaks are counted
		write(t, s, mesh.Op{Key: mesh.RolePrefix + s.Host() + "/x", Bound: true}, mesh.Put(mesh.SharedPrefix+"x", nil))
	}
	remove := func(key string) func() error {
		return func() error { write(t, other, mesh.Delete(key)); return nil }
	}
	state := func() (string, error) {
		all, err := other.List(t.Context(), mesh.Root)
		return fmt.Sprint(all.Entries), err
	}
	sinktest.Run(t, schedule.Spec,
		sinktest.Case{
			Name: "an offer that is lost", Resource: "one", Mesh: store,
			Disturb: remove(offers + "a/one"), State: state,
		},
		sinktest.Case{
			Name: "a decision that is lost", Resource: "two", Mesh: store, Params: params{"role": "some/role", "max": 3, "strategy": "leastloaded", "load": "0.5\n"},
			Disturb: remove(decision + "some%2Frole"), State: state,
		},
		sinktest.Case{Name: "who looks on", Resource: "three", Mesh: store, Params: params{"namespace": "x", "offer": false}},
	)
}

func TestInvalid(t *testing.T) {
	sinktest.Invalid(t, schedule.Spec, "a", params{"max": 0}, "max: 0 is too small, expected a number of hosts")
	sinktest.Invalid(t, schedule.Spec, "a", params{"load": "inf"}, `load: "inf" is no number, expected one such as 0.5`)
	sinktest.Invalid(t, schedule.Spec, "a", params{"load": "busy"}, `load: "busy" is no number, expected one such as 0.5`)
	sinktest.Invalid(t, schedule.Spec, "a", params{"strategy": "rendezvouz"}, `did you mean "rendezvous"?`)
}

// host has a schedule of a role, and is woken as by the engine.
type host struct {
	t      *testing.T
	r      sinks.Resource
	cancel context.CancelFunc
	over   chan struct{}

	mu   sync.Mutex
	sent map[string]any
}

func newHost(t *testing.T, store mesh.Store, change func(*schedule.Config)) *host {
	t.Helper()
	cfg := schedule.Spec.New().(*schedule.Config)
	if change != nil {
		change(cfg)
	}
	r, err := cfg.Build("role", sinks.Options{Mesh: store, Shared: new(sinks.Shared)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h := &host{t: t, r: r, cancel: cancel, over: make(chan struct{})}
	go func() {
		defer close(h.over)
		_ = sources.Observe(mesh.NewSource(store), r.Watches()...).Subscribe(ctx, func(sources.Event) bool {
			out, err := r.CheckApply(ctx, true)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.sent = out.Values
			return true
		})
	}()
	t.Cleanup(h.leave)
	return h
}

// leave takes the resource out of the graph.
func (h *host) leave() {
	h.cancel()
	<-h.over
	if h.r == nil {
		return
	}
	if err := h.r.(sinks.Closer).Close(); err != nil {
		h.t.Error(err)
	}
	h.r = nil
}

// sees waits until the host sends these hosts.
func (h *host) sees(hosts string, chosen bool) {
	h.t.Helper()
	want := fmt.Sprintf("map[chosen:%v hosts:[%s]]", chosen, hosts)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		h.mu.Lock()
		got := fmt.Sprint(h.sent)
		h.mu.Unlock()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("it sends %s, want %s", got, want)
		}
	}
}

func TestHostsAgree(t *testing.T) {
	node := meshtest.Start(t)
	look := newHost(t, node.Store(t, "looker"), func(c *schedule.Config) { c.Offer = false })
	look.sees("", false)
	alphabetical := func(c *schedule.Config) { c.Strategy, c.Max = "alphabetical", 2 }
	b := newHost(t, node.Store(t, "b"), alphabetical)
	look.sees("b", false)
	c := newHost(t, node.Store(t, "c"), alphabetical)
	look.sees("b c", false)
	a := newHost(t, node.Store(t, "a"), alphabetical)
	d := newHost(t, node.Store(t, "d"), alphabetical)
	a.sees("b c", false)
	d.sees("b c", false)
	c.sees("b c", true)

	b.leave()
	for h, chosen := range map[*host]bool{look: false, a: true, c: true, d: false} {
		h.sees("c a", chosen)
	}
	b = newHost(t, node.Store(t, "b"), alphabetical) // comes back too late
	b.sees("c a", false)
	for _, h := range []*host{a, b, c, d} {
		h.leave()
	}
	look.sees("", false)
	if left := list(t, node.Store(t, "x"), offers); left != "" {
		t.Errorf("there are offers left: %s", left)
	}
}

func TestWhoDiesIsReplaced(t *testing.T) {
	node := meshtest.Start(t)
	die := node.Orphan(t, offers+"dead/role", []byte(`{"strategy":"alphabetical","max":1}`))
	write(t, node.Store(t, "x"), mesh.Put(decision+"role", []byte(`{"hosts":["dead"],"last":"dead"}`)))
	a := newHost(t, node.Store(t, "a"), nil)
	a.sees("dead", false)
	die()
	a.sees("a", true)
}

// TestManyAtOnce lets hosts come at the same time: all see the same decision in the end, and
// nobody who was chosen once is not any more.
func TestManyAtOnce(t *testing.T) {
	for _, strategy := range []string{"rendezvous", "roundrobin", "leastloaded", "alphabetical"} {
		t.Run(strategy, func(t *testing.T) {
			node := meshtest.Start(t)
			look := node.Store(t, "looker")
			var told [][]string // the decisions, one after the other
			over := make(chan struct{})
			go func() {
				defer close(over)
				_ = look.Changes(mesh.Key(decision+"role")).Subscribe(t.Context(), func(c mesh.Change) bool {
					for _, e := range c.Put {
						var d struct{ Hosts []string }
						if err := json.Unmarshal(e.Value, &d); err != nil {
							t.Error(err)
						}
						told = append(told, d.Hosts)
					}
					return len(c.Deleted) == 0
				})
			}()
			var hosts []*host
			for i := range 8 {
				hosts = append(hosts, newHost(t, node.Store(t, fmt.Sprint("h", i)), func(c *schedule.Config) { c.Strategy, c.Max = strategy, 3 }))
			}
			for _, h := range hosts {
				for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
					h.mu.Lock()
					now, _ := h.sent["hosts"].([]string)
					h.mu.Unlock()
					if len(now) == 3 && strings.Contains(list(t, look, decision), strings.Join(now, `","`)) {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("a host sees %v, but decided is %s", now, list(t, look, decision))
					}
				}
			}
			write(t, look, mesh.Delete(decision+"role"))
			<-over
			if len(told) == 0 || len(told[len(told)-1]) != 3 {
				t.Errorf("the decisions were %v", told)
			}
			for i := 1; i < len(told); i++ {
				for _, name := range told[i-1] {
					if !slices.Contains(told[i], name) {
						t.Errorf("%s was chosen and is not any more: %v", name, told)
					}
				}
			}
		})
	}
}

// TestASuccessorKeepsTheRole puts a resource in the place of another, as the engine does
// when a parameter has changed: the host never stops to offer itself.
func TestASuccessorKeepsTheRole(t *testing.T) {
	store := meshtest.New(t, "a")
	var run sinks.Shared
	build := func(load string) sinks.Resource {
		cfg := schedule.Spec.New().(*schedule.Config)
		cfg.Load = load
		r, err := cfg.Build("role", sinks.Options{Mesh: store, Shared: &run})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	apply := func(r sinks.Resource) {
		t.Helper()
		if _, err := r.CheckApply(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	closed := func(r sinks.Resource) {
		t.Helper()
		if err := r.(sinks.Closer).Close(); err != nil {
			t.Fatal(err)
		}
	}
	offer := func() mesh.Entry {
		e, _, err := store.Get(t.Context(), offers+"a/role")
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	one, two := build("1"), build("2")
	one.Watches()
	apply(one)
	before := offer()
	two.Watches()
	closed(one)
	apply(two)
	if after := offer(); after.Created != before.Created || string(after.Value) != `{"strategy":"rendezvous","max":1,"load":2}` || !after.Bound {
		t.Errorf("the offer is %+v, was %+v", after, before)
	}
	closed(build("3")) // one that has never run
	if offer().Created != before.Created {
		t.Error("the offer is withdrawn by a resource that has not made it")
	}
	closed(two)
	if e := offer(); e.Created != 0 {
		t.Errorf("the offer is there still: %+v", e)
	}
}

// TestWhatOthersWrite looks at a mesh in which stands what no schedule has written.
func TestWhatOthersWrite(t *testing.T) {
	node := meshtest.Start(t)
	store := node.Store(t, "b")
	write(t, node.Store(t, "a"),
		mesh.Put(decision+"role", []byte("nonsense")), mesh.Put(decision+"another", []byte("[]")),
		mesh.Put(offers+"a/role", []byte("{")), mesh.Put(offers+"stray", nil), mesh.Put(offers+"c/another", []byte("{}")))
	h := newHost(t, store, func(c *schedule.Config) { c.Strategy, c.Load = "leastloaded", "-1" })
	h.sees("b", true)
}

func TestChangesAreTold(t *testing.T) {
	node := meshtest.Start(t)
	store := node.Store(t, "a")
	build := func(strategy string) sinks.Resource {
		r, err := (&schedule.Config{Strategy: strategy, Max: 1, Offer: true}).Build("role", sinks.Options{Mesh: store, Shared: new(sinks.Shared)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r, again := build("alphabetical"), build("roundrobin")
	for _, step := range []struct {
		name  string
		r     sinks.Resource
		apply bool
		do    func()
		want  string
	}{
		{"a check", r, false, nil, "[offer: none -> alphabetical, max 1 hosts: \"\" -> a]"},
		{"a check has done nothing", r, true, nil, "[offer: none -> alphabetical, max 1 hosts: \"\" -> a]"},
		{"all is right", r, true, nil, "[]"},
		{"others have decided", r, true, func() {
			write(t, store, mesh.Put(offers+"b/role", []byte(`{"strategy":"alphabetical","max":1}`)), mesh.Put(decision+"role", []byte(`{"hosts":["b"],"last":"b"}`)))
		}, "[hosts: a -> b]"},
		{"it is told once", r, true, nil, "[]"},
		{"another strategy", again, true, nil, "[offer: alphabetical, max 1 -> roundrobin, max 1]"},
		{"the other host goes", again, true, func() { write(t, store, mesh.Delete(offers+"b/role")) }, "[hosts: b -> a]"},
	} {
		if step.do != nil {
			step.do()
		}
		out, err := step.r.CheckApply(t.Context(), step.apply)
		if got := fmt.Sprint(out.Changes); err != nil || got != step.want || out.Changed != (got != "[]") {
			t.Errorf("%s: %s, %v, want %s", step.name, got, err, step.want)
		}
	}
}

func TestWithoutAMesh(t *testing.T) {
	r, err := schedule.Spec.New().Build("role", sinks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Watches(); w != nil {
		t.Errorf("it watches %v", w)
	}
	for _, apply := range []bool{false, true} {
		if _, err := r.CheckApply(t.Context(), apply); !errors.Is(err, sinks.ErrNoMesh) {
			t.Errorf("got %v", err)
		}
	}
	if err := r.(sinks.Closer).Close(); err != nil {
		t.Error(err)
	}
}

// TestTheMeshGoesAway ends a resource when the mesh can't be reached.
func TestTheMeshGoesAway(t *testing.T) {
	node := meshtest.Start(t)
	r, err := schedule.Spec.New().Build("role", sinks.Options{Mesh: node.Store(t, "a"), Shared: new(sinks.Shared)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	node.Stop()
	began := time.Now()
	err = r.(sinks.Closer).Close()
	if !errors.Is(err, mesh.ErrUnreachable) || !strings.HasPrefix(err.Error(), "this host offers itself for the role role until it leaves the mesh: ") || time.Since(began) > 5*time.Second {
		t.Errorf("after %v it says %v", time.Since(began), err)
	}
}
