package meshcli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	store "github.com/mgmtproject/mgmt/sources/mesh"
)

// resizeCommand changes how many hosts serve a mesh.
func resizeCommand(p Program) *cobra.Command {
	var at place
	var size mesh.IdealSize
	cmd := &cobra.Command{
		Use:   "resize N [FLAGS]",
		Short: "Change how many of the hosts serve the mesh",
		Long: `Change how many of the hosts serve the mesh: an odd number, since an even one survives no more
failures than the odd one below it. The host that leads adds and removes servers, one at a time, as
far as there are hosts that would serve. This works on a host that may serve.`,
		Example:           "  mgmt mesh resize 3",
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"1", "3", "5", "7", "9"}, cobra.ShellCompDirectiveNoFileComp),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return command.Usagef("how many? Give one number")
			}
			if err := size.Set(args[0]); err != nil {
				return command.UsageError{Err: err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := at.reach()
			if err != nil {
				return err
			}
			defer r.close()
			ctx, done := context.WithTimeout(cmd.Context(), askLimit)
			defer done()
			if _, err := r.store.Write(ctx, store.Txn{Ops: []store.Op{store.Put(members.IdealKey, fmt.Append(nil, int(size)))}}); err != nil {
				return err
			}
			fmt.Fprintf(p.Out, "%d hosts are to serve the mesh; mgmt mesh status shows how far it is\n", size)
			return nil
		},
	}
	at.flags(cmd)
	return cmd
}
