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
	changes := 0
	check := func(sources.Event) bool {
		out, err := r.CheckApply(context.Background(), true)
		if err != nil {
			panic(err)
		}
		if out.Changed {
			changes++
			fmt.Println("tick")
		}
		return changes < 2
	}
	wakes := sources.Observe(ticks.New(), r.Watches()...)
	check(sources.Event{}) // starts it
	if err := wakes.Subscribe(context.Background(), check); err != nil {
		panic(err)
	}
	// Output:
	// tick
	// tick
}
