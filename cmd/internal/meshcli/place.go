package meshcli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/cmd/internal/instance"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline/peer"
	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// askLimit is how long a command tries to reach the mesh.
const askLimit = 10 * time.Second

// place says which host of this machine a command is about: there may be several.
type place struct {
	prefix string
	host   mesh.Host
}

// flags adds the flags that say it.
func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().Var(&p.host, "hostname", "be the host `NAME` (default: the one that was in a mesh here, or the name of the host)")
	cmd.Flags().StringVar(&p.prefix, "prefix", "", "find what survives runs in `DIR`, as given to mgmt run")
	if err := cmd.MarkFlagDirname("prefix"); err != nil {
		panic(err) // there is no such flag
	}
}

// find returns the directory of the host, which may not be there, and its name.
func (p *place) find() (dir, host string, err error) {
	prefix, _, err := instance.Prefix(p.prefix)
	if err != nil {
		return "", "", err
	}
	meshes := filepath.Join(prefix, "mesh")
	if p.host != "" {
		return filepath.Join(meshes, string(p.host)), string(p.host), nil
	}
	host = (&mesh.Settings{}).Name()
	entries, err := os.ReadDir(meshes)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	var hosts []string
	for _, e := range entries {
		if e.IsDir() {
			hosts = append(hosts, e.Name())
		}
		if e.Name() == host {
			return filepath.Join(meshes, host), host, nil
		}
	}
	switch len(hosts) {
	case 0:
		return filepath.Join(meshes, host), host, nil
	case 1:
		return filepath.Join(meshes, hosts[0]), hosts[0], nil
	}
	return "", "", command.Usagef("several hosts have been in a mesh here: say which with --hostname, one of %s", strings.Join(hosts, ", "))
}

// reached is the mesh as a host of this machine sees it, in a process beside its peer.
type reached struct {
	dir, host string
	id        *identity.Identity
	client    *clientv3.Client
	store     *etcd.Store
}

// reach connects with the mesh of the host. Nothing can be bound through it.
func (p *place) reach() (*reached, error) {
	dir, host, err := p.find()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("host %s has not been in a mesh here: %s is not there", host, dir)
	}
	id, urls, err := peer.Reach(dir)
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(etcd.Config(urls, id.ClientTLS()))
	if err != nil {
		return nil, err
	}
	return &reached{dir: dir, host: host, id: id, client: client, store: etcd.New(client, host, etcd.Options{})}, nil
}

// close ends the connection.
func (r *reached) close() {
	ctx, done := context.WithTimeout(context.Background(), time.Second)
	defer done()
	_ = r.store.Close(ctx) // nothing is bound
	_ = r.client.Close()
}
