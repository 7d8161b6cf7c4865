package peer

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
)

// Reach says how the mesh of a host can be reached from another process on it: who the host
// is, and the URLs of servers that were there last. dir is what the Dir of its Options is.
func Reach(dir string) (*identity.Identity, []string, error) {
	n, err := readNotes(filepath.Join(dir, notesFile), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	last := n.get()
	if last.Mesh.ID == "" {
		return nil, nil, fmt.Errorf("%s knows no mesh: %w", dir, fs.ErrNotExist)
	}
	id, err := identity.Open(filepath.Join(dir, "identity"))
	if err != nil {
		return nil, nil, err
	}
	urls := slices.Concat(last.Servers.URLs(), last.Seeds, withScheme(id.Seeds(), id.Secured()))
	if len(urls) == 0 {
		return nil, nil, errors.New("this host doesn't know where the servers of its mesh are")
	}
	return id, urls, nil
}
