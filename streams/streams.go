// Package streams is a typed Observable over RxGo v2: cold, cancelled through a
// context, free of leaked goroutines. Everything else in this module is built on it.
//
// Nothing runs until Subscribe. Typed operators such as Map and Filter are fused
// function calls: they cost no goroutine, no channel and no boxing. A channel exists
// only in Merge and at the two borders to RxGo, FromRx and Observable.Rx.
package streams

import (
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"sync"
)

// A Producer pushes values into emit until it has no more (nil), fails (an error) or
// ctx is done (any return value). It calls emit from one goroutine at a time, returns
// soon after emit has said false or ctx is done, and has ended every goroutine that it
// started when it returns.
type Producer[T any] func(ctx context.Context, emit func(T) bool) error

// An Observable is a cold stream of values: every subscription is a run of its own.
// The zero value completes at once.
type Observable[T any] struct{ produce Producer[T] }

// New returns the Observable that runs p for each subscription.
func New[T any](p Producer[T]) Observable[T] { return Observable[T]{p} }

// Of emits the values and completes.
func Of[T any](values ...T) Observable[T] {
	return New(func(ctx context.Context, emit func(T) bool) error {
		for _, v := range values {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !emit(v) {
				return nil
			}
		}
		return nil
	})
}

// Never emits nothing and ends when its subscription is cancelled.
func Never[T any]() Observable[T] {
	return New(func(ctx context.Context, _ func(T) bool) error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
}

// FromChan emits what arrives on ch until ch is closed. It does not own ch: values
// that nobody took stay in it.
func FromChan[T any](ch <-chan T) Observable[T] {
	return New(func(ctx context.Context, emit func(T) bool) error {
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case v, ok := <-ch:
				if !ok || !emit(v) {
					return nil
				}
			}
		}
	})
}

// A PanicError is a panic inside a producer or an operator function, turned into the
// error of its subscription.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // where, as debug.Stack prints it
}

// Error names the value only; the stack is for whoever debugs.
func (e *PanicError) Error() string { return fmt.Sprintf("stream panicked: %v", e.Value) }

// Subscribe runs o and hands each value to next, which ends the subscription by saying
// false. It blocks until o has completed or next said false (nil), o has failed (its
// error; a *PanicError if it panicked) or ctx is done (context.Cause of ctx, unless o
// has failed on the way out). When it returns, nothing of o runs any more. A panic of
// next itself is its caller's, and passes through.
func (o Observable[T]) Subscribe(ctx context.Context, next func(T) bool) (err error) {
	ours := true // false while next runs
	defer func() {
		// Without a recover the panic goes on unchanged, as that of a range body must.
		if ours {
			if r := recover(); r != nil {
				err = &PanicError{Value: r, Stack: debug.Stack()}
			}
		}
	}()
	stopped := false
	err = o.run(ctx, func(v T) bool {
		ours = false
		stopped = !next(v)
		ours = true
		return !stopped
	})
	if err == nil && !stopped {
		err = context.Cause(ctx)
	}
	return err
}

// run is Subscribe for an operator in the same goroutine, which leaves panics and the
// cause of a cancel to whoever has subscribed to the operator. After next has said
// false it is not called again, and the error is nil.
func (o Observable[T]) run(ctx context.Context, next func(T) bool) error {
	if o.produce == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := false
	err := o.produce(ctx, func(v T) bool {
		if !stopped && !next(v) {
			stopped = true
			cancel()
		}
		return !stopped
	})
	if stopped {
		return nil
	}
	return err
}

// Seq is the Observable as a range loop. A failure or a cancel comes as the last pair.
func (o Observable[T]) Seq(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		stopped := false
		err := o.Subscribe(ctx, func(v T) bool {
			stopped = !yield(v, nil)
			return !stopped
		})
		if err != nil && !stopped {
			var zero T
			yield(zero, err)
		}
	}
}

// Map emits f of each value.
func Map[A, B any](o Observable[A], f func(A) B) Observable[B] {
	return New(func(ctx context.Context, emit func(B) bool) error {
		return o.run(ctx, func(a A) bool { return emit(f(a)) })
	})
}

// Filter emits the values for which keep is true.
func Filter[T any](o Observable[T], keep func(T) bool) Observable[T] {
	return New(func(ctx context.Context, emit func(T) bool) error {
		return o.run(ctx, func(v T) bool { return !keep(v) || emit(v) })
	})
}

// Do calls f with each value before it passes it on.
func Do[T any](o Observable[T], f func(T)) Observable[T] {
	return New(func(ctx context.Context, emit func(T) bool) error {
		return o.run(ctx, func(v T) bool { f(v); return emit(v) })
	})
}

// Send puts v into ch and reports whether it could before ctx was done. It tries
// without ctx first, since a select over two channels costs more than twice as much.
func Send[T any](ctx context.Context, ch chan<- T, v T) bool {
	select {
	case ch <- v:
		return true
	default:
	}
	select {
	case ch <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// Merge emits the values of all sources as they come, through one channel of buffer
// values; the order of each source is kept. It completes when all have, and the first
// failure cancels the others. It runs one goroutine a source.
func Merge[T any](buffer int, sources ...Observable[T]) Observable[T] {
	return New(func(parent context.Context, emit func(T) bool) error {
		ctx, cancel := context.WithCancelCause(parent)
		ch := make(chan T, buffer)
		var wg sync.WaitGroup
		for _, o := range sources {
			wg.Go(func() {
				if err := o.Subscribe(ctx, func(v T) bool { return Send(ctx, ch, v) }); err != nil {
					cancel(err)
				}
			})
		}
		go func() { wg.Wait(); close(ch) }()
		defer func() {
			cancel(nil)
			for range ch { // unblocks the sources and waits for their end
			}
		}()
		for v := range ch {
			if !emit(v) {
				return nil
			}
		}
		return context.Cause(ctx)
	})
}
