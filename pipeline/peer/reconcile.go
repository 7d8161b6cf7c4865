package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

const (
	// changeLimit is how long a change of the members may take.
	changeLimit = 5 * time.Second

	// lostAfter is for how long a host says that it has no data of its member before that
	// is believed: it says so later than its server starts.
	lostAfter = 2 * time.Second

	// learnPoll is how often a learner is asked how far it is.
	learnPoll = 50 * time.Millisecond

	// verifyLimit is how long a new voter has to show that it is one.
	verifyLimit = 3 * time.Second
)

// note keeps in mind who is there.
func (l *leader) note(c mesh.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.Reset {
		clear(l.alive)
		l.heard = true
	}
	for _, e := range c.Put {
		var a members.Alive
		host := strings.TrimPrefix(e.Key, mesh.AlivePrefix)
		if err := json.Unmarshal(e.Value, &a); err != nil {
			l.p.log.Warn("what a host says of itself can't be understood", "host", host, "err", err)
			continue
		}
		l.alive[host] = a
	}
	for _, key := range c.Deleted {
		delete(l.alive, strings.TrimPrefix(key, mesh.AlivePrefix))
	}
}

// reconcile makes one change after another until the members are as they should be.
func (l *leader) reconcile(ctx context.Context) (changed bool, err error) {
	for ctx.Err() == nil {
		v, ok, err := l.view(ctx)
		if err != nil || !ok {
			return changed, err
		}
		step := members.Next(v)
		if step.Do == members.Rest {
			l.lookAgain(v, step)
			return true, nil // what has changed may be where a server is
		}
		if err := l.do(ctx, step); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, context.Cause(ctx)
}

// lookAgain sees to it that the leader looks again when time alone has changed something.
func (l *leader) lookAgain(v members.View, rest members.Step) {
	if l.timer != nil {
		l.timer.Stop()
	}
	wait := rest.Wait
	for _, m := range v.Members {
		if m.Learner && m.Up && !m.Ready {
			wait = learnPoll
		}
		if left := lostAfter - m.Down; !m.Up && left > 0 && (wait == 0 || wait > left) {
			wait = left
		}
	}
	if wait > 0 {
		l.timer = time.AfterFunc(wait, l.again.ring)
	}
}

// do makes one step.
func (l *leader) do(ctx context.Context, s members.Step) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	if err := l.stillLeads(ctx); err != nil {
		return err
	}
	p := l.p
	var err error
	switch s.Do {
	case members.Add:
		its := l.offer(s.Host)
		l.remember(s.Host, its)
		_, err = p.client.MemberAddAsLearner(ctx, its.PeerURLs)
	case members.Name:
		_, err = p.store.Write(ctx, mesh.Txn{Ops: []mesh.Op{members.Put(members.NamedPrefix+s.Host, members.Named{Member: members.ID(s.Member)})}})
	case members.Dismiss:
		_, err = p.store.Write(ctx, mesh.Txn{Ops: []mesh.Op{mesh.Delete(members.NamedPrefix + s.Host)}})
	case members.Promote:
		if _, err = p.client.MemberPromote(ctx, s.Member); err == nil {
			l.verify(ctx, s)
			_, err = l.publish(ctx)
		}
	case members.Remove:
		if _, err = p.client.MemberRemove(ctx, s.Member); err == nil {
			_, err = l.publish(ctx)
		}
	case members.Yield:
		err = l.yield(ctx)
	default:
		return fmt.Errorf("no step is called %q", s.Do)
	}
	if err != nil {
		return fmt.Errorf("%s %s (%v): %w", s.Do, s.Host, members.ID(s.Member), err)
	}
	level := p.log.Info
	if s.Do == members.Name || s.Do == members.Dismiss {
		level = p.log.Debug
	}
	level("servers of the mesh changed", "do", string(s.Do), "host", s.Host, "member", members.ID(s.Member), "why", s.Why)
	return nil
}

// remember notes where another server will be, before this host could be cut off from a mesh
// that goes on without it.
func (l *leader) remember(host string, its members.Alive) {
	err := l.p.notes.change(func(r *remembered) {
		others := slices.DeleteFunc(slices.Clone(r.Servers.Servers), func(s members.Server) bool { return s.Host == host })
		r.Servers.Servers = append(others, members.Server{Host: host, ClientURLs: its.ClientURLs})
	})
	if err != nil {
		l.p.log.Warn("where a new server will be was not noted", "err", err)
	}
}

func (l *leader) offer(host string) members.Alive {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alive[host]
}

// yield lets another host lead, which has to know that it may.
func (l *leader) yield(ctx context.Context) error {
	if _, err := l.publish(ctx); err != nil {
		return err
	}
	l.p.yielded.Store(true)
	l.p.ballot.set(false)
	l.over(errYield)
	return nil
}

// verify asks a new voter itself whether it is one. If it doesn't answer it is down, which
// is seen next.
func (l *leader) verify(ctx context.Context, s members.Step) {
	ctx, cancel := context.WithTimeout(ctx, verifyLimit)
	defer cancel()
	urls := l.offer(s.Host).ClientURLs
	for len(urls) > 0 {
		resp, err := l.p.status(ctx, urls[0])
		if err == nil && !resp.IsLearner {
			return
		}
		if ctx.Err() != nil {
			l.p.log.Warn("new voter doesn't answer as one", "host", s.Host, "err", err)
			return
		}
		pause(ctx, learnPoll)
	}
}

// view is what the leader knows now; it is not ok as long as it doesn't know who is there.
func (l *leader) view(ctx context.Context) (v members.View, ok bool, err error) {
	all, err := l.p.members(ctx)
	if err != nil {
		return v, false, err
	}
	v = members.View{Leader: l.p.o.Host, Grace: l.p.o.Grace}
	if v.Named, err = l.named(ctx); err != nil {
		return v, false, err
	}
	if v.Ideal, err = l.ideal(ctx); err != nil {
		return v, false, err
	}
	l.mu.Lock()
	if !l.heard {
		l.mu.Unlock()
		return v, false, nil
	}
	for host, a := range l.alive {
		v.Hosts = append(v.Hosts, members.Host{Name: host, Serves: a.Serves && len(a.PeerURLs) > 0, Leaving: a.Leaving})
	}
	learners := map[int]string{}
	for _, m := range all {
		v.Members = append(v.Members, l.member(m, v.Named))
		if m.IsLearner && len(m.ClientURLs) > 0 {
			learners[len(v.Members)-1] = m.ClientURLs[0]
		}
	}
	l.mu.Unlock()
	l.forget(all)
	for i, url := range learners {
		if v.Members[i].Up {
			v.Members[i].Ready = l.ready(ctx, url)
		}
	}
	return v, true, nil
}

// member is a member as Next sees it. It is called with the lock.
func (l *leader) member(m *etcdserverpb.Member, named map[string]uint64) members.Member {
	out := members.Member{ID: m.ID, Host: l.hostOf(m, named), Learner: m.IsLearner}
	id := members.ID(m.ID)
	a, there := l.alive[out.Host]
	if out.Up = there && a.Member == id; out.Up {
		delete(l.down, id)
		return out
	}
	since, known := l.down[id]
	if !known {
		since = time.Now()
		l.down[id] = since
	}
	out.Down = time.Since(since)
	out.Lost = m.Name != "" && there && a.Serves && a.Member == 0 && a.Data != id && out.Down >= lostAfter
	return out
}

// hostOf is whose member it is: a server has its name only once it has started.
func (l *leader) hostOf(m *etcdserverpb.Member, named map[string]uint64) string {
	if m.Name != "" {
		return m.Name
	}
	for host, id := range named {
		if id == m.ID {
			return host
		}
	}
	for host, a := range l.alive {
		if slices.Equal(slices.Sorted(slices.Values(a.PeerURLs)), slices.Sorted(slices.Values(m.PeerURLs))) {
			return host
		}
	}
	return ""
}

// forget drops what was known of members that are none any more.
func (l *leader) forget(all []*etcdserverpb.Member) {
	for id := range l.down {
		if !slices.ContainsFunc(all, func(m *etcdserverpb.Member) bool { return members.ID(m.ID) == id }) {
			delete(l.down, id)
		}
	}
}

func (l *leader) named(ctx context.Context) (map[string]uint64, error) {
	list, err := l.p.store.List(ctx, members.NamedPrefix)
	if err != nil {
		return nil, err
	}
	all := map[string]uint64{}
	for _, e := range list.Entries {
		var n members.Named
		if err := json.Unmarshal(e.Value, &n); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Key, err)
		}
		all[strings.TrimPrefix(e.Key, members.NamedPrefix)] = uint64(n.Member)
	}
	return all, nil
}

func (l *leader) ideal(ctx context.Context) (int, error) {
	e, found, err := l.p.store.Get(ctx, members.IdealKey)
	if err != nil || !found {
		return members.DefaultIdeal, err
	}
	n, err := members.ParseIdeal(e.Value)
	if err != nil {
		if l.ignored != e.Revision {
			l.p.log.Warn("setting ignored", "err", err)
		}
		l.ignored = e.Revision
		return members.DefaultIdeal, nil
	}
	return n, nil
}

// ready says whether a learner has nearly all that the leader of the servers has.
func (l *leader) ready(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	s := l.p.node.running()
	if s == nil {
		return false
	}
	own, err := s.Client().Status(s.Root(ctx), "")
	if err != nil {
		return false
	}
	its, err := l.p.status(ctx, url)
	return err == nil && its.RaftAppliedIndex+its.RaftAppliedIndex/9 >= own.RaftAppliedIndex
}

// publish tells all hosts where the voters are.
func (l *leader) publish(ctx context.Context) (bool, error) {
	all, err := l.p.members(ctx)
	if err != nil {
		return false, err
	}
	var now members.Servers
	for _, m := range all {
		if !m.IsLearner && m.Name == "" {
			return false, fmt.Errorf("server %v hasn't said yet where it is", members.ID(m.ID))
		}
		if !m.IsLearner {
			its := members.Server{Host: m.Name, Member: members.ID(m.ID), ClientURLs: m.ClientURLs}
			if a := l.offer(m.Name); a.Member == its.Member {
				its.ClientURLs = a.ClientURLs // it may just have moved
			}
			now.Servers = append(now.Servers, its)
		}
	}
	slices.SortFunc(now.Servers, func(a, b members.Server) int { return strings.Compare(a.Host, b.Host) })
	op := members.Put(members.ServersKey, now)
	e, found, err := l.p.store.Get(ctx, op.Key)
	if err != nil || found && string(e.Value) == string(op.Value) {
		return false, err
	}
	_, err = l.p.store.Write(ctx, mesh.Txn{If: []mesh.Condition{{Key: op.Key, Revision: e.Revision}}, Ops: []mesh.Op{op}})
	return true, err
}
