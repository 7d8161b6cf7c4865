package pipeline

import (
	"context"
	"sync"

	"github.com/mgmtproject/mgmt/streams"
)

// mailbox takes messages from anywhere without ever making the sender wait, and emits
// them in their order. The engine posts to itself through it: from a worker, which must
// not wait for the goroutine that routes, since that one may wait for the worker.
type mailbox struct {
	mu     sync.Mutex
	list   []message
	signal chan struct{} // holds one
}

func newMailbox() *mailbox { return &mailbox{signal: make(chan struct{}, 1)} }

func (b *mailbox) post(m message) {
	b.mu.Lock()
	b.list = append(b.list, m)
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

// messages is subscribed once.
func (b *mailbox) messages() streams.Observable[message] {
	return streams.New(func(ctx context.Context, emit func(message) bool) error {
		for {
			b.mu.Lock()
			list := b.list
			b.list = nil
			b.mu.Unlock()
			for _, m := range list {
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
