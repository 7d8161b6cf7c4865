package wire_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

// direct is a store without what tests need to disturb it.
func direct(b *testing.B, n *meshtest.Node, host string) *etcd.Store {
	b.Helper()
	client, err := clientv3.New(etcd.Config([]string{n.Direct}, nil))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close() })
	return etcd.New(client, host, etcd.Options{})
}

// over is store as another process has it.
func over(b *testing.B, store mesh.Store) mesh.Store {
	b.Helper()
	far, _ := connect(b, store)
	return far
}

// BenchmarkPutToChange is the time from the call of Write by one host until another has
// the change, one after the other.
func BenchmarkPutToChange(b *testing.B) {
	for _, bb := range []struct {
		name string
		near func(*testing.B, mesh.Store) mesh.Store
		size int
	}{
		{"through etcd", func(_ *testing.B, s mesh.Store) mesh.Store { return s }, 100},
		{"through etcd and two wires", over, 100},
		{"through etcd and two wires, 1 MB", over, 1 << 20},
	} {
		b.Run(bb.name, func(b *testing.B) {
			n := meshtest.Start(b)
			writer, reader := bb.near(b, direct(b, n, "a")), bb.near(b, direct(b, n, "b"))
			value := make([]byte, bb.size)
			ctx, cancel := context.WithCancel(b.Context())
			seen := make(chan struct{})
			ended := make(chan error)
			go func() {
				ended <- reader.Changes(mesh.Key("/x")).Subscribe(ctx, func(mesh.Change) bool { seen <- struct{}{}; return true })
			}()
			<-seen
			b.SetBytes(int64(bb.size))
			for b.Loop() {
				if _, err := writer.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put("/x", value)}}); err != nil {
					b.Fatal(err)
				}
				<-seen
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				b.Error(err)
			}
		})
	}
}

// BenchmarkCall is what the wire adds to a call.
func BenchmarkCall(b *testing.B) {
	far, _ := connect(b, echo{})
	for b.Loop() {
		if _, _, err := far.Get(b.Context(), "/x"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReset is a subscription that begins with 10,000 entries of 1 KB.
func BenchmarkReset(b *testing.B) {
	all := mesh.Change{Reset: true}
	for i := range 10_000 {
		all.Put = append(all.Put, mesh.Entry{Key: fmt.Sprint("/x/", i), Value: make([]byte, 1000)})
	}
	store, _, _ := hangs()
	store.changes = func(_ context.Context, emit func(mesh.Change) bool) error { emit(all); return nil }
	far, _ := connect(b, store)
	for b.Loop() {
		err := far.Changes(mesh.Below("/x/")).Subscribe(b.Context(), func(c mesh.Change) bool { return len(c.Put) == 10_000 })
		if err != nil {
			b.Fatal(err)
		}
	}
}
