package pipeline_test

import (
	"context"
	"fmt"
	"log"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/noop"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
	"github.com/mgmtproject/mgmt/streams"
)

// What one host exports is collected by another, which runs it as if it were its own.
func ExampleExchange() {
	dir, err := os.MkdirTemp("", "mesh")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	node, err := meshtest.Serve(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	kinds, err := sinks.NewRegistry(noop.Spec)
	if err != nil {
		log.Fatal(err)
	}
	// host runs a graph until its subscriber has seen enough.
	host := func(name, text string, next func(pipeline.Result) bool) error {
		client, err := clientv3.New(etcd.Config([]string{node.Endpoint}, nil))
		if err != nil {
			return err
		}
		defer client.Close()
		store := etcd.New(client, name, etcd.Options{})
		defer store.Close(context.Background())
		x := pipeline.NewExchange(pipeline.ExchangeOptions{
			Host: name, Kinds: kinds, Store: func() mesh.Store { return store },
		})
		g, err := pipeline.Load(name+".yaml", []byte(text), kinds)
		if err == nil {
			err = g.Compile(sinks.Options{})
		}
		if err != nil {
			return err
		}
		graphs := streams.Of(pipeline.Update{Graph: g})
		return x.Results(pipeline.Run(x.Graphs(graphs), pipeline.Options{Kinds: kinds})).Subscribe(ctx, next)
	}

	left := make(chan error, 1)
	go func() {
		left <- host("web", "graph: web\nresources: {noop: [{name: '@@monitor web'}]}\n", func(pipeline.Result) bool { return true })
	}()
	err = host("watch", "graph: watch\ncollect: [{kind: noop}]\n", func(r pipeline.Result) bool {
		if r.Kind != pipeline.Finished {
			return true
		}
		fmt.Println(r.Vertex, "of", r.Vertex.Host)
		return false
	})
	cancel()
	<-left
	fmt.Println(err)
	// Output:
	// noop[monitor web] of web
	// <nil>
}
