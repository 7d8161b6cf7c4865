package mesh_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
	"github.com/mgmtproject/mgmt/streams"
)

// listen subscribes to the events of source until the test ends.
func listen(t *testing.T, source sources.Source) <-chan sources.Event {
	t.Helper()
	events := make(chan sources.Event, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := source.Events().Subscribe(ctx, func(e sources.Event) bool { events <- e; return true }); !errors.Is(err, context.Canceled) {
			t.Errorf("the subscription ended with %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return events
}

func next(t *testing.T, events <-chan sources.Event) sources.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event has come")
		panic("unreachable")
	}
}

func write(t *testing.T, s mesh.Store, ops ...mesh.Op) int64 {
	t.Helper()
	rev, err := s.Write(t.Context(), mesh.Txn{Ops: ops})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestAWatchFiresAtFirstAndAtEachChange(t *testing.T) {
	store := meshtest.New(t, "a")
	source := mesh.NewSource(store)
	for _, w := range []mesh.Watch{mesh.Key("/x/1"), mesh.Key("/x/1"), mesh.Below("/x/")} {
		if err := source.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	source.Remove(mesh.Key("/x/1")) // it was added twice
	events := listen(t, source)
	first := []string{next(t, events).String(), next(t, events).String()}
	if got := strings.Join(first, ", "); got != "mesh /x/1 reset, mesh /x/... reset" && got != "mesh /x/... reset, mesh /x/1 reset" {
		t.Errorf("got %s", got)
	}
	write(t, store, mesh.Put("/x/2", nil), mesh.Put("/y", nil))
	if got := next(t, events).String(); got != "mesh /x/... put" {
		t.Errorf("got %s", got)
	}
	source.Remove(mesh.Below("/x/"))
	write(t, store, mesh.Put("/x/1", nil), mesh.Put("/x/2", []byte("v")))
	if got := next(t, events).String(); got != "mesh /x/1 put" {
		t.Errorf("got %s", got)
	}
	write(t, store, mesh.Delete("/x/1"))
	if got := next(t, events).String(); got != "mesh /x/1 delete" {
		t.Errorf("got %s", got)
	}
}

func TestAWatchFiresWhenTheMeshComesBack(t *testing.T) {
	node := meshtest.Start(t)
	source := mesh.NewSource(node.Store(t, "a"))
	node.Stop()
	if err := source.Add(mesh.Key("/x")); err != nil {
		t.Fatal(err)
	}
	events := listen(t, source)
	if err := node.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := next(t, events).String(); got != "mesh /x reset" {
		t.Errorf("got %s", got)
	}
}

func TestASourceCanBeUsedAnew(t *testing.T) {
	source := mesh.NewSource(meshtest.New(t, "a"))
	for range 2 {
		n := 0
		for e, err := range sources.Observe(source, mesh.Key("/x")).Seq(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; e.What != "reset" {
				t.Errorf("got %v", e)
			}
			break
		}
		if n != 1 {
			t.Errorf("got %d events", n)
		}
	}
}

func TestWhatCannotBeWatched(t *testing.T) {
	store := failing{changes: func() error { return nil }}
	for _, tt := range []struct {
		name  string
		store mesh.Store
		watch sources.Watch
		want  string
	}{
		{"a watch of another source", store, sources.Interval{Every: time.Second}, "sources.Interval is not a watch of the source mesh"},
		{"no key", store, mesh.Below(""), "a watch of the mesh has no key"},
		{"no mesh", nil, mesh.Key("/x"), "this run takes part in no mesh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := mesh.NewSource(tt.store).Add(tt.watch); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// failing is a store whose watches say they have begun, and end.
type failing struct {
	mesh.Store
	changes func() error
}

func (f failing) Changes(mesh.Watch) streams.Observable[mesh.Change] {
	return streams.New(func(_ context.Context, emit func(mesh.Change) bool) error {
		emit(mesh.Change{Reset: true})
		return f.changes()
	})
}

func TestAWatchThatFailsCanBeAddedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := true
		source := mesh.NewSource(failing{changes: func() error {
			if refused {
				return mesh.ErrRefused
			}
			return nil
		}})
		events := listen(t, source)
		w := mesh.Key("/x")
		for range 2 { // two who want to know
			if err := source.Add(w); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for len(events) > 1 {
			<-events
		}
		if e := next(t, events); !errors.Is(e.Err, mesh.ErrRefused) {
			t.Errorf("got %v, want the refusal", e)
		}
		refused = false
		source.Remove(w)
		if err := source.Add(w); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for len(events) > 1 {
			<-events
		}
		if e := next(t, events); e.Err == nil || e.Err.Error() != "the mesh has ended the watch" {
			t.Errorf("got %v, want another failure", e)
		}
		source.Remove(w)
		source.Remove(w)
		source.Remove(w) // once too often
	})
}
