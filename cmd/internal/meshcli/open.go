package meshcli

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline/peer/server"
	store "github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// peer is what a host is in a mesh.
type peer struct {
	server *server.Server
	client *clientv3.Client
	store  *etcd.Store
}

// open makes this host one of a mesh.
func open(ctx context.Context, dir string, s mesh.Settings, log *slog.Logger) (*peer, error) {
	p := &peer{}
	endpoints := []string(s.Seeds)
	if len(endpoints) == 0 {
		var err error
		p.server, err = server.Start(ctx, server.Options{Name: s.Name(), Dir: filepath.Join(dir, "server"), ClientURLs: s.ClientURLs, PeerURLs: s.ServerURLs, Log: log})
		if err != nil {
			return nil, err
		}
		endpoints = p.server.ClientURLs()
	}
	var err error
	if p.client, err = clientv3.New(etcd.Config(endpoints, nil)); err != nil {
		return nil, err
	}
	p.store = etcd.New(p.client, s.Name(), etcd.Options{Log: log})
	log.Info("mesh ready", "client_urls", endpoints)
	return p, nil
}

// Store is the mesh as this host sees it.
func (p *peer) Store() store.Store { return p.store }

// Done is closed when the peer has ended without having been asked to.
func (p *peer) Done() <-chan struct{} {
	if p.server == nil {
		return nil
	}
	return p.server.Done()
}

// Err is why.
func (p *peer) Err() error { return p.server.Err() }

// Close leaves the mesh in order.
func (p *peer) Close(ctx context.Context) error {
	err := p.store.Close(ctx)
	if p.server != nil {
		err = errors.Join(err, p.server.Stop(ctx))
	}
	return errors.Join(err, p.client.Close())
}
