package command_test

import (
	"context"
	"fmt"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/command"
	"github.com/mgmtproject/mgmt/sources/command/process"
)

func Example() {
	follow := command.Lines(process.Command{Cmd: "echo changed; echo changed again; sleep 1000", Shell: "/bin/sh"})
	n := 0
	err := sources.Observe(command.New(), follow).
		Subscribe(context.Background(), func(e sources.Event) bool {
			fmt.Println(e.Source, e.What)
			n++
			return n < 2
		})
	fmt.Println(err)
	// Output:
	// command changed
	// command changed again
	// <nil>
}
