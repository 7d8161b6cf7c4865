package server_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

// A mesh of one server is saved, and restored as a new one in another directory.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "mesh")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	first, err := server.Start(ctx, server.Options{Name: "a", Dir: filepath.Join(dir, "a")})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = first.Client().Put(ctx, "greeting", "hello")
	fmt.Println("written:", err == nil)
	fmt.Println("saved:", server.Save(ctx, first.Client(), filepath.Join(dir, "saved")) == nil)
	fmt.Println("stopped:", first.Stop(ctx) == nil)

	options := server.Options{Name: "b", Dir: filepath.Join(dir, "b")}
	if options.Expect, err = server.Restore(filepath.Join(dir, "saved"), options); err != nil {
		fmt.Println(err)
		return
	}
	second, err := server.Start(ctx, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := second.Client().Get(ctx, "greeting")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("restored: %s\n", got.Kvs[0].Value)
	fmt.Println("stopped:", second.Stop(ctx) == nil)

	// Output:
	// written: true
	// saved: true
	// stopped: true
	// restored: hello
	// stopped: true
}
