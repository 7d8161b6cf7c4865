package streams

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/reactivex/rxgo/v2"
)

// drainLimit bounds how long FromRx waits for an RxGo chain to end after a cancel.
const drainLimit = 2 * time.Second

// Rx gives o to RxGo: a cold observable, each Observe of which subscribes to o anew
// with a channel of buffer items. Give rxgo.WithContext to Observe, or better, use it
// inside FromRx or Via.
func (o Observable[T]) Rx(buffer int) rxgo.Observable {
	return rxgo.Defer([]rxgo.Producer{func(ctx context.Context, next chan<- rxgo.Item) {
		if r, ok := ctx.Value(runsKey{}).(*runs); ok {
			if !r.begin() {
				return
			}
			defer r.end()
		}
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
// and drain: it waits until the chain has closed and every Observable of ours in it has
// ended. If that takes more than two seconds, it is an error. A panic in a function that
// was given to an RxGo operator ends the process.
func FromRx[T any](buffer int, build func(bind rxgo.Option) rxgo.Observable) Observable[T] {
	return New(func(parent context.Context, emit func(T) bool) (err error) {
		inner := newRuns()
		ctx, cancel := context.WithCancel(context.WithValue(parent, runsKey{}, inner))
		bind := rxgo.WithContext(ctx)
		ch := build(bind).Observe(bind, rxgo.WithBufferedChannel(buffer))
		defer func() {
			cancel()
			if !drain(ch, inner.ended()) && err == nil {
				err = fmt.Errorf("streams: an RxGo chain did not end within %v of its cancel", drainLimit)
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
				if !ok && (item.V != nil || any(v) != nil) { // a nil is right where T is an interface
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

// drain receives until ch is closed, since RxGo operators send without a select, and
// then waits for ended.
func drain(ch <-chan rxgo.Item, ended <-chan struct{}) bool {
	t := time.NewTimer(drainLimit)
	defer t.Stop()
	for ch != nil {
		select {
		case _, ok := <-ch:
			if !ok {
				ch = nil
			}
		case <-t.C:
			return false
		}
	}
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}

// runs counts the subscriptions that an RxGo chain has to Observables of ours. RxGo
// closes a chain without waiting for what it has started at the other end.
type runs struct {
	mu   sync.Mutex
	n    int
	over bool // no more may begin
	done chan struct{}
}

type runsKey struct{}

func newRuns() *runs { return &runs{done: make(chan struct{})} }

func (r *runs) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		r.n++
	}
	return !r.over
}

func (r *runs) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n--
	r.settle()
}

// ended lets no more begin and returns a channel that is closed when none is left.
func (r *runs) ended() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	r.settle()
	return r.done
}

func (r *runs) settle() {
	if r.over && r.n == 0 {
		close(r.done)
	}
}
