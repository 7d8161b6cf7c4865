package process_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/sources/command/process"
)

func Example() {
	r, err := process.Run(context.Background(), process.Command{Cmd: "echo 'hello  world'"}, time.Second)
	fmt.Printf("%q %v\n", r.Stdout, err)

	_, err = process.Run(context.Background(), process.Command{Cmd: "echo oops >&2; exit 3", Shell: "/bin/sh"}, time.Second)
	fmt.Println(err)
	// Output:
	// "hello  world\n" <nil>
	// "echo oops >&2; exit 3" exited with status 3: oops
}
