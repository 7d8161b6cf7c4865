package timer_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/timer"
)

func Example() {
	ticks := 0
	err := sources.Observe(timer.New(), timer.Every(10*time.Millisecond)).
		Subscribe(context.Background(), func(e sources.Event) bool {
			fmt.Println(e)
			ticks++
			return ticks < 2
		})
	fmt.Println(err)
	// Output:
	// timer every 10ms tick
	// timer every 10ms tick
	// <nil>
}
