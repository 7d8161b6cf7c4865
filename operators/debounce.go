package operators

import (
	"context"
	"time"

	"github.com/mgmtproject/mgmt/streams"
)

// Debounce emits the last value of in once d has passed without another one. When in
// completes or fails, a value that still waits is emitted at once, before the end; a
// cancel drops it. With d at or below zero, Debounce is in itself.
//
// While nothing waits, no timer runs. A consumer that is slow to take a value holds in
// back: it waits with its next value until the consumer has returned.
func Debounce[T any](in streams.Observable[T], d time.Duration) streams.Observable[T] {
	if d <= 0 {
		return in
	}
	return streams.New(func(ctx context.Context, emit func(T) bool) error {
		source := pull(ctx, in)
		defer source.stop()

		var last T
		quiet := time.NewTimer(d)
		quiet.Stop()
		defer quiet.Stop()
		for waiting := false; ; {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case v, ok := <-source.values:
				if !ok {
					if waiting && ctx.Err() == nil && !emit(last) {
						return nil
					}
					return source.err
				}
				last, waiting = v, true
				quiet.Reset(d)
			case <-quiet.C:
				waiting = false
				if !emit(last) {
					return nil
				}
			}
		}
	})
}
