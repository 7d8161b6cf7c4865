package etcd_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// holderVariable makes this program a host that binds a key, and gives the endpoint.
const holderVariable = "MESH_TEST_HOLDER"

func TestMain(m *testing.M) {
	if endpoint := os.Getenv(holderVariable); endpoint != "" {
		hold(endpoint)
		return
	}
	if name := os.Getenv(memberVariable); name != "" {
		serveMember(name)
		return
	}
	goleak.VerifyTestMain(m)
}

// hold binds a key until its input ends.
func hold(endpoint string) {
	client, err := clientv3.New(etcd.Config([]string{endpoint}, nil))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	store := etcd.New(client, "holder", etcd.Options{})
	if _, err := store.Write(context.Background(), mesh.Txn{Ops: []mesh.Op{{Key: "/held", Value: []byte("mine"), Bound: true}}}); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}
