package kv_test

import (
	"context"
	"fmt"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/kv"
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

	for _, host := range []string{"web1", "web2"} {
		store := etcd.New(client, host, etcd.Options{})
		for _, version := range []string{"9", "10"} {
			cfg := kv.Spec.New().(*kv.Config)
			cfg.Value, cfg.SkipLessThan = &version, true
			r, err := cfg.Build("newest version", sinks.Options{Mesh: store})
			if err != nil {
				panic(err)
			}
			out, err := r.CheckApply(context.Background(), true)
			fmt.Println(host, version, out.Values, out.Changed, err)
		}
	}
	// Output:
	// web1 9 map[value:9] true <nil>
	// web1 10 map[value:10] true <nil>
	// web2 9 map[value:10] false <nil>
	// web2 10 map[value:10] false <nil>
}
