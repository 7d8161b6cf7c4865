package operators

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/mgmtproject/mgmt/streams"
)

// Retry subscribes to in again when it fails, after the pause that a policy asks for:
// backoff.NewConstantBackOff, backoff.NewExponentialBackOff or one of your own. It
// calls policy once per subscription, because a BackOff keeps state. A value that comes
// through gives the policy a fresh start.
//
// The failure itself ends the result when the policy says backoff.Stop, when it is
// marked with backoff.Permanent (the mark is taken off), and when it is a
// *streams.PanicError, which no second try mends. A backoff.RetryAfterError sets the
// pause itself. The failed subscription has ended before the pause begins.
func Retry[T any](in streams.Observable[T], policy func() backoff.BackOff) streams.Observable[T] {
	return streams.New(func(ctx context.Context, emit func(T) bool) error {
		pauses := policy()
		for {
			worked := false
			err := in.Subscribe(ctx, func(v T) bool { worked = true; return emit(v) })
			if err == nil || ctx.Err() != nil {
				return err
			}
			if worked {
				pauses.Reset()
			}
			if _, ok := errors.AsType[*streams.PanicError](err); ok {
				return err
			}
			if permanent, ok := errors.AsType[*backoff.PermanentError](err); ok {
				return permanent.Unwrap()
			}
			pause := pauses.NextBackOff()
			if pause == backoff.Stop {
				return err
			}
			if after, ok := errors.AsType[*backoff.RetryAfterError](err); ok {
				pauses.Reset()
				pause = after.Duration
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

// Tries limits policy to n further tries in a row, for use with Retry. Zero means none.
func Tries(n int, policy backoff.BackOff) backoff.BackOff {
	return &tries{BackOff: policy, most: n, left: n}
}

type tries struct {
	backoff.BackOff
	most, left int
}

func (t *tries) NextBackOff() time.Duration {
	if t.left <= 0 {
		return backoff.Stop
	}
	t.left--
	return t.BackOff.NextBackOff()
}

func (t *tries) Reset() {
	t.left = t.most
	t.BackOff.Reset()
}
