package streams

import (
	"context"
	"fmt"
	"time"

	"github.com/reactivex/rxgo/v2"
)

// drainLimit bounds how long FromRx waits for an RxGo chain to close after a cancel.
const drainLimit = 2 * time.Second

// Rx gives o to RxGo: a cold observable, each Observe of which subscribes to o anew
// with a channel of buffer items. Give rxgo.WithContext to Observe, or better, use it
// inside FromRx or Via.
func (o Observable[T]) Rx(buffer int) rxgo.Observable {
	return rxgo.Defer([]rxgo.Producer{func(ctx context.Context, next chan<- rxgo.Item) {
		err := o.Subscribe(ctx, func(v T) bool { return Send(ctx, next, rxgo.Of(v)) })
		if err != nil && ctx.Err() == nil {
			Send(ctx, next, rxgo.Error(err))
		}
	}}, rxgo.WithBufferedChannel(buffer))
}

// FromRx takes a chain of RxGo operators back. It calls build once per subscription,
// because many RxGo operators are one-shot, and passes it the option bind, which must
// be given to every operator that starts when it is built (Merge, CombineLatest, Retry,
// GroupBy, StartWith). It fails when an item is not a T, and ends the chain by cancel
// and drain; a chain that does not close within two seconds of that is an error.
func FromRx[T any](buffer int, build func(bind rxgo.Option) rxgo.Observable) Observable[T] {
	return New(func(parent context.Context, emit func(T) bool) (err error) {
		ctx, cancel := context.WithCancel(parent)
		bind := rxgo.WithContext(ctx)
		ch := build(bind).Observe(bind, rxgo.WithBufferedChannel(buffer))
		defer func() {
			cancel()
			if !drain(ch) && err == nil {
				err = fmt.Errorf("streams: an RxGo chain did not close within %v of its cancel", drainLimit)
			}
		}()
		for {
			select {
			case <-parent.Done():
				return context.Cause(parent)
			case item, ok := <-ch:
				switch {
				case !ok:
					return context.Cause(parent)
				case item.E != nil:
					return item.E
				}
				v, ok := item.V.(T)
				if !ok {
					return fmt.Errorf("streams: an RxGo chain emitted %T, want %T", item.V, v)
				}
				if !emit(v) {
					return nil
				}
			}
		}
	})
}

// Via puts a chain of RxGo operators between two typed stages. See FromRx for bind.
func Via[A, B any](o Observable[A], buffer int, f func(o rxgo.Observable, bind rxgo.Option) rxgo.Observable) Observable[B] {
	return FromRx[B](buffer, func(bind rxgo.Option) rxgo.Observable { return f(o.Rx(buffer), bind) })
}

// drain receives until ch is closed, since RxGo operators send without a select.
func drain(ch <-chan rxgo.Item) bool {
	t := time.NewTimer(drainLimit)
	defer t.Stop()
	for {
		select {
		case _, ok := <-ch:
			if !ok {
				return true
			}
		case <-t.C:
			return false
		}
	}
}
