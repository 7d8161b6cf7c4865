package wire_test

import (
	"context"
	"fmt"
	"net"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
	"github.com/mgmtproject/mgmt/sources/mesh/wire"
)

// The two ends are in one process here, and the store is in a real etcd.
func Example() {
	dir, err := os.MkdirTemp("", "mesh")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	node, err := meshtest.Serve(dir)
	if err != nil {
		panic(err)
	}
	defer node.Stop()
	etcdClient, err := clientv3.New(etcd.Config([]string{node.Endpoint}, nil))
	if err != nil {
		panic(err)
	}
	defer etcdClient.Close()

	agent, peer := net.Pipe()
	server := wire.NewServer(peer)
	defer server.Close()
	server.Attach(etcd.New(etcdClient, "web1", etcd.Options{}))

	client := wire.Dial(agent, nil)
	defer client.Close()
	ctx := context.Background()
	if _, err := client.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put(mesh.KVPrefix+"colour", []byte("green"))}}); err != nil {
		panic(err)
	}
	e, found, err := client.Get(ctx, mesh.KVPrefix+"colour")
	fmt.Println(client.Host(), string(e.Value), found, err)
	// Output:
	// web1 green true <nil>
}
