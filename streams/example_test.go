package streams_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/reactivex/rxgo/v2"

	"github.com/mgmtproject/mgmt/streams"
)

func ExampleNew() {
	countdown := streams.New(func(ctx context.Context, emit func(int) bool) error {
		for i := 3; i > 0; i-- {
			if !emit(i) { // the subscriber has had enough
				return nil
			}
		}
		return nil
	})
	err := countdown.Subscribe(context.Background(), func(i int) bool {
		fmt.Println(i)
		return i != 2
	})
	fmt.Println("ended with", err)
	// Output:
	// 3
	// 2
	// ended with <nil>
}

func ExampleObservable_Seq() {
	failing := streams.New(func(_ context.Context, emit func(string) bool) error {
		emit("one")
		emit("two")
		return fmt.Errorf("the line went dead")
	})
	for word, err := range failing.Seq(context.Background()) {
		if err != nil {
			fmt.Println("error:", err)
			break
		}
		fmt.Println(word)
	}
	// Output:
	// one
	// two
	// error: the line went dead
}

func ExampleObservable_Subscribe() {
	buggy := streams.Map(streams.Of(4, 2, 0), func(n int) int { return 8 / n })
	err := buggy.Subscribe(context.Background(), func(n int) bool {
		fmt.Println(n)
		return true
	})
	fmt.Println(err)
	// Output:
	// 2
	// 4
	// stream panicked: runtime error: integer divide by zero
}

func ExampleMerge() {
	total := 0
	for n := range streams.Merge(8, streams.Of(1, 2, 3), streams.Of(10, 20, 30)).Seq(context.Background()) {
		total += n
	}
	fmt.Println(total)
	// Output:
	// 66
}

func ExampleMap() {
	shout := streams.Map(streams.Of("a", "b"), strings.ToUpper)
	for s := range shout.Seq(context.Background()) {
		fmt.Println(s)
	}
	// Output:
	// A
	// B
}

func ExampleFilter() {
	even := streams.Filter(streams.Of(1, 2, 3, 4), func(n int) bool { return n%2 == 0 })
	for n := range even.Seq(context.Background()) {
		fmt.Println(n)
	}
	// Output:
	// 2
	// 4
}

// Any chain of RxGo operators stands between two typed stages.
func ExampleVia() {
	sizes := streams.Of(3, 1, 2, 5)
	running := streams.Via[int, int](sizes, 1, func(o rxgo.Observable, bind rxgo.Option) rxgo.Observable {
		return o.Scan(func(_ context.Context, sum, n any) (any, error) {
			if sum == nil {
				return n, nil
			}
			return sum.(int) + n.(int), nil
		}).Skip(1)
	})
	for sum := range running.Seq(context.Background()) {
		fmt.Println(sum)
	}
	// Output:
	// 4
	// 6
	// 11
}

// A Merge starts when it is built, so it takes bind: it then ends with the subscription.
func ExampleFromRx() {
	ticks := streams.FromRx[int](0, func(bind rxgo.Option) rxgo.Observable {
		return rxgo.Merge([]rxgo.Observable{
			rxgo.Interval(rxgo.WithDuration(time.Millisecond), bind),
			rxgo.Never(),
		}, bind)
	})
	for tick, err := range ticks.Seq(context.Background()) {
		fmt.Println(tick, err)
		if tick == 2 {
			break
		}
	}
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 <nil>
}

func ExampleObservable_Rx() {
	words := streams.Of("to", "be", "or", "not", "to", "be")
	for item := range words.Rx(0).Distinct(func(_ context.Context, word any) (any, error) { return word, nil }).Observe() {
		fmt.Println(item.V)
	}
	// Output:
	// to
	// be
	// or
	// not
}
