// The mgmt program brings a host to the state that a graph of resources describes, and
// keeps it there.
package main

import (
	"context"
	"io"
	"os"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
)

// version is set by the linker.
var version string

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, cli.Program{Version: version, In: stdin, Out: stdout, Err: stderr}, args)
}
