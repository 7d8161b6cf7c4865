package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// write publishes what the agent exports, in about as many bytes as a file takes.
func (a *agent) write(ctx context.Context, exports int, version int64) error {
	var t mesh.Txn
	for i := range exports {
		if version > 0 && i > 0 {
			break // what has not changed is not written again
		}
		value := fmt.Sprintf("%d {\"v\":1,\"file\":\"/etc/mgmt/graph.yaml\",\"params\":\"content: some words about a host, such as a line of its configuration\"}", version)
		t.Ops = append(t.Ops, mesh.Put(a.key(i), []byte(value)))
	}
	for {
		_, err := a.store.Write(ctx, t)
		if !errors.Is(err, mesh.ErrUnreachable) || ctx.Err() != nil {
			return err
		}
	}
}

func (a *agent) key(i int) string {
	return mesh.ExportKey(a.name, "file", fmt.Sprintf("/swarm/%s-%d", a.name, i))
}

// watch takes in what all agents export, until ctx is done.
func (a *agent) watch(ctx context.Context, news chan<- struct{}) error {
	defer func() { _ = a.client.Close() }()
	have := map[string]bool{}
	own := mesh.ExportPrefix + a.name + "/"
	err := a.store.Changes(mesh.Below(mesh.ExportPrefix)).Subscribe(ctx, func(c mesh.Change) bool {
		for _, e := range c.Put {
			if !strings.HasPrefix(e.Key, own) {
				have[e.Key] = true
			}
			if e.Key == changingKey {
				var version int64
				_, _ = fmt.Sscan(string(e.Value), &version)
				a.version.Store(version)
			}
		}
		a.have.Store(int64(len(have)))
		select {
		case news <- struct{}{}:
		default:
		}
		return true
	})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", a.name, err)
}

// changingKey is the key of what is changed.
var changingKey = mesh.ExportKey("agent00000", "file", changing)
