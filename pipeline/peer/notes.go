package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/pipeline/peer/internal/files"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
)

const notesFile = "peer.json"

// remembered is what a host keeps of its mesh, so that it finds it again by itself.
type remembered struct {
	// Instance tells this directory from any other.
	Instance string `json:"instance"`

	// Mesh is its identity, and Servers where its servers were last.
	Mesh    members.Mesh    `json:"mesh"`
	Servers members.Servers `json:"servers"`

	// Seeds have led to it.
	Seeds []string `json:"seeds,omitempty"`

	// ClientURLs and PeerURLs are where the server of this host listens if nobody says
	// where: others know it by them.
	ClientURLs []string `json:"client_urls,omitempty"`
	PeerURLs   []string `json:"peer_urls,omitempty"`
}

// notes are what is remembered, in a file.
type notes struct {
	path string
	mu   sync.Mutex
	have remembered
}

// readNotes reads what is remembered. A file that can't be understood is set aside.
func readNotes(path string, log *slog.Logger) (*notes, error) {
	n := &notes{path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &n.have); err != nil {
		n.have = remembered{}
		aside := path + ".broken"
		log.Warn("notes of the mesh can't be read, and are set aside", "path", aside, "err", err)
		return n, os.Rename(path, aside)
	}
	return n, nil
}

// get returns what is remembered, which is not to be changed.
func (n *notes) get() remembered {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.have
}

// change changes what is remembered, and keeps it if it is new.
func (n *notes) change(how func(*remembered)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := n.have
	how(&next)
	if reflect.DeepEqual(next, n.have) {
		return nil
	}
	text, err := json.MarshalIndent(next, "", "  ")
	if err == nil {
		err = files.Replace(n.path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping what is known of the mesh: %w", err)
	}
	n.have = next
	return nil
}

// lock sees to it that one peer alone has dir, which it makes.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another process is in the mesh with %s: give each its own --hostname", dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // it was only held
}
