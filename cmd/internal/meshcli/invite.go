package meshcli

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
)

// inviteCommand makes a token with which one host can join.
func inviteCommand(p Program) *cobra.Command {
	var at place
	var o identity.InviteOptions
	var host mesh.Host
	var joins mesh.Addresses
	cmd := &cobra.Command{
		Use:   "invite [FLAGS]",
		Short: "Let a host in, by a token for one use",
		Long: `Print a token with which one host can join the mesh, once. The new host is started with
--join TOKEN, gets a certificate of its own, which it renews by itself, and may from then on
read what the mesh shares and write what is its own. Whoever has the token can join: hand it over
in private. What is printed beside it, when it expires and the fingerprint of the mesh's
authority, goes to standard error.

This works on a host that may serve, while its mesh runs.`,
		Example: `  mgmt mesh invite
  mgmt mesh invite --serve --expires 10m
  ssh web2 mgmt run --file web.yaml --join "$(mgmt mesh invite --host web2)"`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Host, o.URLs = string(host), urls(true, joins)
			return invite(cmd.Context(), p, &at, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Serve, "serve", false, "let the host run a server, lead the mesh and invite others: it sees all, and gets the key of the authority")
	f.DurationVar(&o.Life, "expires", identity.InviteLife, "let the token be good for `DURATION`, at most 720h")
	f.Var(&host, "host", "let it join as `NAME` only, even if there is a host of that name: its certificates are revoked then")
	f.Var(&joins, "join-urls", "let it join at these `ADDRESSES` (default: where the hosts that serve let hosts join)")
	at.flags(cmd)
	return cmd
}

func invite(ctx context.Context, p Program, at *place, o identity.InviteOptions) error {
	r, err := at.reach()
	if err != nil {
		return err
	}
	defer r.close()
	ctx, done := context.WithTimeout(ctx, askLimit)
	defer done()
	token, err := identity.Invite(ctx, r.store, r.id, o)
	if err != nil {
		return err
	}
	text, err := token.Text()
	if err != nil {
		return err
	}
	rank := "as an agent"
	if o.Serve {
		rank = "and may serve the mesh"
	}
	name := "a host"
	if o.Host != "" {
		name = "host " + o.Host
	}
	fmt.Fprintf(p.Err, "%s can join with it, %s, once, until %s\nauthority sha256:%s\n",
		name, rank, time.Unix(token.Expires, 0).Format(time.RFC3339), hex.EncodeToString(token.Fingerprint))
	fmt.Fprintln(p.Out, text)
	return nil
}
