package timer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/timer"
	"github.com/mgmtproject/mgmt/sources"
	ticks "github.com/mgmtproject/mgmt/sources/timer"
)

func Example() {
	r, err := (&timer.Config{Interval: 20 * time.Millisecond}).Build("soon", sinks.Options{})
	if err != nil {
		panic(err)
	}
	n := 0
	check := func(sources.Event) bool {
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, err)
		n++
		return n < 3
	}
	wakes := sources.Observe(ticks.New(), r.Watches()...)
	check(sources.Event{}) // starts it
	if err := wakes.Subscribe(context.Background(), check); err != nil {
		panic(err)
	}
	// Output:
	// false <nil>
	// true <nil>
	// true <nil>
}
