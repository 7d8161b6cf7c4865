// Package timer is the source of ticks: it serves any number of intervals with one
// goroutine and one runtime timer.
package timer

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// Name is the name of the source.
const Name = "timer"

// Every returns the watch that fires each d, which must be positive.
func Every(d time.Duration) sources.Watch { return sources.Interval{Every: d} }

// Source serves sources.Interval watches. The first tick of an interval comes one
// interval after its first Add, the others at multiples of it, however late the
// consumer is: ticks don't drift. Ticks that pass while the consumer is busy, or before
// Events is subscribed, come as one. Time during which the machine sleeps does not count.
type Source struct {
	mu        sync.Mutex
	intervals map[sources.Interval]*interval
	queue     queue
	changed   chan struct{} // holds one item when the head of queue is another one
}

var _ sources.Source = (*Source)(nil)

// New returns a source without watches. It needs no closing.
func New() *Source {
	return &Source{
		intervals: make(map[sources.Interval]*interval),
		changed:   make(chan struct{}, 1),
	}
}

// Name implements sources.Source.
func (s *Source) Name() string { return Name }

// Add implements sources.Source. It fails for anything but a sources.Interval of a
// positive length.
func (s *Source) Add(w sources.Watch) error {
	i, ok := w.(sources.Interval)
	switch {
	case !ok:
		return fmt.Errorf("the source %q serves intervals, not a %T", Name, w)
	case i.Every <= 0:
		return fmt.Errorf("an interval of %v is not positive", i.Every)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.intervals[i]; e != nil {
		e.count++
		return nil
	}
	e := &interval{watch: w, every: i.Every, next: time.Now().Add(i.Every), count: 1}
	s.intervals[i] = e
	heap.Push(&s.queue, e)
	if e.index == 0 {
		s.wake()
	}
	return nil
}

// Remove implements sources.Source.
func (s *Source) Remove(w sources.Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := w.(sources.Interval)
	e := s.intervals[i]
	if e == nil {
		return
	}
	if e.count--; e.count > 0 {
		return
	}
	delete(s.intervals, i)
	head := e.index == 0
	heap.Remove(&s.queue, e.index)
	if head {
		s.wake()
	}
}

// wake makes the goroutine of Events set its timer anew.
func (s *Source) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Events implements sources.Source.
func (s *Source) Events() streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		timer := time.NewTimer(0)
		timer.Stop()
		defer timer.Stop()
		var due []sources.Watch
		for {
			var wait time.Duration
			var armed bool
			due, wait, armed = s.take(due[:0], time.Now())
			for _, w := range due {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if !emit(sources.Event{Source: Name, Watch: w, What: "tick"}) {
					return nil
				}
			}
			switch {
			case len(due) > 0:
				continue // emitting took time
			case armed:
				timer.Reset(wait)
			default:
				timer.Stop()
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-s.changed:
			case <-timer.C:
			}
		}
	})
}

// take appends to due what has ticked until now, moves it on to its next tick, and
// says how long to wait for the next one, if there is any.
func (s *Source) take(due []sources.Watch, now time.Time) (_ []sources.Watch, wait time.Duration, armed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		e := s.queue[0]
		late := now.Sub(e.next)
		if late < 0 {
			return due, -late, true
		}
		due = append(due, e.watch)
		e.next = e.next.Add(late - late%e.every + e.every)
		heap.Fix(&s.queue, 0)
	}
	return due, 0, false
}

// interval is one watch while it is served.
type interval struct {
	watch sources.Watch
	every time.Duration
	next  time.Time
	count int
	index int // in the queue
}

// queue is a heap of the intervals, the next one to tick first.
type queue []*interval

func (q queue) Len() int           { return len(q) }
func (q queue) Less(a, b int) bool { return q[a].next.Before(q[b].next) }
func (q queue) Swap(a, b int) {
	q[a], q[b] = q[b], q[a]
	q[a].index, q[b].index = a, b
}

func (q *queue) Push(x any) {
	e := x.(*interval)
	e.index = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
