package streams_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/streams"
)

// Any number of sources, any buffer: every value comes, each source in its order.
func TestMergeKeepsTheOrderOfEachSource(t *testing.T) {
	type tagged struct{ source, value int }
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(0, 100), 0, 6).Draw(t, "lengths")
		var sources []streams.Observable[tagged]
		for s, n := range lengths {
			sources = append(sources, streams.New(func(_ context.Context, emit func(tagged) bool) error {
				for v := range n {
					emit(tagged{s, v})
				}
				return nil
			}))
		}
		next := make([]int, len(lengths))
		err := streams.Merge(rapid.IntRange(0, 10).Draw(t, "buffer"), sources...).Subscribe(context.Background(), func(v tagged) bool {
			if v.value != next[v.source] {
				t.Fatalf("source %d: got %d, want %d", v.source, v.value, next[v.source])
			}
			next[v.source]++
			return true
		})
		if err != nil || !slices.Equal(next, lengths) {
			t.Fatalf("got %v values, %v; want %v", next, err, lengths)
		}
	})
}

func TestMergeOfNothingCompletes(t *testing.T) {
	if got, err := collect(t.Context(), streams.Merge[int](0), 0); len(got) != 0 || err != nil {
		t.Errorf("got %v, %v; want nothing", got, err)
	}
}

func TestMergeFirstFailureCancelsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := func(after time.Duration, err error) streams.Observable[int] {
			return streams.New(func(ctx context.Context, _ func(int) bool) error {
				select {
				case <-time.After(after):
					return err
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
		}
		start := time.Now()
		_, err := collect(t.Context(), streams.Merge(4, count1s(), fails(3*time.Second, errBoom), fails(time.Hour, errors.New("too late")), streams.Never[int]()), 0)
		if !errors.Is(err, errBoom) || time.Since(start) != 3*time.Second {
			t.Errorf("got %v after %v, want the first failure at once", err, time.Since(start))
		}
	})
}

// count1s emits one value a second.
func count1s() streams.Observable[int] {
	return streams.New(func(ctx context.Context, emit func(int) bool) error {
		for i := 0; ; i++ {
			select {
			case <-time.After(time.Second):
				emit(i)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
}

func TestMergeEmitsWhatCameBeforeTheFailure(t *testing.T) {
	got, err := collect(t.Context(), streams.Merge(8, failing(errBoom, 1, 2, 3)), 0)
	if !errors.Is(err, errBoom) || !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("got %v, %v; want all values and then the failure", got, err)
	}
}

func TestMergeOneSourceMayEndBeforeTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := collect(t.Context(), streams.Merge(0, streams.Of(-1), count1s()), 4)
		if err != nil || !slices.Equal(got, []int{-1, 0, 1, 2}) {
			t.Errorf("got %v, %v; want the short source and then the long one", got, err)
		}
	})
}

func TestMergeWaitsForEverySourceToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := streams.New(func(ctx context.Context, _ func(int) bool) error {
			<-ctx.Done()
			time.Sleep(time.Minute) // an end that takes its time
			return context.Cause(ctx)
		})
		start := time.Now()
		if _, err := collect(t.Context(), streams.Merge(0, slow, streams.Of(1)), 1); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("returned after %v, want when the slowest source had ended", d)
		}
	})
}

func BenchmarkSubscribe(b *testing.B) {
	plus := func(v int) int { return v + 1 }
	for _, bb := range []struct {
		name string
		wrap func(ints) ints
	}{
		{"bare", func(o ints) ints { return o }},
		{"three Maps", func(o ints) ints { return streams.Map(streams.Map(streams.Map(o, plus), plus), plus) }},
		{"Merge", func(o ints) ints { return streams.Merge(256, o) }},
		{"Rx and FromRx", throughRx},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			o := bb.wrap(streams.New(func(_ context.Context, emit func(int) bool) error {
				for i := 0; b.Loop(); i++ {
					emit(i)
				}
				return nil
			}))
			if err := o.Subscribe(b.Context(), func(int) bool { return true }); err != nil {
				b.Fatal(err)
			}
		})
	}
}
