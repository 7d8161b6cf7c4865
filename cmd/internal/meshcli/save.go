package meshcli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

// saveCommand makes a backup.
func saveCommand(p Program) *cobra.Command {
	var at place
	cmd := &cobra.Command{
		Use:   "save FILE [FLAGS]",
		Short: "Save all that the mesh holds to a file",
		Long: `Save all that the mesh holds to a file, which must not be there yet, for mgmt mesh recover --from.
What hosts have sealed for others stays sealed in it; all else can be read by whoever has the file.
This works on a host that may serve.`,
		Example: `  mgmt mesh save /backup/mesh-$(date +%F).db`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return command.Usagef("where to? Name one file")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := at.reach()
			if err != nil {
				return err
			}
			defer r.close()
			ctx, done := context.WithTimeout(cmd.Context(), saveLimit)
			defer done()
			newest, err := r.newest(ctx)
			if err != nil {
				return err
			}
			if err := r.save(ctx, newest, args[0]); err != nil {
				return err
			}
			fmt.Fprintf(p.Out, "saved %s, up to revision %d\n", args[0], newest.Revision)
			return nil
		},
	}
	at.flags(cmd)
	return cmd
}

// newest is the server that knows most of the mesh.
func (r *reached) newest(ctx context.Context) (server.Holding, error) {
	newest := slices.MaxFunc(r.holdings(ctx), byAge)
	if newest.Problem != "" {
		return newest, errors.New("no server answers: " + newest.Problem)
	}
	return newest, nil
}

// byAge compares by what servers know of the mesh: most comes last.
func byAge(a, b server.Holding) int {
	switch {
	case a.Newer(b):
		return 1
	case b.Newer(a):
		return -1
	}
	return 0
}
