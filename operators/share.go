package operators

import (
	"context"
	"slices"
	"sync"

	"github.com/mgmtproject/mgmt/streams"
)

// Share makes one subscription to in serve everybody who subscribes to the result. The
// first subscriber begins it and the last one to leave cancels it; a subscriber who
// comes later gets what comes after that. When in ends, all get its end, and whoever
// subscribes then begins it anew. There is never more than one subscription to in.
//
// Every subscriber has a buffer of its own of that many values. When one is full, in
// waits, and with it all the others: nobody loses a value. Who must not hold the others
// up subscribes through Lossy, which drops and counts instead.
func Share[T any](in streams.Observable[T], buffer int) streams.Observable[T] {
	return ShareN(in, 1, buffer)
}

// ShareN is Share that begins only once n subscribers are there, so that none of them
// misses the first value.
func ShareN[T any](in streams.Observable[T], n, buffer int) streams.Observable[T] {
	s := &shared[T]{in: in, quorum: n}
	return streams.New(func(ctx context.Context, emit func(T) bool) error {
		ctx, cancel := context.WithCancel(ctx)
		o := &observer[T]{ctx: ctx, values: make(chan T, buffer)}
		r := s.join(o)
		defer func() {
			cancel() // first, since in may be waiting for o
			s.leave(r, o)
		}()
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case v, ok := <-o.values:
				switch {
				case !ok:
					return r.err
				case ctx.Err() != nil: // values before v may have passed o by
					return context.Cause(ctx)
				case !emit(v):
					return nil
				}
			}
		}
	})
}

type shared[T any] struct {
	in     streams.Observable[T]
	quorum int

	mu    sync.Mutex
	open  *round[T]       // the round that new observers join, or nil
	ended <-chan struct{} // closed when the latest round that began has ended, or nil
}

// A round is one subscription to in, from the first observer to the last.
type round[T any] struct {
	observers []*observer[T] // guarded by shared.mu; replaced, never changed in place
	cancel    context.CancelFunc
	done      chan struct{} // nil until it has begun, closed when it has ended
	err       error         // how it ended, for those whose values were closed
}

type observer[T any] struct {
	ctx    context.Context // ends when the observer leaves
	values chan T          // closed by the round, at its end
}

func (s *shared[T]) join(o *observer[T]) *round[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = &round[T]{cancel: func() {}}
	}
	r := s.open
	r.observers = append(slices.Clip(r.observers), o)
	if r.done == nil && len(r.observers) >= s.quorum {
		var ctx context.Context
		ctx, r.cancel = context.WithCancel(context.WithoutCancel(o.ctx))
		r.done = make(chan struct{})
		go s.run(ctx, r, s.ended)
		s.ended = r.done
	}
	return r
}

// leave returns when nothing runs any more on behalf of o.
func (s *shared[T]) leave(r *round[T], o *observer[T]) {
	s.mu.Lock()
	r.observers = slices.DeleteFunc(slices.Clone(r.observers), func(x *observer[T]) bool { return x == o })
	last, done := len(r.observers) == 0, r.done
	if last && s.open == r {
		s.open = nil
	}
	s.mu.Unlock()
	if last && done != nil {
		r.cancel()
		<-done
	}
}

// run is one subscription to in, which begins when the one before has ended.
func (s *shared[T]) run(ctx context.Context, r *round[T], before <-chan struct{}) {
	defer close(r.done)
	if before != nil {
		<-before
	}
	err := s.in.Subscribe(ctx, func(v T) bool {
		for _, o := range s.observers(r) {
			streams.Send(o.ctx, o.values, v)
		}
		return ctx.Err() == nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == r {
		s.open = nil
	}
	r.err = err
	for _, o := range r.observers {
		close(o.values)
	}
}

func (s *shared[T]) observers(r *round[T]) []*observer[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.observers
}
