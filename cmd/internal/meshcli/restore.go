package meshcli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/pipeline/peer/server"
	store "github.com/mgmtproject/mgmt/sources/mesh"
)

// orderFile is where a peer finds that it is to begin the mesh anew.
func orderFile(dir string) string { return filepath.Join(dir, "restore") }

// order has the next peer in a directory begin the mesh anew with what was saved.
func order(dir, snapshot string) error {
	made := orderFile(dir) + ".new"
	err := os.WriteFile(made, []byte(snapshot+"\n"), 0o600)
	if err == nil {
		err = os.Rename(made, orderFile(dir))
	}
	return err
}

// obey begins the mesh anew, if that is what is asked for.
func obey(dir string, s mesh.Settings, log *slog.Logger) (anew bool, err error) {
	text, err := os.ReadFile(orderFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	snapshot := strings.TrimSpace(string(text))
	if err := restore(dir, snapshot, s, log); err != nil {
		return false, fmt.Errorf("beginning the mesh anew with %s: %w", snapshot, err)
	}
	return true, os.Remove(orderFile(dir))
}

// depose takes the lead from hosts that had it in the mesh before. Otherwise they would be
// waited for, as for any that may come back.
func depose(ctx context.Context, s store.Store) error {
	list, err := s.List(ctx, members.LeaderPrefix)
	if err != nil {
		return err
	}
	var t store.Txn
	for _, e := range list.Entries {
		if e.Key != members.LeaderPrefix+s.Host() {
			t.Ops = append(t.Ops, store.Delete(e.Key))
		}
	}
	if len(t.Ops) == 0 {
		return nil
	}
	_, err = s.Write(ctx, t)
	return err
}

func restore(dir, snapshot string, s mesh.Settings, log *slog.Logger) error {
	id, err := identity.Open(filepath.Join(dir, "identity"))
	if err != nil {
		return err
	}
	o := server.Options{Name: s.Name(), Dir: filepath.Join(dir, "server"), Log: log}
	if o.PeerURLs = urls(id.Secured(), s.ServerURLs); len(o.PeerURLs) == 0 {
		if o.PeerURLs, err = lastPeerURLs(dir); err != nil {
			return err
		}
	}
	o.AdvertisePeerURLs = urls(id.Secured(), s.AdvertiseServerURLs)
	if f, ok := id.ServerTLS(); ok {
		o.TLS = server.TLS{
			CertFile: f.Cert, KeyFile: f.Cert, CAFile: f.CA,
			PeerCertFile: f.Cert, PeerKeyFile: f.Cert, PeerCAFile: f.CA,
			ServerName: f.Name, CRLFile: f.CRL,
		}
	}
	_, err = server.Restore(snapshot, o)
	if err == nil {
		log.Warn("the mesh begins anew on this host", "snapshot", snapshot, "why", "mgmt mesh recover has asked for it")
	}
	return err
}

// lastPeerURLs are where the server of this host has listened for others.
func lastPeerURLs(dir string) ([]string, error) {
	var notes struct {
		PeerURLs []string `json:"peer_urls"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "peer.json"))
	if err == nil {
		err = json.Unmarshal(text, &notes)
	}
	return notes.PeerURLs, err
}

// holder is the process that has the lock of a file, 0 if none has.
func holder(path string) (pid int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err == nil {
		return 0, nil // which ends with the file
	} else if !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, fmt.Errorf("looking who has locked %s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return locker(info.Sys().(*syscall.Stat_t))
}

// locker finds the process that has locked a file, in the list of proc_locks(5).
func locker(file *syscall.Stat_t) (int, error) {
	list, err := os.Open("/proc/locks")
	if err != nil {
		return 0, err
	}
	defer list.Close()
	want := fmt.Sprintf("%02x:%02x:%d", unix.Major(file.Dev), unix.Minor(file.Dev), file.Ino)
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		// 1: FLOCK  ADVISORY  WRITE 4711 fd:01:123456 0 EOF
		fields := strings.Fields(lines.Text())
		if len(fields) > 5 && fields[1] == "FLOCK" && fields[5] == want {
			return strconv.Atoi(fields[4])
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, errors.New("a peer runs, but it can't be found out which process that is; stop mgmt run, and begin again")
}

// kill ends a process without a word: a peer that can't reach its mesh could take no leave.
func kill(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending the peer (pid %d): %w", pid, err)
	}
	return nil
}
