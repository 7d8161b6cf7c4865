package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// meshMark begins the name of a semaphore that all hosts of the mesh share.
const meshMark = "mesh:"

const (
	// semaLimit is how long it is tried to take or give back a semaphore of the mesh. It is
	// tried again after semaAgain, and to give it back beside everything else.
	semaLimit = 2 * time.Second
	semaAgain = time.Second

	// tellAfter is how long a resource waits for others before the log says so.
	tellAfter = 2 * time.Second
)

// meshSemaphore is one that a resource names.
type meshSemaphore struct {
	name  string
	count int
}

// meshSemaphores are those of Meta.Sema that are of the mesh.
func meshSemaphores(sema []string) []meshSemaphore {
	var list []meshSemaphore
	for _, text := range sema {
		id, count, _ := parseSema(text) // Validate has seen it
		name, ok := strings.CutPrefix(id, meshMark)
		if ok && !slices.ContainsFunc(list, func(s meshSemaphore) bool { return s.name == name }) {
			list = append(list, meshSemaphore{name, count})
		}
	}
	return list
}

// holding takes semaphores of the mesh for the units of a run.
//
// Who wants some writes a key bound to its host for each, all at once, and has its turn
// with as many others as the semaphore counts, in the order in which the keys came into
// being: so all hosts see the same queue. The order is the same for all semaphores, and so
// nobody waits for one who waits for it. What the watch shows may be old, but with a key it
// also shows all older ones that are there.
type holding struct {
	log *slog.Logger
	run sync.WaitGroup // the watch, and payback

	mu      sync.Mutex
	users   int                        // who waits or holds
	stop    context.CancelFunc         // of the watch
	lines   map[string]map[string]turn // what the watch shows: by semaphore and key
	shown   int64                      // the revision of that
	held    map[string]*ticket         // by key
	changed chan struct{}              // closed when lines or err are others
	err     error                      // what has ended the watch

	paying sync.Mutex            // held while keys are deleted that are owed
	owed   map[string]mesh.Store // keys that could not be deleted
	over   context.CancelFunc    // of payback; nil when it does not run
}

// turn is a key of somebody who holds a semaphore or waits for it.
type turn struct {
	host, key string
	count     int
	created   int64
}

func newHolding(log *slog.Logger) *holding {
	return &holding{
		log: log, lines: map[string]map[string]turn{}, held: map[string]*ticket{}, changed: make(chan struct{}),
		owed: map[string]mesh.Store{},
	}
}

// take waits until the resource holds all the semaphores, or ctx is done. The caller
// releases the ticket, unless there is an error.
func (h *holding) take(ctx context.Context, store mesh.Store, ref string, semaphores []meshSemaphore) (*ticket, error) {
	if store == nil {
		return nil, fmt.Errorf("the semaphore %s%s is one of the mesh: %w", meshMark, semaphores[0].name, sinks.ErrNoMesh)
	}
	t := &ticket{h: h, store: store, log: h.log.With("res", ref), semaphores: semaphores}
	for _, s := range semaphores {
		t.keys = append(t.keys, mesh.HoldPrefix+store.Host()+"/"+url.PathEscape(s.name)+"/"+url.PathEscape(ref))
	}
	h.paying.Lock()
	for _, key := range t.keys {
		delete(h.owed, key)
	}
	h.paying.Unlock()
	if err := t.wait(ctx); err != nil {
		t.release()
		return nil, err
	}
	return t, nil
}

// begin makes t one of the users, and starts the watch if it does not run.
func (h *holding) begin(t *ticket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.watching {
		return
	}
	t.watching = true
	if h.users++; h.users > 1 && h.err == nil {
		return
	}
	if h.stop != nil {
		h.stop()
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop, h.lines, h.shown, h.err = cancel, map[string]map[string]turn{}, 0, nil
	h.run.Go(func() {
		err := t.store.Changes(mesh.Below(mesh.HoldPrefix)).Subscribe(ctx, func(c mesh.Change) bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			if ctx.Err() == nil {
				h.apply(c)
			}
			return ctx.Err() == nil
		})
		h.mu.Lock()
		defer h.mu.Unlock()
		if ctx.Err() == nil {
			if h.err = err; err == nil {
				h.err = errors.New("its watch has ended")
			}
			h.broadcast()
		}
	})
}

// end stops the watch if nobody but t needs it.
func (h *holding) end(t *ticket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !t.watching {
		return
	}
	if h.users--; h.users == 0 {
		h.stop()
	}
}

// apply takes in what the watch shows. The caller holds mu.
func (h *holding) apply(c mesh.Change) {
	h.shown = c.Revision
	if c.Reset {
		h.lines = map[string]map[string]turn{}
	}
	for _, key := range c.Deleted {
		_, name := holdOf(key)
		delete(h.lines[name], key)
	}
	for _, e := range c.Put {
		host, name := holdOf(e.Key)
		value := holdValue{Count: 1}
		_ = json.Unmarshal(e.Value, &value) // what can't be read has its turn like others
		if h.lines[name] == nil {
			h.lines[name] = map[string]turn{}
		}
		h.lines[name][e.Key] = turn{host, e.Key, value.Count, e.Created}
	}
	for key, t := range h.held {
		_, name := holdOf(key)
		if _, ok := h.lines[name][key]; !ok {
			delete(h.held, key)
			t.log.Warn("the mesh has lost sight of this host, so others may run at the same time", "semaphore", meshMark+name)
		}
	}
	h.broadcast()
}

// broadcast wakes all who wait. The caller holds mu.
func (h *holding) broadcast() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// owe has keys deleted later, which could not be now.
func (h *holding) owe(store mesh.Store, keys []string) {
	h.paying.Lock()
	defer h.paying.Unlock()
	for _, key := range keys {
		h.owed[key] = store
	}
	if h.over != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.over = cancel
	h.run.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(semaAgain):
			}
			if h.pay(ctx) {
				return
			}
		}
	})
}

// pay deletes what is owed, and reports whether that is all.
func (h *holding) pay(ctx context.Context) bool {
	h.paying.Lock()
	defer h.paying.Unlock()
	for key, store := range h.owed {
		if err := deleteKeys(ctx, store, []string{key}); err != nil {
			return false
		}
		delete(h.owed, key)
	}
	h.over()
	h.over = nil
	return true
}

// close ends what the run has left, when all tickets are released.
func (h *holding) close() {
	h.paying.Lock()
	if h.over != nil {
		h.over()
	}
	h.paying.Unlock()
	h.run.Wait()
	if h.over != nil && !h.pay(context.Background()) {
		names := slices.Sorted(maps.Keys(h.owed))
		h.log.Warn("semaphores of the mesh are held until this host leaves it", "keys", names)
	}
}

// holdValue is what stands in a key of HoldPrefix.
type holdValue struct {
	Count int `json:"count"`
}

// holdOf takes such a key apart.
func holdOf(key string) (host, name string) {
	host, rest, _ := strings.Cut(strings.TrimPrefix(key, mesh.HoldPrefix), "/")
	name, _, _ = strings.Cut(rest, "/")
	if text, err := url.PathUnescape(name); err == nil {
		name = text
	}
	return host, name
}

// deleteKeys gives up after semaLimit.
func deleteKeys(ctx context.Context, store mesh.Store, keys []string) error {
	ctx, cancel := context.WithTimeout(ctx, semaLimit)
	defer cancel()
	var txn mesh.Txn
	for _, key := range keys {
		txn.Ops = append(txn.Ops, mesh.Delete(key))
	}
	_, err := store.Write(ctx, txn)
	return err
}
