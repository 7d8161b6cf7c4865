package survival_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/cmd/internal/meshcli"
)

// TestMain makes the test program be mgmt, or mgmt-mesh, for those who start it by that
// name: real processes, with whatever the test was built with.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "mgmt":
		p := cli.Program{Exits: true, In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
		os.Exit(cli.Run(context.Background(), p, os.Args[1:]))
	case mesh.Program:
		p := meshcli.Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
		os.Exit(meshcli.Run(context.Background(), p, os.Args[1:]))
	}
	os.Exit(run(m))
}

// run puts links with the names of the programs into PATH.
func run(m *testing.M) int {
	self, err := os.Executable()
	dir, err2 := os.MkdirTemp("", "mgmt-survival-")
	if err := errors.Join(err, err2); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	err = errors.Join(
		os.Symlink(self, filepath.Join(dir, "mgmt")),
		os.Symlink(self, filepath.Join(dir, mesh.Program)),
		os.Setenv("PATH", dir+":"+os.Getenv("PATH")),
		os.Setenv("GORACE", "atexit_sleep_ms=0"),
		os.Unsetenv("NOTIFY_SOCKET"),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
