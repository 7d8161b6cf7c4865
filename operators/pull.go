package operators

import (
	"context"

	"github.com/mgmtproject/mgmt/streams"
)

// pull subscribes to in on a goroutine of its own, for an operator that waits for
// values and for something else at once. The channel has no buffer and is closed at the
// end. Then, or before it to cancel, the caller calls end once: it waits until nothing of in runs
// and returns what the subscription came to.
func pull[T any](ctx context.Context, in streams.Observable[T]) (values <-chan T, end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ch := make(chan T)
	var err error
	go func() {
		defer close(ch)
		err = in.Subscribe(ctx, func(v T) bool { return streams.Send(ctx, ch, v) })
	}()
	return ch, func() error {
		cancel()
		for range ch { //nolint:revive // waits for the close
		}
		return err
	}
}
