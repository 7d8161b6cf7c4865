package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// Holding is what one server has of a mesh that it may be the last to know.
type Holding struct {
	// Where is the URL of the server, or the directory of one that doesn't run.
	Where string `json:"where"`

	Identity

	// Leader is the member that leads as far as the server knows, and 0 if none does.
	Leader uint64 `json:"leader,omitempty"`

	// Index counts what the servers have agreed on up to now, and Term is the count of
	// elections: the larger index is the newer. Of a server that doesn't run, Index is also
	// of what it may not know to be agreed on.
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`

	// Revision is that of the store. For a server that doesn't run, it is that of its
	// database, which may be a little older than its log.
	Revision int64 `json:"revision"`

	// Size is that of the database in bytes.
	Size int64 `json:"size"`

	// Problem is why nothing is known.
	Problem string `json:"problem,omitempty"`
}

// Newer tells whether h knows more of the mesh than other.
func (h Holding) Newer(other Holding) bool {
	if (h.Problem == "") != (other.Problem == "") {
		return h.Problem == ""
	}
	if h.Index != other.Index {
		return h.Index > other.Index
	}
	return h.Revision > other.Revision
}

// Survey asks the servers at the given URLs what they have. It takes no majority of them,
// and no leader.
func Survey(ctx context.Context, client *clientv3.Client, endpoints []string) []Holding {
	found := make([]Holding, len(endpoints))
	var asking sync.WaitGroup
	for i, e := range endpoints {
		asking.Go(func() { found[i] = survey(ctx, client, e) })
	}
	asking.Wait()
	return found
}

func survey(ctx context.Context, client *clientv3.Client, endpoint string) Holding {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	s, err := client.Status(ctx, endpoint)
	if err != nil {
		return Holding{Where: endpoint, Problem: err.Error()}
	}
	return Holding{
		Where:    endpoint,
		Identity: Identity{Member: s.Header.MemberId, Cluster: s.Header.ClusterId},
		Leader:   s.Leader,
		Index:    s.RaftIndex,
		Term:     s.RaftTerm,
		Revision: s.Header.Revision,
		Size:     s.DbSize,
	}
}

// Inspect tells what there is in the directory of a server that doesn't run.
func Inspect(dir string) (Holding, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return Holding{}, err
	}
	h, err := inspect(dir)
	return h, errors.Join(err, lock.Close())
}

func inspect(dir string) (Holding, error) {
	id, ok, err := Identify(dir)
	if err != nil {
		return Holding{}, err
	}
	if !ok {
		return Holding{}, fmt.Errorf("no server has ever run in %s", dir)
	}
	h := Holding{Where: dir, Identity: id}
	if h.Term, h.Index, err = endOfLog(logDir(dir)); err != nil {
		return Holding{}, fmt.Errorf("reading the log of the server in %s: %w", dir, err)
	}
	if h.Revision, h.Size, err = readDatabase(databaseFile(dir)); err != nil {
		return Holding{}, fmt.Errorf("reading the database of the server in %s: %w", dir, err)
	}
	return h, nil
}

func logDir(dir string) string       { return filepath.Join(dataDir(dir), "wal") }
func databaseFile(dir string) string { return filepath.Join(dataDir(dir), "snap", "db") }

// endOfLog finds the last that is in the log of a server.
func endOfLog(dir string) (term, index uint64, err error) {
	start, err := startOfLog(dir)
	if err != nil {
		return 0, 0, err
	}
	log, err := wal.OpenForRead(zap.NewNop(), dir, start)
	if err != nil {
		return 0, 0, err
	}
	_, state, entries, err := log.ReadAll() // it closes the log, too
	if err != nil {
		return 0, 0, err
	}
	index = max(start.GetIndex(), state.GetCommit())
	if len(entries) > 0 {
		index = entries[len(entries)-1].GetIndex()
	}
	return state.GetTerm(), index, nil
}

// startOfLog is from where on the log says more than the database.
func startOfLog(dir string) (*walpb.Snapshot, error) {
	all, err := wal.ValidSnapshotEntries(zap.NewNop(), dir)
	if err != nil || len(all) == 0 {
		return &walpb.Snapshot{}, err
	}
	return all[len(all)-1], nil
}

// readDatabase finds the revision of a database file, and its size.
func readDatabase(path string) (revision, size int64, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, 0, err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		if keys := tx.Bucket(schema.Key.Name()); keys != nil {
			if last, _ := keys.Cursor().Last(); len(last) >= 8 {
				revision = int64(binary.BigEndian.Uint64(last))
			}
		}
		if meta := tx.Bucket(schema.Meta.Name()); meta != nil {
			for _, name := range [][]byte{schema.FinishedCompactKeyName, schema.ScheduledCompactKeyName} {
				if at := meta.Get(name); len(at) >= 8 { // what came last may have been forgotten
					revision = max(revision, int64(binary.BigEndian.Uint64(at)))
				}
			}
		}
		return nil
	})
	return revision, size, errors.Join(err, db.Close())
}

// Save writes all that a server holds to a file, which must not be there. The client has to
// know one server alone, which may be without a majority.
func Save(ctx context.Context, client *clientv3.Client, path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = save(ctx, client, file)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(fmt.Errorf("saving what the server holds: %w", err), os.Remove(path))
	}
	return nil
}

func save(ctx context.Context, client *clientv3.Client, file *os.File) error {
	from, err := client.Snapshot(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, from.Close(), file.Sync())
}

// SaveStopped is Save for a server that doesn't run: it also saves what is in its log, and
// takes for granted that the servers have agreed on it. The directory is left as it is.
func SaveStopped(ctx context.Context, dir, path string, o Options) (err error) {
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	copied, err := os.MkdirTemp(dir, "copy-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(copied)) }()
	if err := os.CopyFS(dataDir(copied), os.DirFS(dataDir(dir))); err != nil {
		return err
	}
	if err := agree(logDir(copied)); err != nil {
		return fmt.Errorf("reading the log of the server in %s: %w", dir, err)
	}
	s, err := startAlone(ctx, copied, o)
	if err != nil {
		return err
	}
	err = Save(s.Root(ctx), s.Client(), path)
	return errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
}

// agree has all that is in a log count as agreed on. Its server may have had no time to
// learn of it, and a server that is elected would keep it, too.
func agree(dir string) error {
	start, err := startOfLog(dir)
	if err != nil {
		return err
	}
	log, err := wal.Open(zap.NewNop(), dir, start)
	if err != nil {
		return err
	}
	_, state, entries, err := log.ReadAll()
	if err == nil && len(entries) > 0 {
		state.Commit = entries[len(entries)-1].Index
		err = log.Save(state, nil)
	}
	return errors.Join(err, log.Close())
}

// startAlone starts a server without any other, and without listening to anybody.
func startAlone(ctx context.Context, dir string, o Options) (*Server, error) {
	o = o.withDefaults()
	o.Dir = dir
	if o.Name == "" {
		o.Name = "alone"
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := newServer(o, urls{}, lock)
	s.alone = true
	if err := s.run(ctx); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

// leap is how far the revisions of a restored mesh are ahead of those that were saved. Hosts
// that have seen revisions that are lost must not take others for them.
const leap = 1_000_000_000

// Restore makes the directory of a server from a file of Save: that of the first server of
// a new mesh, which has all that the old one had but its servers. What it had in its
// directory before is set aside. Of the Options, it takes Name, Dir, PeerURLs,
// AdvertisePeerURLs, TLS and Log; they have to be those with which it is started next.
func Restore(path string, o Options) (Identity, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return Identity{}, err
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return Identity{}, err
	}
	id, err := restore(path, o)
	return id, errors.Join(err, lock.Close())
}

func restore(path string, o Options) (Identity, error) {
	u, err := findURLs(o)
	if err != nil {
		return Identity{}, err
	}
	// All is made elsewhere and then renamed: half of it would be worse than nothing.
	made, err := os.MkdirTemp(o.Dir, "restore-")
	if err != nil {
		return Identity{}, err
	}
	id, err := build(path, made, o.Name, u)
	if err == nil {
		_, err = setAside(o.Dir, "the mesh was restored from "+path, o.Log)
	}
	if err == nil {
		err = os.Rename(dataDir(made), dataDir(o.Dir))
	}
	return id, errors.Join(err, os.RemoveAll(made))
}

func build(path, dir, name string, u urls) (Identity, error) {
	if err := os.MkdirAll(filepath.Dir(databaseFile(dir)), 0o700); err != nil {
		return Identity{}, err
	}
	if err := unpack(path, databaseFile(dir)); err != nil {
		return Identity{}, fmt.Errorf("reading what was saved in %s: %w", path, err)
	}
	peers, err := types.NewURLsMap(name + "=" + strings.Join(u.advertisePeer, ","+name+"="))
	if err != nil {
		return Identity{}, err
	}
	token := rand.Text() // whoever has data of the old mesh is no member of the new one
	cluster, err := membership.NewClusterFromURLsMap(zap.NewNop(), token, peers)
	if err != nil {
		return Identity{}, err
	}
	member := cluster.MemberByName(name)
	index, term, err := rewrite(databaseFile(dir), member)
	if err != nil {
		return Identity{}, fmt.Errorf("reading the database in %s: %w", path, err)
	}
	id := Identity{Member: uint64(member.ID), Cluster: uint64(cluster.ID())}
	return id, writeLog(logDir(dir), id, index, term)
}

// unpack copies a database from a file of Save, which ends with a checksum.
func unpack(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read from
	info, err := in.Stat()
	if err != nil {
		return err
	}
	size := info.Size() - sha256.Size
	if size <= 0 || size%512 != 0 {
		return fmt.Errorf("%d bytes are not a database with a checksum, it was not saved to the end", info.Size())
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, sum), io.LimitReader(in, size))
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(in, want); err != nil {
		return err
	}
	if got := sum.Sum(nil); string(got) != string(want) {
		return fmt.Errorf("its checksum is %s, expected %s", hex.EncodeToString(got), hex.EncodeToString(want))
	}
	return nil
}

// rewrite makes a database that of a mesh with one member, and returns what came last in it.
func rewrite(path string, member *membership.Member) (index, term uint64, err error) {
	revision, _, err := readDatabase(path)
	if err != nil {
		return 0, 0, err
	}
	b := backend.NewDefaultBackend(zap.NewNop(), path)
	members := schema.NewMembershipBackend(zap.NewNop(), b)
	members.MustCreateBackendBuckets()
	if err := members.TrimMembershipFromBackend(); err != nil {
		return 0, 0, errors.Join(err, b.Close())
	}
	members.MustSaveMemberToBackend(member)
	// To have all forgotten up to a revision makes it the one of the store.
	mvcc.SetScheduledCompact(b.BatchTx(), revision+leap)
	index, term = schema.ReadConsistentIndex(b.ReadTx())
	b.ForceCommit()
	return index, term, b.Close()
}

// writeLog begins the log of a server that has all up to index.
func writeLog(dir string, id Identity, index, term uint64) error {
	owner, err := proto.Marshal(&etcdserverpb.Metadata{NodeID: &id.Member, ClusterID: &id.Cluster})
	if err != nil {
		return err
	}
	log, err := wal.Create(zap.NewNop(), dir, owner)
	if err != nil {
		return err
	}
	snapshot := &walpb.Snapshot{Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: []uint64{id.Member}}}
	err = log.Save(&raftpb.HardState{Term: &term, Commit: &index}, nil)
	if err == nil {
		err = log.SaveSnapshot(snapshot)
	}
	return errors.Join(err, log.Close())
}
