package sources_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/timer"
)

func ExampleObserve() {
	ticks := sources.Observe(timer.New(), timer.Every(time.Millisecond))
	n := 0
	for event, err := range ticks.Seq(context.Background()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if n++; n == 3 {
			fmt.Println(event.Source, "watches", event.Watch)
			break
		}
	}
	// Output: timer watches every 1ms
}
