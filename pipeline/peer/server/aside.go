package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Identity is who a server is: a member of a mesh. Each has a number that is given once.
type Identity struct {
	Member  uint64 `json:"member"`
	Cluster uint64 `json:"cluster"`
}

// Identify reads from the data in dir whose it is, and tells whether there is any. Nothing
// is changed, and a server may run there.
func Identify(dir string) (Identity, bool, error) {
	logs, err := filepath.Glob(filepath.Join(dataDir(dir), "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		return Identity{}, false, err
	}
	id, err := identify(slices.Max(logs))
	if err != nil {
		return Identity{}, false, fmt.Errorf("finding whose data there is in %s: %w", dir, err)
	}
	return id, true, nil
}

// identify reads the head of a file of the log, where its owner stands.
func identify(path string) (Identity, error) {
	file, err := os.Open(path)
	if err != nil {
		return Identity{}, err
	}
	defer func() { _ = file.Close() }() // only read from
	decoder := wal.NewDecoder(fileutil.NewFileReader(file))
	for {
		var record walpb.Record
		if err := decoder.Decode(&record); err != nil {
			return Identity{}, fmt.Errorf("%s doesn't say: %w", path, err)
		}
		switch record.GetType() {
		case wal.CrcType:
			decoder.UpdateCRC(record.GetCrc())
		case wal.MetadataType:
			var owner etcdserverpb.Metadata
			if err := proto.Unmarshal(record.Data, &owner); err != nil {
				return Identity{}, err
			}
			return Identity{Member: owner.GetNodeID(), Cluster: owner.GetClusterID()}, nil
		}
	}
}

// SetAside renames the data of a server in dir, so that another can begin in its place, and
// returns the new name, which is below dir. Nothing is deleted, and why is logged. Without
// data it does nothing, and the name is empty. No server may run in dir.
func SetAside(dir, why string, log *slog.Logger) (string, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return "", err
	}
	to, err := setAside(dir, why, log)
	return to, errors.Join(err, lock.Close())
}

// setAside is SetAside for who has locked dir.
func setAside(dir, why string, log *slog.Logger) (string, error) {
	from := dataDir(dir)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	to := filepath.Join(dir, "aside-"+time.Now().UTC().Format("20060102T150405.000Z"))
	if err := os.Rename(from, to); err != nil {
		return "", fmt.Errorf("setting old data aside: %w", err)
	}
	log.Warn("old data of the server set aside", "why", why, "path", to)
	return to, nil
}

// setAsideOther sets aside what is not of the server that is to start.
func setAsideOther(o Options) error {
	found, ok, err := Identify(o.Dir)
	if err != nil || !ok {
		return err
	}
	var why string
	switch {
	case o.Expect.Cluster != 0 && found.Cluster != o.Expect.Cluster:
		why = fmt.Sprintf("it is of mesh %x, and this is mesh %x", found.Cluster, o.Expect.Cluster)
	case o.Expect.Member != 0 && found.Member != o.Expect.Member:
		why = fmt.Sprintf("it is of member %x, which is now member %x", found.Member, o.Expect.Member)
	default:
		return nil
	}
	_, err = setAside(o.Dir, why, o.Log)
	return err
}

// lockDir opens dir, which it makes, and sees to it that nobody else does until it is closed.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { // what is exported may be secret
		return nil, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another process runs a server in %s", dir)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}
