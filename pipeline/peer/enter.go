package peer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/pipeline/peer/server"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

const (
	// firstAsk is how long others are asked before the server of this host starts beside:
	// all may have been stopped, and wait for each other.
	firstAsk = 500 * time.Millisecond

	// strangerAfter is how long a mesh at new addresses may keep silent before a server is
	// started that the mesh of last time waits for.
	strangerAfter = 3 * time.Second

	// foreignAfter is how long a store that answers may be without an identity before it
	// is taken for somebody else's. A new mesh gets one within milliseconds.
	foreignAfter = 1500 * time.Millisecond
)

// admit gets this host a certificate, if it was given a token and has none.
func (p *Peer) admit(ctx context.Context) error {
	if p.o.Join != "" && !p.id.Secured() {
		id, err := identity.Join(ctx, filepath.Join(p.o.Dir, "identity"), p.o.Host, p.o.Join)
		if err != nil {
			return err
		}
		p.id = id
	}
	return p.id.Check(p.o.Host)
}

// enter finds the mesh, or begins a new one.
func (p *Peer) enter(ctx context.Context) error {
	known, familiar := p.known()
	if err := identity.Allow("dial", known, p.id.Secured(), p.o.Insecure); err != nil {
		return err
	}
	data, has, err := p.node.data()
	if err != nil && len(known) > 0 { // it is of no use, but others have theirs
		has, err = false, p.node.setAside(ctx, err.Error())
	}
	switch {
	case err != nil:
		return err
	case len(known) == 0 && !p.willing():
		return errors.New("this host doesn't serve the mesh, and knows no other that does: give it --seeds")
	case len(known) == 0 && has:
		p.node.begin(server.Options{Expect: data})
	case len(known) == 0:
		p.log.Info("new mesh", "host", p.o.Host)
		p.node.begin(server.Options{Token: rand.Text()})
	}
	if err := p.dial(known); err != nil {
		return err
	}
	if has && len(known) > 0 {
		if err := p.resume(ctx, data, familiar && p.willing()); err != nil {
			return err
		}
	}
	if err := p.reach(ctx); err != nil {
		return err
	}
	return p.notes.change(func(r *remembered) {
		r.Mesh = p.mesh
		if len(p.o.Seeds) > 0 {
			r.Seeds = withScheme(p.o.Seeds, p.id.Secured())
		}
	})
}

// willing says whether this host would run a server.
func (p *Peer) willing() bool { return !p.o.NoServer && p.id.Serves() }

// known are the addresses of the servers of others: those given, those that the host was
// told when it joined, and those of last time. Familiar says that none of those given is
// news, so that data from last time is of the same mesh.
func (p *Peer) known() (urls []string, familiar bool) {
	secured := p.id.Secured()
	last := p.notes.get()
	given := withScheme(p.o.Seeds, secured)
	old := slices.Concat(last.Seeds, last.Servers.URLs(), withScheme(p.id.Seeds(), secured), p.node.a.advertiseClient)
	familiar = last.Mesh.ID != ""
	for _, s := range given {
		familiar = familiar && slices.Contains(old, s)
	}
	for _, s := range slices.Concat(given, old) {
		own := slices.Contains(p.node.a.advertiseClient, s) || slices.Contains(p.node.a.client, s)
		if !own && !slices.Contains(urls, s) {
			urls = append(urls, s)
		}
	}
	return urls, familiar
}

// dial makes the client. It connects when it is used.
func (p *Peer) dial(known []string) error {
	endpoints := known
	if len(known) == 0 {
		endpoints = p.node.a.advertiseClient
	}
	config := etcd.Config(endpoints, p.id.ClientTLS())
	config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(p.suspect))
	client, err := clientv3.New(config)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", strings.Join(endpoints, ", "), err)
	}
	p.client = client
	p.store = etcd.New(client, p.o.Host, etcd.Options{Log: p.log})
	return nil
}

// resume looks what becomes of data from last time. If others answer, it counts only if it
// is of their mesh; if nobody does, they may wait for it.
func (p *Peer) resume(ctx context.Context, data server.Identity, familiar bool) error {
	for began := time.Now(); ; {
		ask, cancel := context.WithTimeout(ctx, firstAsk)
		_, _, err := p.store.Get(ask, mesh.IDKey)
		cancel()
		switch {
		case err == nil:
			return p.compare(ctx, data)
		case ctx.Err() != nil || !errors.Is(err, mesh.ErrUnreachable):
			return err
		case familiar || time.Since(began) > strangerAfter && p.awaited(ctx, data):
			p.node.begin(server.Options{Expect: data})
			p.store.SetEndpoints(slices.Concat(p.client.Endpoints(), p.node.a.advertiseClient)...)
			return nil
		}
	}
}

// awaited says whether servers that answer, though they can't decide anything, are of the
// mesh of data, and none of another: then they lack this one.
func (p *Peer) awaited(ctx context.Context, data server.Identity) bool {
	ctx, cancel := context.WithTimeout(ctx, firstAsk)
	defer cancel()
	var same, other atomic.Int64
	var wg sync.WaitGroup
	for _, url := range p.client.Endpoints() {
		wg.Go(func() {
			switch status, err := p.status(ctx, url); {
			case err != nil:
			case status.Header.ClusterId == data.Cluster:
				same.Add(1)
			default:
				other.Add(1)
			}
		})
	}
	wg.Wait()
	return same.Load() > 0 && other.Load() == 0
}

// compare sets data of another mesh aside. With data of this one the server starts at once:
// the others may need its vote before they can answer anything else. If its member was
// removed, that shows.
func (p *Peer) compare(ctx context.Context, data server.Identity) error {
	resp, err := p.client.Get(ctx, mesh.IDKey, clientv3.WithSerializable())
	if err != nil {
		return err
	}
	if resp.Header.ClusterId == data.Cluster {
		if p.willing() && !p.node.failing() {
			p.node.begin(server.Options{Expect: data})
		}
		return nil
	}
	return p.node.setAside(ctx, fmt.Sprintf("it is of another mesh: %v, not %v", members.ID(data.Cluster), members.ID(resp.Header.ClusterId)))
}

// reach returns when the mesh answers, and has an identity or is somebody else's.
func (p *Peer) reach(ctx context.Context) error {
	var since time.Time
	for {
		if err := p.establish(ctx); err != nil {
			return err
		}
		e, found, err := p.store.Get(ctx, mesh.IDKey)
		switch {
		case err != nil && (ctx.Err() != nil || !errors.Is(err, mesh.ErrUnreachable)):
			return err
		case err != nil:
		case found:
			return json.Unmarshal(e.Value, &p.mesh)
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > foreignAfter:
			return p.markForeign(ctx)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// establish gives a mesh that has just begun its identity, if this host has begun it.
func (p *Peer) establish(ctx context.Context) error {
	known, _ := p.known()
	a, err := p.node.latest()
	if errors.Is(err, server.ErrRemoved) && len(known) == 0 {
		return fmt.Errorf("%w while this host was away, and it knows no other host: give it --seeds", err)
	}
	if err != nil && len(known) == 0 {
		return err
	}
	if a == nil {
		return nil
	}
	if len(known) == 0 {
		select {
		case <-a.started:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s := p.node.running()
	if s == nil {
		return nil
	}
	if found, err := s.Client().Get(s.Root(ctx), mesh.IDKey); err != nil || found.Count > 0 {
		return err
	}
	if p.id.Secured() {
		if err := identity.Enable(s.Root(ctx), s.Client(), p.o.Host); err != nil {
			return err
		}
	}
	own := members.Servers{Servers: []members.Server{{Host: p.o.Host, Member: members.ID(s.ID()), ClientURLs: s.ClientURLs()}}}
	t := mesh.Txn{
		If: []mesh.Condition{{Key: mesh.IDKey}},
		Ops: []mesh.Op{
			members.Put(mesh.IDKey, members.Mesh{ID: strings.ToLower(rand.Text())}),
			members.Put(members.NamedPrefix+p.o.Host, members.Named{Member: members.ID(s.ID())}),
			members.Put(members.ServersKey, own),
		},
	}
	if p.o.IdealSize > 0 {
		t.Ops = append(t.Ops, mesh.Put(members.IdealKey, fmt.Append(nil, p.o.IdealSize)))
	}
	_, err = p.store.Write(ctx, t)
	return err
}

// markForeign says in a store that others run that no host of ours runs a server for it.
func (p *Peer) markForeign(ctx context.Context) error {
	p.log.Info("the mesh is kept by an etcd that others run, so this host doesn't serve it")
	p.mesh = members.Mesh{ID: strings.ToLower(rand.Text()), Foreign: true}
	_, err := p.store.Write(ctx, mesh.Txn{
		If:  []mesh.Condition{{Key: mesh.IDKey}},
		Ops: []mesh.Op{members.Put(mesh.IDKey, p.mesh)},
	})
	if errors.Is(err, mesh.ErrConflict) {
		return p.reach(ctx)
	}
	return err
}

// introduce says that this host is there, and for which key its secrets are sealed.
func (p *Peer) introduce(ctx context.Context) error {
	if err := p.alone(ctx); err != nil {
		return err
	}
	text, err := json.Marshal(members.Known{Recipient: p.id.Recipient()})
	if err != nil {
		return err
	}
	key := mesh.HostPrefix + p.o.Host
	if e, _, err := p.store.Get(ctx, key); err != nil {
		return err
	} else if string(e.Value) != string(text) {
		if _, err := p.store.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Put(key, text)}}); err != nil {
			return err
		}
	}
	_, err = p.announce(ctx)
	return err
}

// alone makes sure that no other host has the name of this one.
func (p *Peer) alone(ctx context.Context) error {
	if err := p.notes.change(func(r *remembered) {
		if r.Instance == "" {
			r.Instance = strings.ToLower(rand.Text())
		}
	}); err != nil {
		return err
	}
	for said, began := false, time.Now(); ; pause(ctx, mesh.TTL/20) {
		e, found, err := p.store.Get(ctx, mesh.AlivePrefix+p.o.Host)
		if err != nil {
			return err
		}
		var other members.Alive
		if !found || json.Unmarshal(e.Value, &other) != nil || other.Instance == p.notes.get().Instance {
			return nil
		}
		if time.Since(began) > 2*mesh.TTL {
			return fmt.Errorf("another host calls itself %s: give each its own --hostname", p.o.Host)
		}
		if !said {
			p.log.Info("a host of this name is in the mesh, waiting for it to go", "host", p.o.Host)
			said = true
		}
	}
}

// pause returns after d, or when ctx is done.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
