// Command init is all that the tests' containers run. It ends when it is told to.
// is told to. Before that it can't be told: process 1 is sent no signal that it does not
// handle.
package main

import (
	"fmt"
	"net"
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
	if err := notify(os.Getenv("NOTIFY_SOCKET")); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	<-end
}

// notify tells systemd-nspawn, as sd_notify(3) does.
func notify(socket string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte("READY=1"))
	return err
}
