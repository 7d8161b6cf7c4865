package wire_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/wire"
	"github.com/mgmtproject/mgmt/streams"
)

// echo is a store that answers with what it is asked, and a vault that hides nothing.
type echo struct{}

func (echo) Host() string { return "echo" }

func (echo) Get(_ context.Context, key string) (mesh.Entry, bool, error) {
	return mesh.Entry{Key: key, Value: []byte(key), Revision: int64(len(key))}, key != "", nil
}

func (echo) List(_ context.Context, prefix string) (mesh.List, error) {
	return mesh.List{Entries: []mesh.Entry{{Key: prefix}}, Revision: int64(len(prefix))}, nil
}

func (echo) Write(_ context.Context, t mesh.Txn) (int64, error) {
	n := int64(0)
	for _, op := range t.Ops {
		n += int64(len(op.Value))
	}
	return n, nil
}

func (echo) Seal(_ context.Context, _ []string, plain []byte) ([]byte, error) { return plain, nil }

func (echo) Open(_ context.Context, sealed []byte) ([]byte, error) { return sealed, nil }

func (echo) Changes(w mesh.Watch) streams.Observable[mesh.Change] {
	return streams.Of(mesh.Change{Reset: true, Put: []mesh.Entry{{Key: w.Key}}}, mesh.Change{Deleted: []string{w.Key}})
}

// pieces is a connection that carries a few bytes at a time.
type pieces struct{ io.ReadWriteCloser }

func (p pieces) Read(b []byte) (int, error) {
	return p.ReadWriteCloser.Read(b[:min(len(b), 1+rand.IntN(7))])
}

// Whatever the keys and values, however the bytes are cut, and however many ask at once,
// each gets its own answer.
func TestEachCallGetsItsOwnAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		agent, peer := net.Pipe()
		server := wire.NewServer(pieces{peer})
		defer server.Close()
		server.Attach(echo{})
		client := wire.Dial(pieces{agent}, nil)
		defer client.Close()
		var wg sync.WaitGroup
		for range rapid.IntRange(1, 10).Draw(t, "calls") {
			key := rapid.String().Draw(t, "key")
			value := rapid.SliceOf(rapid.Byte()).Draw(t, "value")
			what := rapid.IntRange(0, 4).Draw(t, "what")
			wg.Go(func() {
				if err := ask(client, what, key, value); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func ask(client *wire.Client, what int, key string, value []byte) error {
	ctx := context.Background()
	var got, want any
	var err error
	switch what {
	case 0:
		var e mesh.Entry
		var ok bool
		e, ok, err = client.Get(ctx, key)
		got, want = fmt.Sprint(e.Key, string(e.Value), e.Revision, ok), fmt.Sprint(key, key, len(key), key != "")
	case 1:
		var l mesh.List
		l, err = client.List(ctx, key)
		got, want = fmt.Sprint(l.Entries[0].Key, l.Revision), fmt.Sprint(key, len(key))
	case 2:
		got, err = client.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put("k"+key, value)}})
		want = int64(len(value))
	case 3:
		var sealed, plain []byte
		if sealed, err = client.Seal(ctx, []string{key}, value); err == nil {
			plain, err = client.Open(ctx, sealed)
		}
		got, want = string(plain), string(value)
	case 4:
		var all []mesh.Change
		err = client.Changes(mesh.Below(key)).Subscribe(ctx, func(c mesh.Change) bool { all = append(all, c); return true })
		c := mesh.Fold(all...)
		got, want = fmt.Sprint(c.Reset, len(c.Put), len(all) > 0), fmt.Sprint(true, 0, true)
	}
	if err != nil || got != want {
		return fmt.Errorf("%d of %q: got %v, %v; want %v", what, key, got, err, want)
	}
	return nil
}

// seeds are what an end may say.
var seeds = []string{
	`{"op":"get","id":1,"key":"/x"}` + "\n" + `{"op":"cancel","id":1}`,
	`{"op":"write","id":2,"txn":{"if":[{"key":"a","revision":1}],"ops":[{"key":"a","value":"eA=="}]}}`,
	`{"op":"watch","id":3,"key":"/x","below":true,"within":5}{"op":"list","id":4}{"op":"seal","id":5,"hosts":["a"],"data":"eA=="}`,
	`{"op":"write","id":6}{"op":"open","id":7}{"op":"?","id":8}`,
	`{"op":"hello","version":1}{"op":"host","host":"a"}{"op":"host"}{"op":"status","status":{"a":[1]}}`,
	`{"op":"result","id":1,"fail":{"text":"no","sort":"conflict"}}{"op":"result","id":2,"entry":{"key":"a"}}{"op":"result","id":3}`,
	`{"op":"change","id":2,"change":{"reset":true,"put":[{"key":"a"}]}}{"op":"change","id":2}{"op":"result","id":2}{"op":"change","id":2,"change":{}}`,
	`{"op":"log","log":{"time":"2026-01-02T03:04:05Z","level":"WARN","msg":"m","attrs":[{"key":"k","int":1}],"dropped":3}}{"op":"log"}`,
	`{"op":`, `[]`, `null`, `{}`, "\x00", `{"op":"get","id":-1}`, `{"op":"get","data":"%"}`,
}

// No bytes make an end panic, hang or go on with what it didn't understand.
func FuzzServer(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		agent, peer := net.Pipe()
		server := wire.NewServer(peer)
		server.Attach(echo{})
		go func() { _, _ = io.Copy(io.Discard, agent) }()
		_, _ = agent.Write(text)
		agent.Close()
		<-server.Done()
		server.Close()
	})
}

func FuzzClient(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		agent, peer := net.Pipe()
		client := wire.Dial(agent, nil)
		go func() { _, _ = io.Copy(io.Discard, peer) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { _, _, _ = client.Get(ctx, "/x") })
		wg.Go(func() {
			_ = client.Changes(mesh.Key("/x")).Subscribe(ctx, func(mesh.Change) bool { return true })
		})
		_, _ = peer.Write(text)
		peer.Close()
		wg.Wait()
		client.Host()
		client.Close()
		if ctx.Err() != nil {
			t.Error("it hangs")
		}
	})
}
