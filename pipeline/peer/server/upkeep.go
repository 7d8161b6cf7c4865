package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// ErrFull says that the server had to stop, or doesn't start, because its disk is full.
var ErrFull = errors.New("the disk is full")

// Upkeep says when to do what keeps a server in shape. What is zero has a default, given in
// brackets.
type Upkeep struct {
	// Every is how often to look after the server [1 minute]. Alarms and the room on the
	// disk are looked at every two seconds in any case.
	Every time.Duration

	// KeepAge and KeepRevisions say what of the past stays: what is younger [10 minutes],
	// but not more than so many revisions [10,000]. Who has lost touch for longer has to
	// read everything anew.
	KeepAge       time.Duration
	KeepRevisions int64

	// Waste is how much of the database may lie idle, in bytes, before it is made smaller
	// [64 MiB], if it is also more than half of it.
	Waste int64

	// SlowSync is how long the disk may take to have something written for good, in 99 of
	// 100 cases, before there is a warning [10 ms].
	SlowSync time.Duration

	// Room is what has to be left of the disk, in bytes [32 MiB]. With less the server
	// stops in order, before it is stopped by an error that ends the process, and with less
	// than three times as much it doesn't start.
	Room int64
}

func (u Upkeep) withDefaults() Upkeep {
	if u.Every == 0 {
		u.Every = time.Minute
	}
	if u.KeepAge == 0 {
		u.KeepAge = 10 * time.Minute
	}
	if u.KeepRevisions == 0 {
		u.KeepRevisions = 10_000
	}
	if u.Waste == 0 {
		u.Waste = 64 << 20
	}
	if u.SlowSync == 0 {
		u.SlowSync = 10 * time.Millisecond
	}
	if u.Room == 0 {
		u.Room = 32 << 20
	}
	return u
}

const (
	// look is how often the server is looked at for what can't wait.
	look = 2 * time.Second

	// turn is how long a server has to make its database smaller when the mesh takes no
	// more, until it is the turn of another.
	turn = 5 * time.Second

	// lockTTL is for how long a server that dies while it makes its database smaller keeps
	// others from it.
	lockTTL = 5 * time.Minute

	// lockKey is held by the one server that makes its database smaller.
	lockKey = mesh.ServerPrefix + "defragmenting"
)

// keeper keeps a server in shape while it runs.
type keeper struct {
	*Server
	past  []moment // of the last KeepAge, oldest first
	syncs syncs
	slow  slowness

	// crowded is the revision at which all that could be done did not make enough room.
	crowded int64
}

// moment is the revision that the store had at a time.
type moment struct {
	at       time.Time
	revision int64
}

func (s *Server) keep() {
	k := &keeper{Server: s, syncs: readSyncs()}
	urgent := time.NewTicker(min(look, s.options.Upkeep.Every))
	defer urgent.Stop()
	usual := time.NewTicker(s.options.Upkeep.Every)
	defer usual.Stop()
	for {
		var err error
		select {
		case <-s.ctx.Done():
			return
		case <-urgent.C:
			k.checkRoom()
			err = k.heal()
		case <-usual.C:
			k.checkSyncs()
			err = errors.Join(k.forget(), k.shrink())
		}
		if err != nil && s.ctx.Err() == nil {
			s.options.Log.Warn("the upkeep of the server failed, to be tried again", "error", err)
		}
	}
}

// checkRoom stops the server while it can still do it in order.
func (k *keeper) checkRoom() {
	if room, err := roomIn(k.options.Dir); err == nil && room < k.options.Upkeep.Room {
		k.giveUp(fmt.Errorf("%w: %s are left in %s, and the server needs %s",
			ErrFull, bytes(room), k.options.Dir, bytes(k.options.Upkeep.Room)))
	}
}

// roomIn is how many bytes may still be written to the disk that dir is on.
func roomIn(dir string) (int64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return 0, err
	}
	return int64(disk.Bavail) * disk.Bsize, nil
}

func enoughRoom(o Options) error {
	room, err := roomIn(o.Dir)
	if need := 3 * o.Upkeep.Room; err == nil && room < need {
		err = fmt.Errorf("%w: %s are left in %s, and a server needs %s to start", ErrFull, bytes(room), o.Dir, bytes(need))
	}
	return err
}

// forget makes the mesh forget what is older than it has to be. The leader does it for all.
func (k *keeper) forget() error {
	now, revision := time.Now(), k.etcd.Server.KV().Rev()
	old := int64(0)
	for len(k.past) > 0 && now.Sub(k.past[0].at) >= k.options.Upkeep.KeepAge {
		old = k.past[0].revision
		k.past = k.past[1:]
	}
	k.past = append(k.past, moment{now, revision})
	old = max(old, revision-k.options.Upkeep.KeepRevisions)
	if !k.Leads() || old <= k.etcd.Server.KV().FirstRev() {
		return nil
	}
	return k.compact(old, false)
}

// compact makes the mesh forget what was before a revision; wait also has it gone from the
// database of this server.
func (k *keeper) compact(revision int64, wait bool) error {
	_, err := k.etcd.Server.Compact(k.root(), &etcdserverpb.CompactionRequest{Revision: revision, Physical: wait})
	if errors.Is(err, mvcc.ErrCompacted) {
		return nil // somebody else did
	}
	if err != nil {
		return fmt.Errorf("forgetting what was before revision %d: %w", revision, err)
	}
	return nil
}

// shrink makes the database of this server smaller if too much of it lies idle. While it
// does, the server answers nobody, so that no two do it at once.
func (k *keeper) shrink() (err error) {
	size, idle := k.size(), k.size()-k.etcd.Server.Backend().SizeInUse()
	if idle < k.options.Upkeep.Waste || idle < size/2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(k.root(), lockTTL)
	defer cancel()
	lease, err := k.client.Grant(ctx, int64(lockTTL/time.Second))
	if err != nil {
		return fmt.Errorf("asking whether another server makes its database smaller: %w", err)
	}
	defer func() {
		_, err2 := k.client.Revoke(ctx, lease.ID)
		err = errors.Join(err, err2)
	}()
	taken, err := k.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(lockKey), "=", 0)).
		Then(clientv3.OpPut(lockKey, k.options.Name, clientv3.WithLease(lease.ID))).
		Commit()
	if err != nil || !taken.Succeeded {
		return err
	}
	return k.defragment()
}

// defragment makes the database of this server smaller. If it leads, it goes on to: writes
// wait for it, while the change of the leader would have some of them fail.
func (k *keeper) defragment() error {
	begin, before := time.Now(), k.size()
	if err := k.etcd.Server.Defragment(); err != nil {
		return fmt.Errorf("making the database smaller: %w", err)
	}
	k.options.Log.Info("the database is smaller now", "before", bytes(before),
		"after", bytes(k.size()), "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

// size is that of the database on disk.
func (k *keeper) size() int64 { return k.etcd.Server.Backend().Size() }

// heal has the mesh take what is written again, after the quota was used up. No lock can be
// had, since nothing can be written, so each server has its turn by the clock.
func (k *keeper) heal() error {
	full, own := false, false
	for _, a := range k.etcd.Server.Alarms() {
		if a.GetAlarm() != etcdserverpb.AlarmType_NOSPACE {
			continue
		}
		full, own = true, own || a.GetMemberID() == k.ID()
		if k.Leads() && !k.member(a.GetMemberID()) { // who else should take it back?
			if err := k.disarm(a.GetMemberID()); err != nil {
				return err
			}
		}
	}
	if !full {
		k.crowded = 0
		return nil
	}
	if !k.turn(time.Now()) {
		return nil
	}
	enough, err := k.makeRoom()
	if err != nil || !enough || !own {
		return err
	}
	if err := k.disarm(k.ID()); err != nil {
		return err
	}
	k.options.Log.Info("the mesh takes what is written again", "size", bytes(k.size()), "quota", bytes(k.options.Quota))
	return nil
}

// makeRoom makes the database smaller, and tells whether it is small enough.
func (k *keeper) makeRoom() (enough bool, err error) {
	limit := k.options.Quota - k.options.Quota/10 // with more, the next writes would raise the alarm again
	revision := k.etcd.Server.KV().Rev()
	if k.size() <= limit || k.crowded == revision { // nothing was deleted since the last time
		return k.size() <= limit, nil
	}
	log, first := k.options.Log.With("size", bytes(k.size()), "quota", bytes(k.options.Quota)), k.crowded == 0
	if first {
		log.Warn("the quota of the mesh is used up, making room")
	}
	if err := k.compact(revision, true); err != nil {
		return false, err
	}
	if err := k.defragment(); err != nil {
		return false, err
	}
	if k.size() <= limit {
		return true, nil
	}
	if first {
		log.Error("the mesh holds too much to take more: export less, or allow more", "needed", bytes(k.size()))
	}
	k.crowded = revision
	return false, nil
}

func (k *keeper) disarm(member uint64) error {
	_, err := k.etcd.Server.Alarm(k.root(), &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_DEACTIVATE, MemberID: member, Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	if err != nil {
		return fmt.Errorf("taking the alarm of member %x back: %w", member, err)
	}
	return nil
}

func (k *keeper) member(id uint64) bool {
	for _, m := range k.etcd.Server.Cluster().Members() {
		if uint64(m.ID) == id {
			return true
		}
	}
	return false
}

// turn tells whose it is to make its database smaller: each server has some seconds.
func (k *keeper) turn(now time.Time) bool {
	var all []uint64
	for _, m := range k.etcd.Server.Cluster().Members() {
		all = append(all, uint64(m.ID))
	}
	slices.Sort(all)
	i := now.Unix() / int64(turn/time.Second) % int64(max(1, len(all)))
	return slices.Index(all, k.ID()) == int(i)
}

// root is a context for what the upkeep asks of etcd.
func (k *keeper) root() context.Context { return k.Root(k.ctx) }

// bytes writes how many there are so that people can compare them.
func bytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
