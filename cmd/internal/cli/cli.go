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
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mgmtproject/mgmt/sinks/params"
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

// exitStatus is the error of a command that has already told what there was to tell.
type exitStatus int

// Error implements error.
func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a mistake in the arguments.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

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
  mgmt validate graph.yaml                            find mistakes, touch nothing`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return printVersion(p)
			}
			cmd.SetOut(p.Err)
			_ = cmd.Help()
			return exitStatus(exitUsage)
		},
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	root.SetHelpFunc(help)
	root.SetFlagErrorFunc(flagError)
	root.Flags().BoolVar(&version, "version", false, "print which version this is")
	cobra.EnableCommandSorting = false
	root.SetHelpCommand(helpCommand())
	root.AddCommand(runCommand(p), planCommand(p), explainCommand(p), statusCommand(p), tapCommand(p), validateCommand(p), graphCommand(p), versionCommand(p), completionCommand(p))
	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().SortFlags = false
		cmd.Flags().BoolP("help", "h", false, "show this help")
		cmd.DisableFlagsInUseLine = true
	}
	return root
}

// helpCommand prints the help of another command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "help [COMMAND]",
		Hidden:            true,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(cmd.Root(), rest[0])
			}
			return about.Help()
		},
	}
}

func unknownCommand(root *cobra.Command, name string) error {
	if near, ok := params.Nearest(name, names(root)); ok {
		return usagef("unknown command %q; did you mean %q?", name, near)
	}
	return usagef("unknown command %q; there are %s", name, strings.Join(names(root), ", "))
}

// names lists the commands that a user may mean.
func names(root *cobra.Command) []string {
	var list []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, c.Name())
		}
	}
	return list
}

// help prints the help of a command: the text, how it is called, its flags, examples.
func help(cmd *cobra.Command, _ []string) { _, _ = io.WriteString(cmd.OutOrStdout(), HelpText(cmd)) }

// HelpText is what --help prints.
func HelpText(cmd *cobra.Command) string {
	var b strings.Builder
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", strings.TrimSpace(text), cmd.UseLine())
	if cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-12s %s\n", c.Name(), c.Short)
			}
		}
	}
	if flags := cmd.LocalFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(&b, "\nFlags:\n%s", flags.FlagUsagesWrapped(100))
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nMore about a command: %s COMMAND --help\n", cmd.CommandPath())
	}
	return b.String()
}

// flagError says what is wrong with a flag in the words of this program.
func flagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := unknown.GetSpecifiedName()
		if letters := unknown.GetSpecifiedShortnames(); letters != "" {
			return usagef("unknown flag -%s", letters)
		}
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		if near, ok := params.Nearest(name, known); ok {
			return usagef("unknown flag --%s; did you mean --%s?", name, near)
		}
		return usagef("unknown flag --%s", name)
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return usagef("--%s: %w", invalid.GetFlag().Name, invalid.Unwrap())
	}
	if bare, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return usagef("--%s needs a value", bare.GetFlag().Name)
	}
	return usageError{err}
}

// files completes arguments that are graph files.
func files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return graphExtensions, cobra.ShellCompDirectiveFilterFileExt
}

var graphExtensions = []string{"yaml", "yml", "json"}
