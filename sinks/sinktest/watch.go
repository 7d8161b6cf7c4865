package sinktest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// watched has a watch of the resource see a disturbance, which is then repaired, and
// none see a CheckApply that has nothing to do.
func (k *kit) watched() {
	o := k.observe()
	defer o.stop()
	o.settle("before the disturbance")
	k.disturb()
	o.wait("after the disturbance")
	if out := k.must(true, "the repair after an event"); !out.Changed {
		k.Error("the repair after an event does not report a change")
	}
	k.check("after an event and a repair")
	o.settle("after the repair")
}

// observer serves the watches of a resource by the real sources.
type observer struct {
	k       *kit
	watches []sources.Watch
	used    []sources.Source
	cancel  context.CancelFunc
	running sync.WaitGroup
	came    chan struct{} // there are events, or one may have come

	mu     sync.Mutex
	events []sources.Event
}

func (k *kit) observe() *observer {
	ctx, cancel := context.WithCancel(k.Context())
	o := &observer{k: k, watches: k.r.Watches(), cancel: cancel, came: make(chan struct{}, 1)}
	if len(o.watches) == 0 {
		k.Fatal("the state can be disturbed, but the resource watches nothing")
	}
	available := append(all.New(slog.New(slog.DiscardHandler)), mesh.NewSource(k.c.Mesh))
	for _, w := range o.watches {
		i := slices.IndexFunc(available, func(s sources.Source) bool { return s.Name() == w.Source() })
		if i < 0 {
			o.stop()
			k.Fatalf("there is no source %q for the watch %v", w.Source(), w)
		}
		s := available[i]
		if err := s.Add(w); err != nil {
			o.stop()
			k.Fatalf("watching %v: %v", w, err)
		}
		if slices.Contains(o.used, s) {
			continue
		}
		o.used = append(o.used, s)
		o.running.Go(func() {
			if err := s.Events().Subscribe(ctx, o.take); err != nil && ctx.Err() == nil {
				k.Errorf("the source %s has failed: %v", s.Name(), err)
			}
		})
	}
	return o
}

// stop ends the sources, and waits for that.
func (o *observer) stop() {
	o.cancel()
	ended := make(chan struct{})
	go func() { o.running.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
		o.k.Error("the sources do not stop")
	}
}

func (o *observer) take(e sources.Event) bool {
	o.mu.Lock()
	o.events = append(o.events, e)
	o.mu.Unlock()
	select {
	case o.came <- struct{}{}:
	default:
	}
	return true
}

// taken returns the events that have come and forgets them.
func (o *observer) taken() []sources.Event {
	o.k.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	events := o.events
	o.events = nil
	for _, e := range events {
		switch {
		case e.Err != nil:
			o.k.Fatalf("a watch has failed: %v", e)
		case e.Watch != nil && !slices.Contains(o.watches, e.Watch):
			o.k.Fatalf("an event of a watch that was not asked for: %v", e)
		}
	}
	return events
}

// wait returns when an event has come.
func (o *observer) wait(when string) {
	o.k.Helper()
	deadline := time.After(patience)
	for len(o.taken()) == 0 {
		select {
		case <-o.came:
		case <-deadline:
			o.k.Fatalf("%s no watch of the resource fires; it watches %v", when, o.watches)
		}
	}
}

// flush returns the events of all that has happened so far, as far as the sources can
// tell: a timer goes on by itself.
func (o *observer) flush() []sources.Event {
	o.k.Helper()
	ctx, cancel := context.WithTimeout(o.k.Context(), patience)
	defer cancel()
	var names []string
	for _, s := range o.used {
		f, ok := s.(sources.Flusher)
		if !ok {
			continue
		}
		if err := f.Flush(ctx); err != nil {
			o.k.Fatalf("flushing the source %s: %v", s.Name(), err)
		}
		names = append(names, s.Name())
	}
	return slices.DeleteFunc(o.taken(), func(e sources.Event) bool { return !slices.Contains(names, e.Source) })
}

// settle lets the resource look at what its own changes have stirred up, as the engine
// does, until all is quiet. After that a CheckApply must not be noticed by a watch, or
// the resource would keep itself busy for ever.
func (o *observer) settle(when string) {
	o.k.Helper()
	const rounds = 20
	for range rounds {
		if len(o.flush()) == 0 {
			break
		}
		if out := o.k.must(true, "an apply "+when); out.Changed != o.k.c.Acts {
			o.k.Fatalf("an apply %s: Changed is %v, want %v (%v)", when, out.Changed, o.k.c.Acts, out.Changes)
		}
	}
	if o.k.c.Acts {
		return
	}
	if out := o.k.must(true, "an idle apply"); out.Rewatch {
		o.k.Errorf("%s: an apply that has nothing to do asks to be watched anew, and would again and again", when)
	}
	if events := o.flush(); len(events) > 0 {
		o.k.Errorf("%s: an apply that has nothing to do wakes the resource by %v", when, events)
	}
}
