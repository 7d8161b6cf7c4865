// Init is all that the tests' containers run. It ends when it is told to.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// halt is what systemd-nspawn sends for a shutdown in order: SIGRTMIN+3.
const halt = syscall.Signal(37)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, halt)
	fmt.Println("the container is up")
	<-end
}
