package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
)

const (
	// meshName is the name of the command, and of the directory below the prefix in which
	// the peers of this host keep what has to survive them.
	meshName = "mesh"

	// leaveLimit is how long a peer may take to leave its mesh in order. It has to be less
	// than stopLimit.
	leaveLimit = 3 * time.Second
)

// errNoop is why a run that changes nothing has no mesh: to be there is a change.
var errNoop = errors.New("a run with --noop takes no part in it, and goes by what is known from the last run without")

// link makes what connects the run with a mesh, once something in the graph asks for one.
func (a *agent) link(prefix string, refused func(error)) *mesh.Link {
	opts := mesh.Options{Settings: a.opts.mesh, Log: a.log, Refused: refused}
	if prefix != "" {
		opts.Dir = filepath.Join(prefix, meshName, a.opts.mesh.Name())
	}
	return mesh.New(opts)
}

// unlink returns what lets the peer leave the mesh, if there is one: in what is left of
// the time that a run has to stop, once ctx is done.
func (*agent) unlink(ctx context.Context, link *mesh.Link) func() {
	var due atomic.Pointer[time.Time]
	forget := context.AfterFunc(ctx, func() {
		t := time.Now().Add(stopLimit - 500*time.Millisecond)
		due.Store(&t)
	})
	return func() {
		forget()
		limit := time.Now().Add(leaveLimit)
		if t := due.Load(); t != nil && t.Before(limit) {
			limit = *t
		}
		leaving, done := context.WithDeadline(context.WithoutCancel(ctx), limit)
		defer done()
		link.Close(leaving)
	}
}

// meshCommand hands its arguments to the program that is for meshes.
func meshCommand(p Program) *cobra.Command {
	return &cobra.Command{
		Use:   meshName + " COMMAND",
		Short: "Look at a mesh, let hosts in and take them out",
		Long: `Look at the mesh that hosts form which export, collect or share resources, found one with
certificates, let hosts in, take hosts out, and get a mesh back that has lost most of its
servers. This is done by a program of its own, mgmt-mesh, which is looked for beside mgmt, in
../libexec/mgmt and on the PATH. "mgmt mesh --help" lists its commands; docs/mesh.md tells how a
mesh is made.`,
		Example: `  mgmt mesh status
  mgmt mesh invite --serve`,
		DisableFlagParsing: true,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return completeMesh(cmd.Context(), append(args, word))
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			program, err := mesh.Find()
			if err != nil {
				return err
			}
			if p.Exits {
				return syscall.Exec(program, append([]string{program}, args...), os.Environ())
			}
			run := exec.CommandContext(cmd.Context(), program, args...)
			run.Stdin, run.Stdout, run.Stderr = p.In, p.Out, p.Err
			err = run.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				return exitStatus(exit.ExitCode())
			}
			return err
		},
	}
}

// completeMesh asks the other program how its arguments can go on.
func completeMesh(ctx context.Context, args []string) ([]cobra.Completion, cobra.ShellCompDirective) {
	program, err := mesh.Find()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	out, err := exec.CommandContext(ctx, program, append([]string{cobra.ShellCompRequestCmd}, args...)...).Output()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var list []cobra.Completion
	directive := cobra.ShellCompDirectiveDefault
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSuffix(line, "\n")
		if last, ok := strings.CutPrefix(line, ":"); ok {
			n, err := strconv.Atoi(last)
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			directive = cobra.ShellCompDirective(n)
		} else if line != "" {
			list = append(list, line)
		}
	}
	return list, directive
}
