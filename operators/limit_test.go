package operators_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

func TestLimit(t *testing.T) {
	type at = stamped[int]
	const s = time.Second
	tests := []struct {
		name  string
		in    streams.Observable[int]
		r     rate.Limit
		burst int
		want  []at
		err   error
	}{
		{"a value passes at once", paced(nil, 0), 1, 1, []at{{0, 0}}, nil},
		{"a burst passes at once, then the newest in its turn", then(paced(nil, 0, 0, 0, 0), idle(10*s)), 1, 2, []at{{0, 0}, {0, 1}, {s, 3}}, nil},
		{"slow values are not delayed", paced(nil, 0, 2*s, 2*s), 1, 1, []at{{0, 0}, {2 * s, 1}, {4 * s, 2}}, nil},
		{"one in five seconds", then(paced(nil, 0, s, s, s), idle(10*s)), 0.2, 1, []at{{0, 0}, {5 * s, 3}}, nil},
		{"the value that waits has its turn after completion", paced(nil, 0, 100*ms), 1, 1, []at{{0, 0}, {s, 1}}, nil},
		{"the value that waits has its turn before the failure", paced(errBoom, 0, 100*ms), 1, 1, []at{{0, 0}, {s, 1}}, errBoom},
		{"a failure with nothing waiting comes at once", paced(errBoom, 0), 1, 1, []at{{0, 0}}, errBoom},
		{"no limit passes all", paced(nil, 0, 0, 0), rate.Inf, 0, []at{{0, 0}, {0, 1}, {0, 2}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, err := collect(t.Context(), operators.Limit(tt.in, tt.r, tt.burst), 0)
				if !errors.Is(err, tt.err) || !slices.Equal(got, tt.want) {
					t.Errorf("got %v, %v; want %v, %v", got, err, tt.want, tt.err)
				}
			})
		})
	}
}

func TestLimitRefusesWhatLetsNothingPass(t *testing.T) {
	for _, tt := range []struct {
		name  string
		r     rate.Limit
		burst int
	}{
		{"a rate of zero", 0, 1},
		{"a negative rate", -1, 1},
		{"a rate that is no number", rate.Limit(math.NaN()), 1},
		{"a burst of zero", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := collect(t.Context(), operators.Limit(streams.Of(1), tt.r, tt.burst), 0)
			if err == nil || len(got) != 0 {
				t.Errorf("got %v, %v; want an error", got, err)
			}
		})
	}
}

func TestLimitEndsWhileAValueWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*ms)
		defer cancel()
		got, err := collect(ctx, operators.Limit(paced(nil, 0, 0), 1, 1), 0)
		if len(got) != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, %v; want one value and the cancel", got, err)
		}
	})
}

// For random pauses and limits: the rate holds over every stretch of time, values keep
// their order, and the newest value is never held back for longer than one turn.
func TestLimitProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		perSecond := rapid.SampledFrom([]float64{0.5, 1, 3, 10}).Draw(rt, "rate")
		burst := rapid.IntRange(1, 4).Draw(rt, "burst")
		var pauses []time.Duration
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 700), 1, 40).Draw(rt, "pauses") {
			pauses = append(pauses, time.Duration(n)*ms)
		}
		var got []stamped[int]
		var err error
		synctest.Test(t, func(t *testing.T) {
			got, err = collect(t.Context(), operators.Limit(paced(nil, pauses...), rate.Limit(perSecond), burst), 0)
		})
		if err != nil || got[len(got)-1].V != len(pauses)-1 {
			rt.Fatalf("got %v, %v; want the last of %d values at the end", got, err, len(pauses))
		}
		turn := time.Duration(float64(time.Second) / perSecond)
		came := make([]time.Duration, len(pauses))
		for i, p := range pauses {
			came[i] = p
			if i > 0 {
				came[i] += came[i-1]
			}
		}
		for i, g := range got {
			if i > 0 && got[i-1].V >= g.V {
				rt.Fatalf("%v is out of order", got)
			}
			if late := g.At - came[g.V]; late < 0 || late > turn+ms {
				rt.Fatalf("value %d came %v after its time, a turn is %v", g.V, late, turn)
			}
			for j := range i {
				most := float64(burst) + perSecond*(g.At-got[j].At).Seconds() + 0.01
				if n := i - j + 1; float64(n) > most {
					rt.Fatalf("%d values from %v to %v, the limit is %g", n, got[j].At, g.At, most)
				}
			}
		}
	})
}

func ExampleLimit() {
	// Two messages an hour: of the others, the newest would follow half an hour later.
	messages := streams.Of("disk full", "disk still full", "disk still full", "disk replaced")
	sent := 0
	for message := range operators.Limit(messages, rate.Every(30*time.Minute), 2).Seq(context.Background()) {
		fmt.Println(message)
		if sent++; sent == 2 {
			break
		}
	}
	// Output:
	// disk full
	// disk still full
}
