package operators_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

func TestConverge(t *testing.T) {
	sleep := func(d time.Duration, o operators.Outcome) *sinkFunc {
		return &sinkFunc{f: func(context.Context, operators.Run) operators.Outcome {
			time.Sleep(d)
			return o
		}}
	}
	// run subscribes to a converging Sequence over the inputs, each sent at its second,
	// and returns when Converged came.
	run := func(t *testing.T, opts operators.ConvergedOptions, sinks []operators.Sink, at ...int) (said []time.Duration) {
		began := time.Now()
		in := streams.New(func(ctx context.Context, emit func(operators.Input) bool) error {
			for i, s := range at {
				time.Sleep(time.Until(began.Add(time.Duration(s) * time.Second)))
				if i == 0 {
					emit(operators.Input{Graph: newGraph(t, sinks)})
				} else {
					emit(operators.Input{Wake: []int32{operators.All}})
				}
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_ = operators.Converge(operators.Sequence(in, operators.SequenceOptions{}), opts).Subscribe(ctx, func(r operators.Result) bool {
			if r.Kind == operators.Converged {
				said = append(said, time.Since(began)/time.Second)
			}
			return true
		})
		return said
	}
	boom := operators.Outcome{Err: errBoom}
	retry := operators.Outcome{Err: errBoom, Retry: true, RetryAfter: 20 * time.Second}
	for _, tt := range []struct {
		name string
		opts operators.ConvergedOptions
		sink operators.Sink
		at   []int
		want []time.Duration
	}{
		{"it waits for the timeout after the last run", operators.ConvergedOptions{Timeout: 5e9}, sleep(2e9, operators.Outcome{}), []int{0}, []time.Duration{7}},
		{"an event starts the wait anew", operators.ConvergedOptions{Timeout: 5e9}, sleep(0, operators.Outcome{}), []int{0, 4, 8}, []time.Duration{13}},
		{"it says so again after the next disturbance", operators.ConvergedOptions{Timeout: 5e9}, sleep(0, operators.Outcome{}), []int{0, 10}, []time.Duration{5, 15}},
		{"nothing is claimed before the first graph", operators.ConvergedOptions{Timeout: 1e9, Exit: true}, sleep(0, operators.Outcome{}), []int{30}, []time.Duration{31}},
		{"a run longer than the timeout holds it back", operators.ConvergedOptions{Timeout: 1e9, Exit: true}, sleep(9e9, operators.Outcome{}), []int{0}, []time.Duration{10}},
		{"a failure does not hold it back", operators.ConvergedOptions{Timeout: 5e9, Exit: true}, sleep(0, boom), []int{0}, []time.Duration{5}},
		{"a wait for the next attempt does", operators.ConvergedOptions{Timeout: 5e9}, sleep(0, retry), []int{0}, nil},
		{"zero means at once", operators.ConvergedOptions{Exit: true}, sleep(1e9, operators.Outcome{}), []int{0}, []time.Duration{1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				said := run(t, tt.opts, []operators.Sink{tt.sink}, tt.at...)
				if len(said) != len(tt.want) {
					t.Fatalf("converged at %d s, want %d s", said, tt.want)
				}
				for i := range said {
					if said[i] != tt.want[i] {
						t.Errorf("converged at %d s, want %d s", said, tt.want)
					}
				}
			})
		})
	}
	t.Run("an empty graph is converged", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if said := run(t, operators.ConvergedOptions{Timeout: 3e9, Exit: true}, nil, 0); len(said) != 1 || said[0] != 3 {
				t.Errorf("converged at %d s", said)
			}
		})
	})
}

func TestConvergeAsksTheBarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// An event is on its way when the timeout has passed: the marker comes behind it.
		in := make(chan operators.Input, 10)
		runs := 0
		sink := &sinkFunc{f: func(context.Context, operators.Run) operators.Outcome { runs++; return operators.Outcome{} }}
		in <- operators.Input{Graph: newGraph(t, []operators.Sink{sink})}
		asked := 0
		opts := operators.ConvergedOptions{Timeout: time.Second, Exit: true, Barrier: func(marker uint64) {
			if asked++; asked == 1 {
				in <- operators.Input{Wake: []int32{0}}
			}
			in <- operators.Input{Marker: marker}
		}}
		began := time.Now()
		err := operators.Converge(operators.Sequence(streams.FromChan(in), operators.SequenceOptions{}), opts).Subscribe(t.Context(), func(operators.Result) bool { return true })
		if took := time.Since(began); err != nil || took != 2*time.Second || runs != 2 || asked != 2 {
			t.Errorf("took %v, %d runs, asked %d times, error %v", took, runs, asked, err)
		}
	})
}
