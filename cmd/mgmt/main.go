// The mgmt program brings a host to the state that a graph of resources describes, and
// keeps it there.
package main

import (
	"context"
	"os"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
)

// version is set by the linker.
var version string

func main() {
	p := cli.Program{Version: version, Exits: true, In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(cli.Run(context.Background(), p, os.Args[1:]))
}
