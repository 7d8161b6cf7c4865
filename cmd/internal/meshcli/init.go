package meshcli

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
)

// initCommand makes the authority of a new mesh.
func initCommand(p Program) *cobra.Command {
	var at place
	cmd := &cobra.Command{
		Use:   "init [FLAGS]",
		Short: "Make the certificates with which a mesh begins",
		Long: `Make a certificate authority for a new mesh, and the certificate of its first host, this one.
From then on this host speaks only with hosts that have a certificate of that authority, as
mgmt mesh invite lets them have one. Without certificates hosts speak with each other on the
same machine alone. This is done once, on one host, before its first run; nothing else has to
be copied to other hosts.

The key of the authority is in PREFIX/mesh/HOST/identity/ca.key, and later on each host that is
invited with --serve. Whoever has it can be any host of the mesh.`,
		Example: `  mgmt mesh init
  mgmt run --file web.yaml --client-urls https://192.0.2.1:2379 --server-urls https://192.0.2.1:2380`,
		Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, host, err := at.find()
			if err != nil {
				return err
			}
			id, err := identity.Init(filepath.Join(dir, "identity"), host)
			if err != nil {
				return err
			}
			fmt.Fprintf(p.Out, "host         %s\ncertificates %s\nauthority    sha256:%s\n", host, filepath.Join(dir, "identity"), id.Fingerprint())
			return nil
		},
	}
	at.flags(cmd)
	return cmd
}
