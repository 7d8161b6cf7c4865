package peer_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/pipeline/peer"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// A first host begins a mesh, and a second one joins it.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "mesh")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	a, err := peer.Open(ctx, peer.Options{Host: "a", Dir: filepath.Join(dir, "a")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close(ctx)
	b, err := peer.Open(ctx, peer.Options{Host: "b", Dir: filepath.Join(dir, "b"), Seeds: a.Status().Servers})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close(ctx)

	if _, err := a.Store().Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put(mesh.KVPrefix+"word", []byte("hello"))}}); err != nil {
		fmt.Println(err)
		return
	}
	entry, _, err := b.Store().Get(ctx, mesh.KVPrefix+"word")
	fmt.Printf("%s %v\n", entry.Value, err)
	// Output: hello <nil>
}
