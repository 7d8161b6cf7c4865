package sysctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// read returns the value in force.
func (r *sysctl) read() (string, error) {
	text, err := os.ReadFile(root + r.key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, proc := os.Stat(root); proc != nil {
			return "", fmt.Errorf("%s is missing: mount proc on /proc: %w", root, err)
		}
		return "", fmt.Errorf("this kernel has no parameter %s: check its name, load the module or make the interface that brings it: %w", r.name, err)
	case errors.Is(err, unix.EISDIR):
		return "", fmt.Errorf("%s is not one parameter but a directory of them: %w", r.name, err)
	case errors.Is(err, fs.ErrPermission):
		if st, stat := os.Stat(root + r.key); stat == nil && st.Mode().Perm()&0o444 == 0 {
			return "", fmt.Errorf("%s can't be read, since it does something when it is written and has no value: use exec: %w", r.name, err)
		}
	}
	if err != nil {
		return "", err
	}
	return plain(string(text)), nil
}

// write puts the value into force, by one write, which is what the kernel wants.
func (r *sysctl) write() error {
	f, err := os.OpenFile(root+r.key, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(r.value + "\n")
		err = errors.Join(err, f.Close())
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s is read-only here, as in most containers: set %s on the host: %w", root, r.name, err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return fmt.Errorf("the kernel refuses the value %q: %w", r.value, err)
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		return fmt.Errorf("only root may set it: %w", err)
	}
	return err
}
