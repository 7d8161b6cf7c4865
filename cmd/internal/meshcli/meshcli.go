// Package meshcli is the command line of mgmt-mesh, the program that is the peer of a host
// in a mesh. People call it as "mgmt mesh". It is a program of its own since it links what
// serves a mesh, which no other run of mgmt should have to load; and so that what ends the
// server does not end the agent, which keeps the machine.
package meshcli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
)

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Program is what a run of the command line works with.
type Program struct {
	// Version is the release that the linker was told; it may be empty.
	Version string

	// In, Out and Err are the standard streams.
	In       io.Reader
	Out, Err io.Writer
}

// Run does what the arguments, those after the name of the program, ask for and returns
// the exit status.
func Run(ctx context.Context, p Program, args []string) (code int) {
	root := New(p)
	root.SetArgs(append([]string{}, args...)) // nil would stand for those of the process
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if ended, ok := errors.AsType[command.ExitStatus](err); ok {
		return int(ended)
	}
	fmt.Fprintf(p.Err, "%s: %v\n", cmd.CommandPath(), err)
	if _, ok := errors.AsType[command.UsageError](err); ok {
		fmt.Fprintf(p.Err, "Try '%s --help'.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

// New returns the tree of commands.
func New(p Program) *cobra.Command {
	root := &cobra.Command{
		Use:         "mgmt-mesh COMMAND",
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "mgmt mesh"},
		Short:       "Look at a mesh, let hosts in and take them out",
		Long: `Look at the mesh that hosts form which export, collect or share resources, let hosts in, take
hosts out, and get a mesh back that has lost most of its servers. docs/mesh.md tells how a mesh
is made.`,
		Example: `  mgmt mesh status
  mgmt mesh forget web3`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return command.Unknown(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(p.Err)
			_ = cmd.Help()
			return command.ExitStatus(exitUsage)
		},
	}
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	root.AddCommand(statusCommand(p), initCommand(p), inviteCommand(p), forgetCommand(p), resizeCommand(p), saveCommand(p), recoverCommand(p), serveCommand(p))
	command.Prepare(root)
	return root
}
