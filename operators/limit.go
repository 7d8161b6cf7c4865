package operators

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/mgmtproject/mgmt/streams"
)

// Limit passes on at most r values a second, and up to burst at once after a pause
// (a token bucket, as package rate describes it). A value that has to wait is replaced
// by any that comes while it does: so none is late by more than its own turn, and the
// last one always gets through. When in ends, a value that waits still gets its turn,
// and the end comes after it.
//
// With rate.Inf, Limit is in itself. A limit that would let nothing pass (r not above
// zero, or burst below one) is an error of the subscription.
func Limit[T any](in streams.Observable[T], r rate.Limit, burst int) streams.Observable[T] {
	if r == rate.Inf {
		return in
	}
	return streams.New(func(ctx context.Context, emit func(T) bool) error {
		if !(r > 0) || burst < 1 { // written so that it holds for NaN too
			return fmt.Errorf("operators: a limit of %g values a second with a burst of %d lets nothing pass", float64(r), burst)
		}
		source := pull(ctx, in)
		defer source.stop()
		values := source.values // nil once in has ended

		bucket := rate.NewLimiter(r, burst)
		var last T
		waiting := false
		turn := time.NewTimer(time.Hour)
		turn.Stop()
		defer turn.Stop()
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case v, ok := <-values:
				switch {
				case !ok && !waiting:
					return source.err
				case !ok:
					values = nil
				case waiting:
					last = v
				default:
					if wait := bucket.Reserve().Delay(); wait > 0 {
						last, waiting = v, true
						turn.Reset(wait)
					} else if !emit(v) {
						return nil
					}
				}
			case <-turn.C:
				waiting = false
				if !emit(last) {
					return nil
				}
				if values == nil {
					return source.err
				}
			}
		}
	})
}
