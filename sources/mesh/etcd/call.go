package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

const (
	// callLimit is how long a call goes on without a deadline of its own.
	callLimit = 8 * time.Second

	// attemptLeast and attemptMost bound how long a call waits for a server before it tries the
	// next one: four times what calls have taken of late. After patience attempts the time
	// doubles, since all may have become slow. What was sent to a server that has just died
	// is lost, and then every attempt counts.
	attemptLeast, attemptMost = 500 * time.Millisecond, 3 * time.Second
	patience                  = 3

	// awayAfter is how long the mesh must not answer for the log to tell.
	awayAfter = 1500 * time.Millisecond

	// dialLimit is for a connection to be made.
	dialLimit = 2 * time.Second

	firstPause = 20 * time.Millisecond
	maxPause   = time.Second
)

// call runs f until it succeeds, fails in a way that no repetition mends, or time is up.
// Doing says what for, in the words of an error.
func (s *Store) call(ctx context.Context, doing string, f func(ctx context.Context) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callLimit)
		defer cancel()
	}
	began, limit := time.Now(), s.pace.limit()
	for n, pause := 1, firstPause; ; n, pause = n+1, min(2*pause, maxPause) {
		if n > patience {
			limit *= 2
		}
		start := time.Now()
		attempt, cancel := context.WithTimeout(ctx, limit)
		err := f(attempt)
		cancel()
		if err == nil {
			s.pace.took(time.Since(start))
			s.reached(nil)
			return nil
		}
		if ctx.Err() == nil && !transient(err) {
			return s.explain(doing, err)
		}
		if ctx.Err() == nil {
			wait(ctx, pause)
		}
		if ctx.Err() != nil {
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return context.Cause(ctx)
			}
			if time.Since(began) >= awayAfter { // otherwise it was the caller who is in a hurry
				s.reached(err)
			}
			return fmt.Errorf("%s: %w: %s", doing, mesh.ErrUnreachable, plain(err))
		}
	}
}

// pace knows how long calls take.
type pace struct{ usual atomic.Int64 }

// took keeps in mind that a call has taken d. The slow ones count for longer.
func (p *pace) took(d time.Duration) {
	p.usual.Store(max(int64(d), p.usual.Load()*7/8))
}

// limit is how long to wait for a server.
func (p *pace) limit() time.Duration {
	return min(max(4*time.Duration(p.usual.Load()), attemptLeast), attemptMost)
}

// wait returns after about d, or when ctx is done.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// reached tells the log when the mesh goes away and comes back.
func (s *Store) reached(err error) {
	if away := err != nil; s.away.Load() == away || !s.away.CompareAndSwap(!away, away) {
		return
	}
	if err != nil {
		s.log.Warn("mesh unreachable", "err", plain(err))
	} else {
		s.log.Info("mesh reachable again")
	}
}

// code is what sort of error etcd or gRPC has returned.
func code(err error) codes.Code {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	return status.Code(err)
}

// notForLearners is what a server says that has no vote yet.
var notForLearners = rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)

// transient tells whether the same call may succeed later, or with another server.
func transient(err error) bool {
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	}
	return errors.Is(err, rpctypes.ErrAuthOldRevision) || errors.Is(err, rpctypes.ErrLeaseNotFound) || errors.Is(err, notForLearners)
}

// refused tells whether etcd's access control has said no.
func refused(err error) bool {
	switch code(err) {
	case codes.PermissionDenied, codes.Unauthenticated:
		return true
	}
	for _, e := range []error{rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound, rpctypes.ErrAuthFailed, rpctypes.ErrInvalidAuthToken} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// explain puts an error that no repetition mends in words of ours.
func (s *Store) explain(doing string, err error) error {
	switch {
	case errors.Is(err, mesh.ErrConflict), errors.Is(err, mesh.ErrUnreachable):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		return fmt.Errorf("%s as host %s: %w", doing, s.host, mesh.ErrRefused)
	case refused(err):
		return fmt.Errorf("%s as host %s: %w: its servers don't know this host (%s)", doing, s.host, mesh.ErrRefused, plain(err))
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%s: the servers of the mesh have no space left for it (%s)", doing, plain(err))
	case errors.Is(err, rpctypes.ErrRequestTooLarge), code(err) == codes.ResourceExhausted:
		return fmt.Errorf("%s: it is too large for the mesh, which takes about 1.5 MB at a time (%s)", doing, plain(err))
	}
	return fmt.Errorf("%s: %s", doing, plain(err))
}

// plain is the text of an error without the frame that gRPC puts around it.
func plain(err error) string {
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}
