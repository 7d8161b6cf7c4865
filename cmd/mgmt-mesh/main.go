// The mgmt-mesh program is the peer of a host in a mesh: it reaches the mesh, and serves
// it if this host is to. mgmt run starts it when a graph needs it; people call its other
// commands as "mgmt mesh".
package main

import (
	"context"
	"os"

	"github.com/mgmtproject/mgmt/cmd/internal/meshcli"
)

// version is set by the linker.
var version string

func main() {
	p := meshcli.Program{Version: version, In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	os.Exit(meshcli.Run(context.Background(), p, os.Args[1:]))
}
