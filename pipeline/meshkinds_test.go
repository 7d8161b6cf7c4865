package pipeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/kv"
	"github.com/mgmtproject/mgmt/sinks/schedule"
	"github.com/mgmtproject/mgmt/sinks/value"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

// roleGraph has a role, for which the host tells its load.
func roleGraph(load string) *pipeline.Graph {
	g := &pipeline.Graph{Name: "g"}
	cfg := schedule.Spec.New().(*schedule.Config)
	cfg.Strategy = "leastloaded"
	from := g.Add("value", "load", &value.Config{Value: &load})
	to := g.Add("schedule", "role", cfg)
	g.Send(from, "value", to, "load")
	return g
}

// TestALoadThatChangesMovesNoRole runs a host whose resource is built anew with each load
// that it receives, and one that would take the role at once.
func TestALoadThatChangesMovesNoRole(t *testing.T) {
	leavesNothing(t)
	node := meshtest.Start(t)
	look := node.Store(t, "looker")
	a, b := newMember(t, node.Store(t, "a")), newMember(t, node.Store(t, "b"))
	const decision, offer = mesh.SharedPrefix + "schedule/role", mesh.RolePrefix + "a/role"
	holds := func(key, part string) func() bool {
		return func() bool {
			e, _, err := look.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Contains(string(e.Value), part)
		}
	}
	a.run(roleGraph("1"))
	eventually(t, "a is chosen", holds(decision, `"a"`))
	b.run(roleGraph("0"))
	eventually(t, "b offers itself", holds(mesh.RolePrefix+"b/role", "leastloaded"))
	before, _, err := look.Get(t.Context(), offer)
	if err != nil {
		t.Fatal(err)
	}
	for _, load := range []string{"2", "3", "4"} {
		a.run(roleGraph(load))
		eventually(t, "the load is known", holds(offer, `"load":`+load))
	}
	after, _, err := look.Get(t.Context(), offer)
	if d, _, _ := look.Get(t.Context(), decision); err != nil || after.Created != before.Created || !strings.Contains(string(d.Value), `["a"]`) {
		t.Errorf("the offer is %+v, was %+v; decided is %s, %v", after, before, d.Value, err)
	}

	// Without the resource the host does not offer itself any more.
	a.run(&pipeline.Graph{Name: "g"})
	eventually(t, "b is chosen", holds(decision, `"b"`))
	b.stop()
	eventually(t, "nobody offers itself when the run is over", func() bool {
		list, err := look.List(t.Context(), mesh.RolePrefix)
		return err == nil && len(list.Entries) == 0
	})
}

// TestAKeyReachesOtherHosts sets a key on one host, and sees it arrive where another follows it.
func TestAKeyReachesOtherHosts(t *testing.T) {
	leavesNothing(t)
	node, r := meshtest.Start(t), newRoom()
	a, b := newMember(t, node.Store(t, "a")), newMember(t, node.Store(t, "b"))
	g := &pipeline.Graph{Name: "g"}
	from := g.Add("kv", "colour", &kv.Config{Follow: true})
	g.Send(from, "value", g.Add("echo", "it", &echo{room: r}), "text")
	b.run(g)
	eventually(t, "who follows the key has looked", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.Contains(b.ends, "kv[colour] <nil>")
	})
	var want []string
	var took []time.Duration
	for i := range 20 {
		text := fmt.Sprint("value", i)
		g := &pipeline.Graph{Name: "g"}
		g.Add("kv", "colour", &kv.Config{Value: &text})
		want = append(want, text)
		began := time.Now()
		a.run(g)
		r.waitFor(t, strings.Join(want, " "))
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("from a new graph on one host to the receiver on another: %v at the median", took[len(took)/2])
}

// echo is a kind that tells what it has received.
type echo struct {
	Text string `param:"text"`
	room *room
}

func (e *echo) Build(string, sinks.Options) (sinks.Resource, error) {
	return visiting{&visitor{who: e.Text, room: e.room, poll: func() time.Duration { return 0 }}}, nil
}

// TestAPlanHasNoMesh foretells what it can.
func TestAPlanHasNoMesh(t *testing.T) {
	g := &pipeline.Graph{Name: "g"}
	g.Add("kv", "key", &kv.Config{})
	g.Add("schedule", "role", schedule.Spec.New())
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	f, err := pipeline.Plan(t.Context(), g, pipeline.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Steps {
		if s.State != pipeline.StepFailed || s.Err.Error() != "it needs the mesh, and there is none here: a run of mgmt is part of one, a plan is not" {
			t.Errorf("%s: %s, %v", s.Ref(), s.State, s.Err)
		}
	}
}
