package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
	"github.com/mgmtproject/mgmt/streams"
)

// room is where no more than some may be at once. It is shared by hosts of a test.
type room struct {
	mu      sync.Mutex
	inside  []string // who is in it, in the order in which they came
	most    int
	visits  []string
	changed chan struct{}
}

func newRoom() *room { return &room{changed: make(chan struct{})} }

func (r *room) enter(who string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside, r.visits = append(r.inside, who), append(r.visits, who)
	r.most = max(r.most, len(r.inside))
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *room) leave(who string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside = slices.DeleteFunc(r.inside, func(w string) bool { return w == who })
	close(r.changed)
	r.changed = make(chan struct{})
}

// waitFor waits until the visits are these.
func (r *room) waitFor(t *testing.T, visits string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		now, changed := strings.Join(r.visits, " "), r.changed
		r.mu.Unlock()
		if now == visits {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("there were the visits %q, want %q", now, visits)
		}
	}
}

// visitor is a kind that goes into a room.
type visitor struct {
	Text string `param:"text"`

	who  string
	room *room
	stay <-chan struct{}      // until it is closed
	poll func() time.Duration // or for so long
}

func (v *visitor) Build(string, sinks.Options) (sinks.Resource, error) { return visiting{v}, nil }

type visiting struct{ *visitor }

func (visiting) Watches() []sources.Watch { return nil }

func (v visiting) CheckApply(ctx context.Context, _ bool) (sinks.Outcome, error) {
	v.room.enter(v.who)
	defer v.room.leave(v.who)
	if v.poll != nil {
		time.Sleep(v.poll())
		return sinks.Outcome{}, nil
	}
	select {
	case <-v.stay:
		return sinks.Outcome{}, nil
	case <-ctx.Done():
		return sinks.Outcome{}, context.Cause(ctx)
	}
}

// member is a host that runs graphs.
type member struct {
	t       *testing.T
	store   mesh.Store
	updates chan pipeline.Update
	cancel  context.CancelFunc
	over    chan struct{}
	log     *safeBuffer

	mu     sync.Mutex
	ends   []string // of CheckApplys
	counts int
}

// safeBuffer is a log that may be read while it is written.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newMember(t *testing.T, store mesh.Store) *member {
	ctx, cancel := context.WithCancel(t.Context())
	m := &member{t: t, store: store, updates: make(chan pipeline.Update), cancel: cancel, over: make(chan struct{}), log: &safeBuffer{}}
	opts := pipeline.Options{ConvergedTimeout: time.Hour, Log: slog.New(slog.NewTextHandler(m.log, nil))}
	if store != nil {
		opts.Sources = []sources.Source{mesh.NewSource(store)}
	}
	go func() {
		defer close(m.over)
		err := pipeline.Run(streams.FromChan(m.updates), opts).Subscribe(ctx, func(r pipeline.Result) bool {
			if r.Kind == pipeline.Finished {
				m.mu.Lock()
				m.ends = append(m.ends, fmt.Sprint(r.Vertex, " ", r.Err))
				m.counts++
				m.mu.Unlock()
			}
			return true
		})
		if err != nil && ctx.Err() == nil {
			t.Errorf("the run has failed: %v", err)
		}
	}()
	t.Cleanup(m.stop)
	return m
}

func (m *member) stop() {
	m.cancel()
	select {
	case <-m.over:
	case <-time.After(20 * time.Second):
		m.t.Error("the run does not end")
	}
}

// load puts a graph of visitors in force: each "name semaphore semaphore...".
func (m *member) load(r *room, stay <-chan struct{}, visitors ...string) {
	m.t.Helper()
	g := &pipeline.Graph{Name: "g"}
	for _, text := range visitors {
		words := strings.Fields(text)
		g.Add("visitor", words[0], &visitor{who: words[0], room: r, stay: stay}, func(meta *pipeline.Meta) { meta.Sema = words[1:] })
	}
	m.run(g)
}

func (m *member) run(g *pipeline.Graph) {
	m.t.Helper()
	if err := g.Compile(sinks.Options{Mesh: m.store}); err != nil {
		m.t.Fatal(err)
	}
	m.updates <- pipeline.Update{Graph: g}
}

// queued waits until so many keys stand in the lines of all semaphores.
func queued(t *testing.T, store mesh.Store, count int) []mesh.Entry {
	t.Helper()
	var now []mesh.Entry
	eventually(t, fmt.Sprintf("%d are in line", count), func() bool {
		list, err := store.List(t.Context(), mesh.HoldPrefix)
		if err != nil {
			t.Fatal(err)
		}
		now = list.Entries
		return len(now) == count
	})
	return now
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// leavesNothing looks for goroutines that are left when the test ends.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func TestHostsTakeTheirTurnsInOrder(t *testing.T) {
	leavesNothing(t)
	node, r := meshtest.Start(t), newRoom()
	var gates []chan struct{}
	look := node.Store(t, "looker")
	var last *member
	for i, host := range []string{"c", "a", "b"} {
		gates = append(gates, make(chan struct{}))
		last = newMember(t, node.Store(t, host))
		last.load(r, gates[i], host+" mesh:door")
		queued(t, look, i+1)
	}
	r.waitFor(t, "c")
	eventually(t, "the log tells of the wait", func() bool {
		return strings.Contains(last.log.String(), `msg="waits for other hosts" res=visitor[b] semaphore=mesh:door "held by"=c`)
	})
	close(gates[0])
	r.waitFor(t, "c a")
	close(gates[1])
	r.waitFor(t, "c a b")
	close(gates[2])
	queued(t, look, 0)
	if r.most != 1 {
		t.Errorf("%d were in the room at once", r.most)
	}
}

// TestNoMoreThanCountAtOnce has hosts that take two semaphores in any order, of which one
// is named with different counts.
func TestNoMoreThanCountAtOnce(t *testing.T) {
	leavesNothing(t)
	node := meshtest.Start(t)
	rooms := map[string]*room{"door": newRoom(), "gate": newRoom()}
	const hosts, each = 3, 6
	var members []*member
	for h := range hosts {
		g := &pipeline.Graph{Name: "g"}
		for i := range each {
			name := fmt.Sprintf("%c%d", 'a'+h, i)
			semas := [][]string{{"mesh:door:2", "mesh:gate"}, {"mesh:gate", "mesh:door"}, {"mesh:door", "mesh:gate", "local"}}[(h+i)%3]
			g.Add("visitor", name, &visitor{who: name, room: rooms["door"], poll: func() time.Duration {
				rooms["gate"].enter(name)
				defer rooms["gate"].leave(name)
				time.Sleep(rand.N(3 * time.Millisecond))
				return 0
			}}, func(meta *pipeline.Meta) { meta.Sema = semas })
			other := name + "x"
			g.Add("visitor", other, &visitor{who: other, room: rooms["door"], poll: func() time.Duration { return rand.N(3 * time.Millisecond) }},
				func(meta *pipeline.Meta) { meta.Sema = []string{"mesh:door:2"} })
		}
		m := newMember(t, node.Store(t, string(rune('a'+h))))
		members = append(members, m)
		m.run(g)
	}
	for _, m := range members {
		eventually(t, "all have had their turn", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.counts == 2*each
		})
	}
	queued(t, node.Store(t, "looker"), 0)
	if door, gate := rooms["door"].most, rooms["gate"].most; door != 2 || gate != 1 {
		t.Errorf("%d were in the room of 2 at once, and %d in that of 1", door, gate)
	}
}

func TestWhoDiesGivesUpItsTurn(t *testing.T) {
	leavesNothing(t)
	node, r, stay := meshtest.Start(t), newRoom(), make(chan struct{})
	store := node.Store(t, "a")
	die := node.Orphan(t, mesh.HoldPrefix+"dead/door/exec%5Bx%5D", []byte(`{"count":1}`))
	m := newMember(t, store)
	m.load(r, stay, "a mesh:door")
	queued(t, store, 2)
	if len(r.visits) != 0 {
		t.Errorf("in the room: %v", r.visits)
	}
	die()
	r.waitFor(t, "a")
	close(stay)
	queued(t, store, 0)
}

func TestAHoldIsKeptOverASwap(t *testing.T) {
	leavesNothing(t)
	node, r, stay, gate := meshtest.Start(t), newRoom(), make(chan struct{}), make(chan struct{})
	look := node.Store(t, "looker")
	a, b := newMember(t, node.Store(t, "a")), newMember(t, node.Store(t, "b"))
	a.load(r, stay, "a mesh:door")
	r.waitFor(t, "a")
	b.load(r, gate, "b mesh:door")
	before := queued(t, look, 2)

	// A resource that stays goes on, and one that waits and has left gives up its turn.
	g := &pipeline.Graph{Name: "g"}
	g.Add("visitor", "a", &visitor{who: "a", room: r, stay: stay}, func(meta *pipeline.Meta) { meta.Sema = []string{"mesh:door"} })
	g.Add("visitor", "second", &visitor{who: "second", room: r, stay: stay}, func(meta *pipeline.Meta) { meta.Sema = []string{"mesh:door"} })
	a.run(g)
	queued(t, look, 3)
	a.load(r, stay, "a mesh:door")
	if after := queued(t, look, 2); after[0].Revision != before[0].Revision {
		t.Errorf("the hold was taken anew: %+v, before %+v", after, before)
	}
	close(stay)
	r.waitFor(t, "a b")

	// One that runs and has left is stopped, and gives back what it holds.
	b.load(r, gate)
	queued(t, look, 0)
}

// TestTheMeshGoesAwayAndComesBack stops the node while somebody waits, and while somebody
// is done.
func TestTheMeshGoesAwayAndComesBack(t *testing.T) {
	leavesNothing(t)
	node, r, stay, gate := meshtest.Start(t), newRoom(), make(chan struct{}), make(chan struct{})
	a, b := newMember(t, node.Store(t, "a")), newMember(t, node.Store(t, "b"))
	a.load(r, stay, "a mesh:door")
	r.waitFor(t, "a")
	node.Stop()
	b.load(r, gate, "b mesh:door") // who comes when there is no mesh
	close(stay)                    // what can't be given back now is later
	eventually(t, "the first one is done", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return slices.Equal(a.ends, []string{"visitor[a] <nil>"})
	})
	eventually(t, "the log tells of the wait", func() bool {
		return strings.Contains(b.log.String(), `msg="waits for the mesh" res=visitor[b] semaphore=mesh:door`)
	})
	if err := node.Restart(); err != nil {
		t.Fatal(err)
	}
	r.waitFor(t, "a b")
	close(gate)
	queued(t, node.Store(t, "looker"), 0)
}

// TestWhoHasLostItsPlaceGetsInLineAgain takes away a key of somebody who waits for two
// semaphores, as the end of its lease would: it then has one place for both again.
func TestWhoHasLostItsPlaceGetsInLineAgain(t *testing.T) {
	leavesNothing(t)
	node, r, stay, gate := meshtest.Start(t), newRoom(), make(chan struct{}), make(chan struct{})
	look := node.Store(t, "looker")
	a, b := newMember(t, node.Store(t, "a")), newMember(t, node.Store(t, "b"))
	a.load(r, stay, "a mesh:door mesh:gate")
	r.waitFor(t, "a")
	b.load(r, gate, "b mesh:door mesh:gate")
	before := queued(t, look, 4)
	i := slices.IndexFunc(before, func(e mesh.Entry) bool { return strings.HasPrefix(e.Key, mesh.HoldPrefix+"b/") })
	if _, err := node.Client(t).Delete(t.Context(), before[i].Key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both keys are new", func() bool {
		now := queued(t, look, 4)
		return now[i].Created > before[i].Created && now[i].Created == now[i+1].Created
	})

	// Who holds one that is lost is told, and goes on.
	if _, err := node.Client(t).Delete(t.Context(), before[0].Key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log tells of it", func() bool {
		return strings.Contains(a.log.String(), `msg="the mesh has lost sight of this host, so others may run at the same time" res=visitor[a] semaphore=mesh:door`)
	})
	close(stay)
	r.waitFor(t, "a b")
	close(gate)
	queued(t, look, 0)
}

func TestASemaphoreOfTheMeshNeedsOne(t *testing.T) {
	leavesNothing(t)
	m := newMember(t, nil)
	m.load(newRoom(), nil, "a mesh:door:3 mesh:gate")
	want := "visitor[a] the semaphore mesh:door is one of the mesh: " + sinks.ErrNoMesh.Error()
	eventually(t, "it fails", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return slices.Equal(m.ends, []string{want})
	})
}

func TestNamesOfSemaphores(t *testing.T) {
	for _, tt := range []struct {
		name, sema, want string
	}{
		{"one of this host", "disk:2", ""},
		{"one of the mesh", "mesh:disk", ""},
		{"one of the mesh with a count", "mesh:disk:2", ""},
		{"one of this host that is called mesh", "mesh:2", ""},
		{"no count", "mesh:disk:", `sema: "mesh:disk:" is not a semaphore, expected "id" or "id:count" with a count of 1 or more`},
		{"nobody gets in", "mesh:disk:0", `sema: "mesh:disk:0" is not a semaphore, expected "id" or "id:count" with a count of 1 or more`},
		{"one of the mesh without a name", "mesh:", `sema: the name of a semaphore is empty, expected "id" or "id:count"`},
		{"a count without a name", "mesh::2", `sema: the name of a semaphore is empty, expected "id" or "id:count"`},
	} {
		meta := pipeline.DefaultMeta()
		meta.Sema = []string{tt.sema}
		err := meta.Validate()
		if got := fmt.Sprint(errors.Join(err)); tt.want == "" && err != nil || tt.want != "" && got != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// BenchmarkMeshSemaphore takes one that nobody else wants, and gives it back.
func BenchmarkMeshSemaphore(b *testing.B) {
	store := meshtest.New(b, "a")
	var done atomic.Int64
	updates := make(chan pipeline.Update)
	ctx, cancel := context.WithCancel(b.Context())
	finished := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = pipeline.Run(streams.FromChan(updates), pipeline.Options{ConvergedTimeout: time.Hour}).Subscribe(ctx, func(r pipeline.Result) bool {
			if r.Kind == pipeline.Finished {
				done.Add(1)
				finished <- struct{}{}
			}
			return true
		})
	}()
	n := 0
	for b.Loop() {
		n++
		g := &pipeline.Graph{Name: "g"}
		g.Add("visitor", "a", &visitor{Text: fmt.Sprint(n), who: "a", room: newRoom(), poll: func() time.Duration { return 0 }},
			func(meta *pipeline.Meta) { meta.Sema = []string{"mesh:door"} })
		if err := g.Compile(sinks.Options{Mesh: store}); err != nil {
			b.Fatal(err)
		}
		updates <- pipeline.Update{Graph: g}
		<-finished
	}
	cancel()
	<-over
}
