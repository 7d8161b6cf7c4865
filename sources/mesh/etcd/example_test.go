package etcd_test

import (
	"context"
	"fmt"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

func Example() {
	dir, err := os.MkdirTemp("", "mesh")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	node, err := meshtest.Serve(dir) // a real etcd
	if err != nil {
		panic(err)
	}
	defer node.Stop()

	client, err := clientv3.New(etcd.Config([]string{node.Endpoint}, nil))
	if err != nil {
		panic(err)
	}
	defer client.Close()
	store := etcd.New(client, "web1", etcd.Options{})

	ctx := context.Background()
	put := func(key, value string) {
		if _, err := store.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put(mesh.KVPrefix+key, []byte(value))}}); err != nil {
			panic(err)
		}
	}
	put("colour", "green")
	for change, err := range store.Changes(mesh.Below(mesh.KVPrefix)).Seq(ctx) {
		if err != nil {
			panic(err)
		}
		for _, e := range change.Put {
			fmt.Printf("%v %s=%s\n", change.Reset, e.Key, e.Value)
		}
		if !change.Reset {
			break
		}
		put("colour", "blue")
	}
	// Output:
	// true /mgmt/shared/kv/colour=green
	// false /mgmt/shared/kv/colour=blue
}
