package schedule_test

import (
	"context"
	"fmt"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/schedule"
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

	var hosts []sinks.Resource
	for _, name := range []string{"db1", "db2", "db3"} {
		store := etcd.New(client, name, etcd.Options{})
		defer store.Close(context.Background())
		cfg := schedule.Spec.New().(*schedule.Config)
		cfg.Max = 2
		r, err := cfg.Build("primary", sinks.Options{Mesh: store, Shared: new(sinks.Shared)})
		if err != nil {
			panic(err)
		}
		hosts = append(hosts, r)
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(name, out.Values["hosts"], out.Values["chosen"], err)
	}
	if err := hosts[0].(sinks.Closer).Close(); err != nil { // db1 has another graph
		panic(err)
	}
	out, err := hosts[2].CheckApply(context.Background(), true)
	fmt.Println("db3", out.Values["hosts"], out.Values["chosen"], err)
	// Output:
	// db1 [db1] true <nil>
	// db2 [db1 db2] true <nil>
	// db3 [db1 db2] false <nil>
	// db3 [db2 db3] true <nil>
}
