package password

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// errHomeless says that there is no place for a password without a path.
var errHomeless = errors.New("there is no directory for what has to survive a restart: give path, or a prefix to mgmt")

// homePath is where the password of a resource is kept if no path is given, in a directory
// of this kind below that for all.
func homePath(dir, name string) string {
	return filepath.Join(dir, "password", fileName(name))
}

// fileName makes the name of a file of that of a resource: itself if it is a simple one,
// otherwise something like it, and a checksum that no simple one holds.
func fileName(name string) string {
	const most = 100
	simple := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '_'
	}, name)
	if simple == name && len(name) <= most && name[0] != '.' {
		return name
	}
	simple = strings.TrimLeft(simple[:min(len(simple), most)], ".")
	return fmt.Sprintf("%s~%.8x", simple, sha256.Sum256([]byte(name)))
}

// makeHome makes the directory for nobody but us. It is there after a power cut, as what
// is put into it.
func makeHome(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	above, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer above.Close()
	return above.Sync()
}
