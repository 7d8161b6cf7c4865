package sinktest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Files returns a State that tells everything about the paths and, for a directory, what
// is in it: inode, kind, mode, owner, times of change, link target and content. Access
// times are not part of it, since taking the fingerprint changes them.
func Files(paths ...string) func() (string, error) {
	return func() (string, error) {
		var b strings.Builder
		for _, root := range paths {
			err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					fmt.Fprintf(&b, "%s: absent\n", path)
					return nil
				}
				if err != nil {
					return err
				}
				line, err := fingerprint(path)
				fmt.Fprintf(&b, "%s: %s\n", path, line)
				return err
			})
			if err != nil {
				return "", err
			}
		}
		return b.String(), nil
	}
}

func fingerprint(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	content := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		content = fmt.Sprintf("%x", sha256.Sum256(b))
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		content = target
	}
	return fmt.Sprintf("inode %d mode %o owner %d:%d size %d modified %d.%09d changed %d.%09d %s", st.Ino, st.Mode, st.Uid, st.Gid, st.Size,
		st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec, content), nil
}
