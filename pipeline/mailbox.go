package pipeline

import (
	"context"
	"sync"

	"github.com/mgmtproject/mgmt/streams"
)

// mailbox takes messages from anywhere without ever making the sender wait, and emits
// them in their order. The engine posts to itself through it: from a worker, which must
// not wait for the goroutine that routes, since that one may wait for the worker.
type mailbox[T any] struct {
	mu     sync.Mutex
	list   []T
	signal chan struct{} // holds one
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{signal: make(chan struct{}, 1)} }

func (b *mailbox[T]) post(m T) {
	b.mu.Lock()
	b.list = append(b.list, m)
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

// take returns all that has come since the last time.
func (b *mailbox[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.list
	b.list = nil
	return list
}

// messages is subscribed once.
func (b *mailbox[T]) messages() streams.Observable[T] {
	return streams.New(func(ctx context.Context, emit func(T) bool) error {
		for {
			for _, m := range b.take() {
				if !emit(m) {
					return nil
				}
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-b.signal:
			}
		}
	})
}
