package streams_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/streams"
)

func TestMain(m *testing.M) {
	if os.Getenv(trapVariable) != "" {
		os.Exit(m.Run()) // a trap leaks on purpose, in a process of its own
	}
	goleak.VerifyTestMain(m)
}

var errBoom = errors.New("boom")

// count emits 0, 1, 2 … for as long as somebody wants them.
func count() streams.Observable[int] {
	return streams.New(func(ctx context.Context, emit func(int) bool) error {
		for i := 0; emit(i); i++ {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		return nil
	})
}

// failing emits the values and fails.
func failing(err error, values ...int) streams.Observable[int] {
	return streams.New(func(ctx context.Context, emit func(int) bool) error {
		if e := streams.Of(values...).Subscribe(ctx, emit); e != nil {
			return e
		}
		return err
	})
}

// collect subscribes to o until it ends or has emitted limit values (0: no limit).
func collect[T any](ctx context.Context, o streams.Observable[T], limit int) ([]T, error) {
	var got []T
	err := o.Subscribe(ctx, func(v T) bool {
		got = append(got, v)
		return len(got) != limit
	})
	return got, err
}
