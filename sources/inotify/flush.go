package inotify

import (
	"context"
	"errors"
	"time"
)

// errClosed is what Flush returns when the source was closed while it waited.
var errClosed = errors.New("the inotify source was closed while it was flushed")

// A batch is callers of Flush who wait for the same cookie. A cookie is dropped only
// when the one before has arrived, so that an event tells which it was.
type batch struct {
	done    chan struct{}
	remount bool // mounts may have changed
}

func free(batches []*batch) {
	for _, b := range batches {
		close(b.done)
	}
}

// Flush implements sources.Flusher. It puts a mark into the kernel's queue and waits
// until all before it has been emitted, some ten microseconds when the queue is empty.
// If something is polled, it waits until that is due, and compares: a path that differs at
// every look, as /proc/loadavg does, is not looked at more often for a caller who flushes
// after each event.
func (s *Source) Flush(ctx context.Context) error {
	s.mu.Lock()
	k := s.k
	if k == nil {
		s.mu.Unlock()
		return nil
	}
	if len(s.polled) > 0 {
		due := time.NewTimer(time.Until(s.compared.Add(s.every)))
		s.mu.Unlock()
		defer due.Stop()
		select {
		case <-due.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-k.stop:
			return errClosed
		}
		s.mu.Lock()
		if s.k != k {
			s.mu.Unlock()
			return errClosed
		}
		polled := make(chan struct{})
		k.wg.Go(func() { s.poll(); close(polled) })
		s.mu.Unlock()
		select {
		case <-polled:
		case <-ctx.Done(): // a server may not answer
			return context.Cause(ctx)
		}
		s.mu.Lock()
		if s.k != k {
			s.mu.Unlock()
			return errClosed
		}
	}
	b := s.mark(k.remounted())
	s.mu.Unlock()
	select {
	case <-b.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-k.stop:
		return errClosed
	default:
		return nil
	}
}

// mark returns the batch that a caller of Flush has to wait for.
func (s *Source) mark(remount bool) *batch {
	b := s.next
	if b == nil {
		b = &batch{done: make(chan struct{})}
		s.next = b
	}
	b.remount = b.remount || remount
	if s.flight == nil {
		s.launch()
	}
	return b
}

// launch drops a cookie for those who wait. If there is none to be had, what is left
// to do is to emit what is pending.
func (s *Source) launch() {
	s.flight, s.next = s.next, nil
	if s.flight != nil {
		s.drop()
	}
}

// drop drops the cookie of the batch in flight.
func (s *Source) drop() {
	c := &s.k.cookie
	if c.file == nil {
		*c = newCookie(s.k.fs)
	}
	if c.drop() != nil {
		s.land()
		signal(s.wake)
	}
}

// land lets the batch in flight go once everything that is pending has been emitted.
func (s *Source) land() {
	if s.flight == nil {
		return
	}
	if s.flight.remount {
		s.remounted()
	}
	s.ripe = append(s.ripe, s.flight)
	s.launch()
}

// arrived is called when the cookie has come out of the kernel's queue.
func (s *Source) arrived() {
	s.k.settled()
	if s.k.overflow.Swap(false) {
		s.overflow()
		return
	}
	s.land()
}
