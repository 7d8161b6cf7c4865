package identity

import (
	"fmt"
	"os"
)

// readKey reads a file that holds a secret, and fails if others may read it too.
func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, so others may know the key in it: if nobody does, chmod 600 it, otherwise begin anew without it", path, mode)
	}
	return os.ReadFile(path)
}
