package meshcli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	store "github.com/mgmtproject/mgmt/sources/mesh"
)

// forgetCommand takes a host out of the mesh.
func forgetCommand(p Program) *cobra.Command {
	var at place
	force := false
	cmd := &cobra.Command{
		Use:   "forget HOST... [FLAGS]",
		Short: "Take hosts out of the mesh, with all that they export",
		Long: `Take hosts out of the mesh for good: what they export is withdrawn, so that nobody collects it
any more, semaphores that they hold are free, and their places among the servers too. In a mesh
with certificates theirs are revoked: such a host is let in again by a new token alone.

A host that is there is not forgotten, since it would come back at once; with --force it is, which
makes sense in a mesh with certificates. This works on a host that may serve.`,
		Example: `  mgmt mesh forget web3
  mgmt mesh forget stolen-laptop --force`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.Usagef("which host? mgmt mesh status lists them")
			}
			for _, host := range args {
				if err := store.CheckHost(host); err != nil {
					return command.UsageError{Err: err}
				}
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return at.hosts(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := at.reach()
			if err != nil {
				return err
			}
			defer r.close()
			for _, host := range args {
				if err := r.forget(cmd.Context(), p, host, force); err != nil {
					return fmt.Errorf("forgetting %s: %w", host, err)
				}
			}
			return nil
		},
	}
	at.flags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "forget a host that is there, too")
	return cmd
}

// hosts are those that the mesh knows, for completion.
func (p *place) hosts(ctx context.Context) []cobra.Completion {
	r, err := p.reach()
	if err != nil {
		return nil
	}
	defer r.close()
	var names []cobra.Completion
	_ = r.each(ctx, store.HostPrefix, func(name string, _ []byte) error {
		names = append(names, name)
		return nil
	})
	return names
}

func (r *reached) forget(ctx context.Context, p Program, host string, force bool) error {
	ctx, done := context.WithTimeout(ctx, askLimit)
	defer done()
	if host == r.host && !force {
		return errors.New("this is the host that is asked; ask another one, or give --force")
	}
	_, there, err := r.store.Get(ctx, store.AlivePrefix+host)
	if err != nil {
		return err
	}
	if there && !force {
		return errors.New("it is there, or was some seconds ago; stop it first, or give --force")
	}
	_, known, err := r.store.Get(ctx, store.HostPrefix+host)
	if err != nil {
		return err
	}
	exports, err := r.store.List(ctx, store.ExportPrefix+host+"/")
	if err != nil {
		return err
	}
	if !known && len(exports.Entries) == 0 {
		return errors.New("the mesh knows no such host; mgmt mesh status lists those that it knows")
	}
	served := false
	if r.id.Secured() { // first, so that it can't write any more
		if served, err = identity.Forget(ctx, r.client, r.store, host); err != nil {
			return err
		}
	}
	if err := r.dismiss(ctx, host); err != nil {
		return err
	}
	if err := r.erase(ctx, host); err != nil {
		return err
	}
	fmt.Fprintf(p.Out, "forgot %s, and %d resources that it exported\n", host, len(exports.Entries))
	if served {
		fmt.Fprintf(p.Err, "%s could serve, so it has the key of the authority: if somebody else has its disk now, make a new mesh with mgmt mesh init\n", host)
	}
	return nil
}

// dismiss takes the server of a host out of the mesh, if it has one.
func (r *reached) dismiss(ctx context.Context, host string) error {
	resp, err := r.client.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range resp.Members {
		if m.Name != host {
			continue
		}
		if _, err := r.client.MemberRemove(ctx, m.ID); err != nil {
			return fmt.Errorf("removing its server: %w", err)
		}
	}
	return nil
}

// erase takes away all that a host has written in its own name, and what was asked of it.
func (r *reached) erase(ctx context.Context, host string) error {
	ops := []store.Op{store.Delete(members.NamedPrefix + host)}
	for _, prefix := range []string{store.AlivePrefix, store.HostPrefix, store.QuietPrefix} {
		ops = append(ops, store.Delete(prefix+host))
	}
	for _, prefix := range []string{store.ExportPrefix, store.HoldPrefix, store.RolePrefix} {
		ops = append(ops, store.Op{Key: prefix + host + "/", Delete: true, Below: true})
	}
	_, err := r.store.Write(ctx, store.Txn{Ops: ops})
	return err
}
