package operators_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

// attempts runs the n-th of its parts at its n-th subscription.
func attempts(count *int, parts ...streams.Observable[int]) streams.Observable[int] {
	return streams.New(func(ctx context.Context, emit func(int) bool) error {
		*count++
		return parts[*count-1].Subscribe(ctx, emit)
	})
}

func every(d time.Duration) func() backoff.BackOff {
	return func() backoff.BackOff { return backoff.NewConstantBackOff(d) }
}

func TestRetry(t *testing.T) {
	type at = stamped[int]
	fails, works := paced(errBoom), paced(nil, 0)
	worksThenFails := paced(errBoom, 0)
	panics := streams.New(func(context.Context, func(int) bool) error { panic("bug") })
	asks := paced(fmt.Errorf("busy: %w", backoff.RetryAfter(60)))
	gives := func(n int) func() backoff.BackOff {
		return func() backoff.BackOff { return operators.Tries(n, backoff.NewConstantBackOff(time.Second)) }
	}
	tests := []struct {
		name   string
		parts  []streams.Observable[int]
		policy func() backoff.BackOff
		want   []at
		runs   int
		err    error
	}{
		{"a stream that works is subscribed once", []streams.Observable[int]{works}, every(time.Second), []at{{0, 0}}, 1, nil},
		{"a failure is followed by a pause and another try", []streams.Observable[int]{fails, fails, works}, every(time.Second), []at{{2 * time.Second, 0}}, 3, nil},
		{"the last failure comes through when the policy stops", []streams.Observable[int]{fails, fails, fails}, gives(2), nil, 3, errBoom},
		{"no tries means one subscription", []streams.Observable[int]{fails}, gives(0), nil, 1, errBoom},
		{"a value gives the tries back", []streams.Observable[int]{fails, worksThenFails, fails, works}, gives(2), []at{{time.Second, 0}, {3 * time.Second, 0}}, 4, nil},
		{"a permanent failure is not retried", []streams.Observable[int]{paced(backoff.Permanent(errBoom))}, every(time.Second), nil, 1, errBoom},
		{"a panic is not retried", []streams.Observable[int]{panics}, every(time.Second), nil, 1, new(streams.PanicError)},
		{"a failure may ask for its own pause", []streams.Observable[int]{asks, works}, every(time.Second), []at{{time.Minute, 0}}, 2, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runs := 0
				got, err := collect(t.Context(), operators.Retry(attempts(&runs, tt.parts...), tt.policy), 0)
				if !slices.Equal(got, tt.want) || runs != tt.runs {
					t.Errorf("got %v after %d subscriptions, want %v after %d", got, runs, tt.want, tt.runs)
				}
				if _, ok := errors.AsType[*streams.PanicError](tt.err); ok {
					if _, ok := errors.AsType[*streams.PanicError](err); !ok {
						t.Errorf("got error %v, want a panic's", err)
					}
				} else if err != tt.err { // the very error, without a wrapper
					t.Errorf("got error %v, want %v", err, tt.err)
				}
			})
		})
	}
}

func TestRetryEndsInItsPauseOnCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := collect(ctx, operators.Retry(paced(errBoom), every(time.Hour)), 0)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want the cancel at once", err, time.Since(start))
		}
	})
}

func TestRetryEndsWhenItsConsumerDoes(t *testing.T) {
	runs := 0
	got, err := collect(t.Context(), operators.Retry(attempts(&runs, paced(errBoom, 0)), every(0)), 1)
	if len(got) != 1 || err != nil || runs != 1 {
		t.Errorf("got %v, %v after %d subscriptions; want one value of one subscription", got, err, runs)
	}
}

// Two subscriptions at once must not share the state of one policy.
func TestRetryPolicyIsPerSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := operators.Retry(paced(errBoom), func() backoff.BackOff {
			return operators.Tries(1, backoff.NewConstantBackOff(time.Second))
		})
		for range 2 {
			start := time.Now()
			if _, err := collect(t.Context(), o, 0); err != errBoom || time.Since(start) != time.Second {
				t.Errorf("got %v after %v, want %v after one pause", err, time.Since(start), errBoom)
			}
		}
	})
}

func ExampleRetry() {
	tries := 0
	flaky := streams.New(func(_ context.Context, emit func(string) bool) error {
		if tries++; tries < 3 {
			return fmt.Errorf("connection refused")
		}
		emit("connected")
		return nil
	})
	patient := operators.Retry(flaky, func() backoff.BackOff {
		return operators.Tries(5, backoff.NewConstantBackOff(time.Millisecond))
	})
	for state, err := range patient.Seq(context.Background()) {
		fmt.Println(state, err, "at try", tries)
	}
	// Output:
	// connected <nil> at try 3
}

func ExampleTries() {
	policy := operators.Tries(2, backoff.NewConstantBackOff(time.Second))
	fmt.Println(policy.NextBackOff(), policy.NextBackOff(), policy.NextBackOff() == backoff.Stop)
	// Output:
	// 1s 1s true
}
