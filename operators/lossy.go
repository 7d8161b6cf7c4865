package operators

import (
	"context"
	"sync"

	"github.com/mgmtproject/mgmt/streams"
)

// Lossy puts a buffer between in and a consumer that may be slow: in never waits. When
// bound values are waiting and one more comes, the oldest are dropped (an eighth of the
// buffer, so that a slow consumer is not told after every value), and in their place
// the consumer gets dropped(n), which says how many are missing there. So the consumer
// has the order, every gap, and always the newest values. Bound is at least 1; the
// buffer grows to it only when it is needed.
//
// When in ends, the values that wait are still emitted, and the end comes after them.
// A consumer that never returns also keeps Subscribe from returning.
func Lossy[T any](in streams.Observable[T], bound int, dropped func(n uint64) T) streams.Observable[T] {
	bound = max(bound, 1)
	return streams.New(func(ctx context.Context, emit func(T) bool) error {
		ctx, cancel := context.WithCancel(ctx)
		b := lossyBuffer[T]{bound: bound, more: make(chan struct{}, 1)}
		var wg sync.WaitGroup
		var failure error
		wg.Go(func() {
			failure = in.Subscribe(ctx, func(v T) bool {
				b.push(v)
				return ctx.Err() == nil
			})
			close(b.more)
		})
		defer wg.Wait()
		defer cancel()
		for ctx.Err() == nil {
			v, lost, ok := b.pop()
			if !ok {
				select {
				case _, open := <-b.more:
					if !open {
						return failure
					}
				case <-ctx.Done():
				}
				continue
			}
			if lost > 0 {
				v = dropped(lost)
			}
			if !emit(v) {
				return nil
			}
		}
		return context.Cause(ctx)
	})
}

// lossyBuffer is a ring with one goroutine at each side.
type lossyBuffer[T any] struct {
	bound int
	more  chan struct{} // a signal after a push, one for many; closed after the last push

	mu   sync.Mutex
	ring []T
	head int    // index of the oldest value
	n    int    // values in the ring
	lost uint64 // values dropped ahead of the oldest
}

func (b *lossyBuffer[T]) push(v T) {
	b.mu.Lock()
	if b.n == b.bound {
		for range max(b.bound/8, 1) {
			b.take()
			b.lost++
		}
	}
	if b.n == len(b.ring) {
		larger := make([]T, min(max(2*len(b.ring), 16), b.bound))
		copy(larger[copy(larger, b.ring[b.head:]):], b.ring[:b.head])
		b.ring, b.head = larger, 0
	}
	b.ring[(b.head+b.n)%len(b.ring)] = v
	b.n++
	b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// pop returns how many values were lost at the front or, if none were, the oldest
// value. With neither, ok is false.
func (b *lossyBuffer[T]) pop() (v T, lost uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.lost > 0:
		lost, b.lost = b.lost, 0
		return v, lost, true
	case b.n > 0:
		return b.take(), 0, true
	}
	return v, 0, false
}

// take removes the oldest value. The caller holds mu.
func (b *lossyBuffer[T]) take() T {
	var zero T
	v := b.ring[b.head]
	b.ring[b.head] = zero
	b.head = (b.head + 1) % len(b.ring)
	b.n--
	return v
}
