package operators

import (
	"context"

	"github.com/mgmtproject/mgmt/streams"
)

// pulled is a subscription on a goroutine of its own, for an operator that waits for
// values and for something else at once.
type pulled[T any] struct {
	values chan T // has no buffer, and is closed at the end
	err    error  // how it ended, once values is closed
	cancel context.CancelFunc
}

// pull subscribes to in. The caller calls stop in the end.
func pull[T any](ctx context.Context, in streams.Observable[T]) *pulled[T] {
	ctx, cancel := context.WithCancel(ctx)
	p := &pulled[T]{values: make(chan T), cancel: cancel}
	go func() {
		defer close(p.values)
		p.err = in.Subscribe(ctx, func(v T) bool { return streams.Send(ctx, p.values, v) })
	}()
	return p
}

// stop returns when nothing of the subscription runs any more.
func (p *pulled[T]) stop() {
	p.cancel()
	for range p.values {
	}
}
