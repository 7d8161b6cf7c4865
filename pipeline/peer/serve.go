package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/pipeline/peer/server"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// serve has the server of this host be what the leader has asked for: the named member, or
// none.
func (p *Peer) serve(ctx context.Context) (changed bool, err error) {
	if p.mesh.Foreign {
		return false, nil
	}
	a, ended := p.node.latest()
	if ended != nil {
		changed = true
		if errors.Is(ended, server.ErrRemoved) {
			if err := p.node.setAside(ctx, whyAside); err != nil {
				return true, err
			}
		}
	}
	named, err := p.named(ctx)
	if err != nil {
		return changed, err
	}
	if a != nil {
		changed = true // it may have come up just now
	}
	switch {
	case named == 0 && a == nil:
		return changed, p.tidy(ctx)
	case a != nil && (named == a.member || a.member == 0):
		return changed, p.attend(ctx, a)
	case a != nil:
		return changed, p.demote(ctx, a)
	case !p.willing():
		return changed, nil
	}
	return true, p.start(ctx, named)
}

// named is the member that this host was asked to be, or 0.
func (p *Peer) named(ctx context.Context) (members.ID, error) {
	e, found, err := p.store.Get(ctx, members.NamedPrefix+p.o.Host)
	if err != nil || !found {
		return 0, err
	}
	var n members.Named
	if err := json.Unmarshal(e.Value, &n); err != nil {
		return 0, fmt.Errorf("%s: %w", e.Key, err)
	}
	return n.Member, nil
}

// attend sees to it that a server comes up, and that the mesh knows where it is.
func (p *Peer) attend(ctx context.Context, a *attempt) error {
	if err := p.await(ctx, a); err != nil || a.server == nil {
		return err
	}
	all, err := p.members(ctx)
	if err != nil {
		return err
	}
	for _, m := range all {
		if members.ID(m.ID) == a.member {
			return p.move(ctx, m)
		}
	}
	return nil
}

// await returns when a server that starts has started.
func (p *Peer) await(ctx context.Context, a *attempt) error {
	select {
	case <-a.started:
		return nil // if it has failed, the bell rings
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// demote stops a server that nobody asks for, once it is sure that it is no member.
func (p *Peer) demote(ctx context.Context, a *attempt) error {
	is, err := p.isMember(ctx, a.member)
	if err != nil || is {
		return err // if it is, the leader will name it
	}
	return p.node.setAside(ctx, whyAside)
}

// tidy sets data aside that this host has from when it was a member.
func (p *Peer) tidy(ctx context.Context) error {
	data, has, err := p.node.data()
	if err != nil || !has {
		return nil // there is time until it is to be one again
	}
	is, err := p.isMember(ctx, members.ID(data.Member))
	if err != nil || is {
		return err
	}
	return p.node.setAside(ctx, whyAside)
}

const whyAside = "its member was removed from the mesh"

func (p *Peer) isMember(ctx context.Context, id members.ID) (bool, error) {
	all, err := p.members(ctx)
	return slices.ContainsFunc(all, func(m *etcdserverpb.Member) bool { return members.ID(m.ID) == id }), err
}

func (p *Peer) members(ctx context.Context) ([]*etcdserverpb.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	resp, err := p.client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the servers of the mesh: %w", err)
	}
	return resp.Members, nil
}

// start starts the server that this host was asked for. Data of a member that is not asked
// for any more is set aside; a member that has run must not begin without its data, since
// it would have forgotten what it has agreed to.
func (p *Peer) start(ctx context.Context, named members.ID) error {
	all, err := p.members(ctx)
	if err != nil {
		return err
	}
	var own *etcdserverpb.Member
	var cluster []string
	for _, m := range all {
		name := m.Name
		switch {
		case members.ID(m.ID) == named:
			own, name = m, p.o.Host
		case name == "": // its host hasn't started it yet
			name = "new-" + members.ID(m.ID).String()
		}
		for _, u := range m.PeerURLs {
			cluster = append(cluster, name+"="+u)
		}
	}
	data, has, err := p.node.data()
	switch {
	case err != nil:
		if err := p.node.setAside(ctx, err.Error()); err != nil {
			return err
		}
	case own == nil:
		return nil // it was removed meanwhile
	case !(has && members.ID(data.Member) == named) && own.Name != "":
		p.log.Warn("the data of this host's server is gone, so it waits until it is a new one", "member", named)
		return nil
	}
	if p.tooOften() {
		return nil
	}
	if err := p.move(ctx, own); err != nil {
		return err
	}
	a := p.node.begin(server.Options{
		Existing:       true,
		InitialCluster: strings.Join(cluster, ","),
		Expect:         server.Identity{Member: uint64(named)},
	})
	if _, err := p.announce(ctx); err != nil { // before others see that it has started
		return err
	}
	return p.await(ctx, a)
}

// move tells the mesh if the server of this host is found elsewhere now.
func (p *Peer) move(ctx context.Context, own *etcdserverpb.Member) error {
	if slices.Equal(own.PeerURLs, p.node.a.advertisePeer) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	p.log.Info("server has moved", "member", members.ID(own.ID), "from", own.PeerURLs, "to", p.node.a.advertisePeer)
	if _, err := p.client.MemberUpdate(ctx, own.ID, p.node.a.advertisePeer); err != nil {
		return fmt.Errorf("telling the mesh where the server is now: %w", err)
	}
	return nil
}

// tooOften says that the server has failed again and again. This host then doesn't offer
// itself for a while.
func (p *Peer) tooOften() bool {
	if !p.node.failing() {
		p.trouble.Store(nil)
		return false
	}
	if p.trouble.Load() == nil {
		why := fmt.Sprintf("its server has failed %d times in a row", maxFailures)
		p.log.Warn("this host doesn't serve for a while", "why", why, "for", troubled)
		p.trouble.Store(&why)
		p.wg.Go(func() {
			pause(p.ctx, troubled)
			p.node.count(func(int) int { return maxFailures - 1 })
			p.trouble.Store(nil)
			p.bells[serveVertex].ring()
			p.bells[announceVertex].ring() // if it is none any more, there is nothing to do but this
		})
	}
	return true
}

// announce says what this host offers now.
func (p *Peer) announce(ctx context.Context) (bool, error) {
	p.elect()
	alive := members.Alive{Leaving: p.leaving.Load(), Instance: p.notes.get().Instance, Version: p.o.Version}
	if p.willing() && !p.mesh.Foreign {
		alive.Serves = true
		if why := p.trouble.Load(); why != nil {
			alive.Serves, alive.Trouble = false, *why
		}
		alive.ClientURLs, alive.PeerURLs = p.node.a.advertiseClient, p.node.a.advertisePeer
		if s := p.node.running(); s != nil {
			alive.Member = members.ID(s.ID())
		}
		if alive.Data = p.node.begun(); alive.Data == 0 {
			if data, has, err := p.node.data(); err == nil && has {
				alive.Data = members.ID(data.Member)
			}
		}
	}
	op := members.Put(mesh.AlivePrefix+p.o.Host, alive)
	op.Bound = true
	_, err := p.store.Write(ctx, mesh.Txn{Ops: []mesh.Op{op}})
	return true, err
}
