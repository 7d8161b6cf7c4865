package signals_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mgmtproject/mgmt/sources/signals"
)

func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	var sender sync.WaitGroup
	sender.Go(func() {
		for ctx.Err() == nil {
			_ = syscall.Kill(os.Getpid(), syscall.SIGWINCH)
			time.Sleep(time.Millisecond)
		}
	})
	err := signals.Observe(syscall.SIGWINCH).Subscribe(ctx, func(s os.Signal) bool {
		fmt.Println(s)
		return false
	})
	cancel()
	sender.Wait()
	fmt.Println(err)
	// Output:
	// window changed
	// <nil>
}
