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
func Files(paths ...string) func() (string, error) { return each(fingerprint, paths) }

// each returns a State that has a line of each path and of what is in it.
func each(tell func(path string) (string, error), paths []string) func() (string, error) {
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
				line, err := tell(path)
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

// Contents returns a State that tells what is at the paths and, for a directory, in it: kind,
// mode, owner, link target and content, but neither inodes nor times.
func Contents(paths ...string) func() (string, error) { return each(content, paths) }

func content(path string) (string, error) {
	st, content, err := look(path)
	return fmt.Sprintf("mode %o owner %d:%d %s", st.Mode, st.Uid, st.Gid, content), err
}

func fingerprint(path string) (string, error) {
	st, content, err := look(path)
	return fmt.Sprintf("inode %d mode %o owner %d:%d size %d modified %d.%09d changed %d.%09d %s", st.Ino, st.Mode, st.Uid, st.Gid, st.Size,
		st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec, content), err
}

// look describes what is at path, a link's target or the hash of a content included.
func look(path string) (st unix.Stat_t, content string, err error) {
	if err := unix.Lstat(path, &st); err != nil {
		return st, "", err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		return st, fmt.Sprintf("%x", sha256.Sum256(b)), err
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		return st, target, err
	}
	return st, "", nil
}
