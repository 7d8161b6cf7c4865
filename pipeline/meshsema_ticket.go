package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// ticket is the wish of a resource for semaphores of the mesh.
type ticket struct {
	h          *holding
	store      mesh.Store
	log        *slog.Logger
	semaphores []meshSemaphore
	keys       []string // by semaphore

	revision int64 // at which the keys were written; 0 if they have to be
	torn     bool  // they have to be deleted before
	watching bool  // it is one of the users of h
}

// standing is how a ticket stands in its lines.
type standing int

const (
	unseen standing = iota // the watch does not show its keys yet
	lost                   // some of its keys are gone
	torn                   // its keys have different places
	behind                 // others come before
	served
)

// stand finds the ticket in its lines. Ahead are the hosts that hold the semaphore called
// name, for which it waits. The caller holds h.mu.
func (t *ticket) stand() (s standing, name string, ahead []string) {
	s = served
	var created int64
	for i, sem := range t.semaphores {
		line := t.h.lines[sem.name]
		mine, ok := line[t.keys[i]]
		switch {
		case t.revision == 0 || t.revision > t.h.shown:
			return unseen, "", nil
		case !ok:
			return lost, "", nil
		}
		if created == 0 {
			created = mine.created
		}
		if mine.created != created {
			return torn, "", nil
		}
		order := slices.SortedFunc(maps.Values(line), func(a, b turn) int {
			return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.key, b.key))
		})
		count := 1
		for _, other := range order {
			count = max(count, other.count)
		}
		if s == served && !slices.Contains(order[:min(count, len(order))], mine) {
			s, name = behind, sem.name
			for _, other := range order[:count] {
				ahead = append(ahead, other.host)
			}
		}
	}
	return s, name, ahead
}

// wait stands in line until it is the turn of the ticket.
func (t *ticket) wait(ctx context.Context) error {
	slow := time.NewTimer(tellAfter)
	defer slow.Stop()
	patience := slow.C
	for {
		again, err := t.enqueue(ctx)
		if err != nil {
			return err
		}
		t.h.begin(t) // with keys that are there already: so the first that it shows is enough
		t.h.mu.Lock()
		s, name, ahead := t.stand()
		changed, failed := t.h.changed, t.h.err
		if s == served {
			for _, key := range t.keys {
				t.h.held[key] = t
			}
		}
		t.h.mu.Unlock()
		switch {
		case failed != nil:
			return fmt.Errorf("waiting for a semaphore of the mesh: %w", failed)
		case s == served:
			return nil
		case s == lost, s == torn: // as when the host was cut off for too long
			t.revision, t.torn = 0, s == torn
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-again:
		case <-patience:
			patience = nil
			if s == behind {
				t.log.Info("waits for other hosts", "semaphore", meshMark+name, "held by", strings.Join(ahead, " "))
			} else {
				t.log.Info("waits for the mesh", "semaphore", meshMark+t.semaphores[0].name)
			}
		}
	}
}

// enqueue writes the keys if that has to be done. If the mesh can't be reached it returns
// when to try again.
func (t *ticket) enqueue(ctx context.Context) (again <-chan time.Time, err error) {
	if t.revision != 0 {
		return nil, nil
	}
	if t.torn {
		if err = deleteKeys(ctx, t.store, t.keys); err == nil {
			t.torn = false
		}
	}
	var txn mesh.Txn
	for i, s := range t.semaphores {
		value, err := json.Marshal(holdValue{s.count})
		if err != nil {
			return nil, err
		}
		txn.Ops = append(txn.Ops, mesh.Op{Key: t.keys[i], Value: value, Bound: true})
	}
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, semaLimit)
		defer cancel()
		t.revision, err = t.store.Write(limited, txn)
	}
	switch {
	case err == nil:
		return nil, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, mesh.ErrUnreachable):
		return time.After(semaAgain), nil
	}
	return nil, fmt.Errorf("taking a semaphore of the mesh: %w", err)
}

// release gives the semaphores back, or up. It does nothing with a nil ticket.
func (t *ticket) release() {
	if t == nil {
		return
	}
	t.h.mu.Lock()
	for _, key := range t.keys {
		delete(t.h.held, key)
	}
	t.h.mu.Unlock()
	if err := deleteKeys(context.Background(), t.store, t.keys); err != nil {
		t.log.Debug("semaphores are given back later", "error", err)
		t.h.owe(t.store, t.keys)
	}
	t.h.end(t)
}
