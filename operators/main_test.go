package operators_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

// paced emits 0, 1, 2 … each after its pause, and then ends with err. A cancel ends it
// early.
func paced(err error, pauses ...time.Duration) streams.Observable[int] {
	return streams.New(func(ctx context.Context, emit func(int) bool) error {
		for i, d := range pauses {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if !emit(i) {
				return nil
			}
		}
		return err
	})
}

// then emits what a emits, and goes on with b when a has completed.
func then[T any](a, b streams.Observable[T]) streams.Observable[T] {
	return streams.New(func(ctx context.Context, emit func(T) bool) error {
		stopped := false
		err := a.Subscribe(ctx, func(v T) bool { stopped = !emit(v); return !stopped })
		if err != nil || stopped {
			return err
		}
		return b.Subscribe(ctx, emit)
	})
}

// A stamped value tells when it came, as the time since the subscription.
type stamped[T any] struct {
	At time.Duration
	V  T
}

// collect subscribes to o until it ends or has emitted limit values (0: no limit).
func collect[T any](ctx context.Context, o streams.Observable[T], limit int) ([]stamped[T], error) {
	start := time.Now()
	var got []stamped[T]
	err := o.Subscribe(ctx, func(v T) bool {
		got = append(got, stamped[T]{time.Since(start), v})
		return len(got) != limit
	})
	return got, err
}
