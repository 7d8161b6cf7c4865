package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

const (
	// agentRole is what all hosts may do that don't serve.
	agentRole = "agent"

	// superRole may do everything, change the membership included.
	superRole = "root"
)

// hostRole is what one host may do, and nobody else.
func hostRole(host string) string { return "host " + host }

// grant is one permission on a key, or on all up to end.
type grant struct {
	key, end string
	kind     clientv3.PermissionType
}

func below(prefix string, kind clientv3.PermissionType) grant {
	return grant{prefix, clientv3.GetPrefixRangeEnd(prefix), kind}
}

// agentGrants let a host read all but what is for the servers alone, and write what belongs
// to nobody.
func agentGrants() []grant {
	return []grant{
		{mesh.Root, mesh.IdentityPrefix, clientv3.PermissionType(clientv3.PermRead)},
		{clientv3.GetPrefixRangeEnd(mesh.IdentityPrefix), clientv3.GetPrefixRangeEnd(mesh.Root), clientv3.PermissionType(clientv3.PermRead)},
		below(mesh.SharedPrefix, clientv3.PermissionType(clientv3.PermReadWrite)),
	}
}

// hostGrants let a host write what is its own.
func hostGrants(host string) []grant {
	grants := []grant{}
	for _, prefix := range []string{mesh.AlivePrefix, mesh.HostPrefix, mesh.QuietPrefix, mesh.FencePrefix} {
		grants = append(grants, grant{prefix + host, "", clientv3.PermissionType(clientv3.PermWrite)})
	}
	for _, prefix := range []string{mesh.ExportPrefix, mesh.HoldPrefix, mesh.RolePrefix} {
		grants = append(grants, below(prefix+host+"/", clientv3.PermissionType(clientv3.PermWrite)))
	}
	return grants
}

// Enable has etcd ask everybody who they are, and gives this host, which serves, all
// rights. It is for the host that has started a new mesh, before it lets anybody else in;
// another time it finds that all is done. Afterwards only clients with a certificate are
// heard: see Identity.ClientTLS.
func Enable(ctx context.Context, client *clientv3.Client, host string) error {
	if err := CheckHost(host); err != nil {
		return err
	}
	var enabled bool
	err := retry(ctx, func() error {
		status, err := client.AuthStatus(ctx)
		if err == nil {
			enabled = status.Enabled
		}
		return err
	})
	if err == nil && !enabled {
		err = prepare(ctx, client, host)
	}
	if err == nil { // another version may give other rights
		err = setGrants(ctx, client, agentRole, agentGrants())
	}
	if err == nil && !enabled {
		err = retry(ctx, func() error {
			_, err := client.AuthEnable(ctx)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("having etcd check who its clients are: %w", err)
	}
	return nil
}

// prepare makes all that has to be there before etcd asks who its clients are.
func prepare(ctx context.Context, client *clientv3.Client, host string) error {
	for _, name := range []string{superuser, host} {
		if err := addUser(ctx, client, name, superRole); err != nil {
			return err
		}
	}
	return addRole(ctx, client, agentRole)
}

// Provision tells etcd what a host may do: all if it may serve, and otherwise to read what
// the mesh shares and to write what is its own. A host that had other rights has these.
func Provision(ctx context.Context, client *clientv3.Client, host string, serve bool) error {
	err := CheckHost(host)
	switch {
	case err != nil:
	case serve:
		err = addUser(ctx, client, host, superRole)
	default:
		if err = addRole(ctx, client, hostRole(host)); err == nil {
			err = setGrants(ctx, client, hostRole(host), hostGrants(host))
		}
		if err == nil {
			err = addUser(ctx, client, host, agentRole, hostRole(host))
		}
	}
	if err != nil {
		return fmt.Errorf("telling etcd what host %s may do: %w", host, err)
	}
	return nil
}

// Withdraw takes from a host all that it may do. What it asks of etcd from then on is
// refused, whatever its certificate says. It is no error if it could do nothing before.
func Withdraw(ctx context.Context, client *clientv3.Client, host string) error {
	if err := CheckHost(host); err != nil {
		return err
	}
	err := retry(ctx, func() error {
		_, err := client.UserDelete(ctx, host)
		return except(err, rpctypes.ErrUserNotFound)
	})
	if err == nil {
		err = retry(ctx, func() error {
			_, err := client.RoleDelete(ctx, hostRole(host))
			return except(err, rpctypes.ErrRoleNotFound)
		})
	}
	if err != nil {
		return fmt.Errorf("taking from host %s what it may do in etcd: %w", host, err)
	}
	return nil
}

// rank says whether etcd knows a host, and whether it may serve.
func rank(ctx context.Context, client *clientv3.Client, host string) (known, serve bool, err error) {
	err = retry(ctx, func() error {
		user, err := client.UserGet(ctx, host)
		if errors.Is(err, rpctypes.ErrUserNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		known, serve = true, slices.Contains(user.Roles, superRole)
		return nil
	})
	return known, serve, err
}

// addUser sees to it that there is a user with these roles and no others. It has no
// password, so a certificate is all with which it gets in.
func addUser(ctx context.Context, client *clientv3.Client, name string, roles ...string) error {
	err := retry(ctx, func() error {
		_, err := client.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
		return except(err, rpctypes.ErrUserAlreadyExist)
	})
	if err != nil {
		return err
	}
	var has []string
	err = retry(ctx, func() error {
		user, err := client.UserGet(ctx, name)
		if err == nil {
			has = user.Roles
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, role := range roles {
		if slices.Contains(has, role) {
			continue
		}
		err = errors.Join(err, retry(ctx, func() error {
			_, err := client.UserGrantRole(ctx, name, role)
			return err
		}))
	}
	for _, role := range has {
		if slices.Contains(roles, role) {
			continue
		}
		err = errors.Join(err, retry(ctx, func() error {
			_, err := client.UserRevokeRole(ctx, name, role)
			return except(err, rpctypes.ErrRoleNotGranted)
		}))
	}
	return err
}

// addRole sees to it that there is a role.
func addRole(ctx context.Context, client *clientv3.Client, name string) error {
	return retry(ctx, func() error {
		_, err := client.RoleAdd(ctx, name)
		return except(err, rpctypes.ErrRoleAlreadyExist)
	})
}

// setGrants gives a role these grants and no others.
func setGrants(ctx context.Context, client *clientv3.Client, name string, grants []grant) error {
	has := map[grant]bool{}
	err := retry(ctx, func() error {
		role, err := client.RoleGet(ctx, name)
		if err == nil {
			for _, p := range role.Perm {
				has[grant{string(p.Key), string(p.RangeEnd), clientv3.PermissionType(p.PermType)}] = true
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, g := range grants {
		if has[g] {
			delete(has, g)
			continue
		}
		err = errors.Join(err, retry(ctx, func() error {
			_, err := client.RoleGrantPermission(ctx, name, g.key, g.end, g.kind)
			return err
		}))
	}
	for g := range has {
		if slices.ContainsFunc(grants, func(o grant) bool { return o.key == g.key && o.end == g.end }) {
			continue // it has been replaced
		}
		err = errors.Join(err, retry(ctx, func() error {
			_, err := client.RoleRevokePermission(ctx, name, g.key, g.end)
			return except(err, rpctypes.ErrPermissionNotGranted)
		}))
	}
	return err
}

// except makes nothing of an error that says that all is done.
func except(err, done error) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}

// retry calls do again while somebody else changes rights too: etcd takes no request that
// was made under rights that have changed since.
func retry(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, rpctypes.ErrAuthOldRevision) || ctx.Err() != nil {
			return err
		}
	}
}
