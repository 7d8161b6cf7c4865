// Package cli is the command line of mgmt: what the arguments mean, what is printed,
// and which exit status the program ends with. It is a package of its own, apart from
// cmd/mgmt, so that its reference pages can be made from the commands themselves.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
)

// The exit statuses, beside 128 plus the number of a signal.
const (
	exitOK       = 0
	exitFailed   = 1  // a resource has failed, or time was up
	exitUsage    = 2  // the command line or a graph file is wrong
	exitInternal = 70 // a fault of the program; EX_SOFTWARE of sysexits.h
)

// Program is what a run of the command line works with.
type Program struct {
	// Version is the release that the linker was told; it may be empty.
	Version string

	// Exits says that the process ends when Run returns.
	Exits bool

	// In, Out and Err are the standard streams.
	In       io.Reader
	Out, Err io.Writer
}

// Run does what the arguments, those after the name of the program, ask for and returns
// the exit status. It never panics and never prints a stack.
func Run(ctx context.Context, p Program, args []string) (code int) {
	if p.Exits {
		debug.SetTraceback("none") // for what no recover can catch; GOTRACEBACK overrides it
	}
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(p.Err, "mgmt: internal error: %v; please report it\n", r)
			code = exitInternal
		}
	}()
	root := New(p)
	root.SetArgs(append([]string{}, args...)) // nil would stand for those of the process
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if ended, ok := errors.AsType[exitStatus](err); ok {
		return int(ended)
	}
	fmt.Fprintf(p.Err, "%s: %v\n", cmd.CommandPath(), err)
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(p.Err, "Try '%s --help'.\n", cmd.CommandPath())
		return usageStatus(cmd)
	}
	return exitFailed
}

type (
	exitStatus = command.ExitStatus
	usageError = command.UsageError
)

func usagef(format string, args ...any) error { return command.Usagef(format, args...) }

// New returns the tree of commands.
func New(p Program) *cobra.Command {
	version := false
	root := &cobra.Command{
		Use:   "mgmt COMMAND",
		Short: "Keep a host in the state that a graph of resources describes",
		Long: `mgmt brings a host to the state that a graph of resources describes, and keeps it
there. It acts on events, and runs what is independent at the same time.`,
		Example: `  mgmt run --file graph.yaml                          until it is stopped
  mgmt run --file graph.yaml --converged-timeout=5    in a script: ends when all is right
  mgmt plan graph.yaml                                show what would change
  mgmt validate graph.yaml                            find mistakes, touch nothing
  mgmt mesh status                                    look at the hosts that share resources`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return command.Unknown(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return printVersion(p)
			}
			cmd.SetOut(p.Err)
			_ = cmd.Help()
			return exitStatus(exitUsage)
		},
	}
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	root.Flags().BoolVar(&version, "version", false, "print which version this is")
	root.AddCommand(runCommand(p), planCommand(p), explainCommand(p), statusCommand(p), tapCommand(p), validateCommand(p), graphCommand(p), meshCommand(p), versionCommand(p), completionCommand(p))
	command.Prepare(root)
	return root
}

// HelpText is what --help prints.
func HelpText(cmd *cobra.Command) string { return command.HelpText(cmd) }

// files completes arguments that are graph files.
func files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return graphExtensions, cobra.ShellCompDirectiveFilterFileExt
}

var graphExtensions = []string{"yaml", "yml", "json"}
