package instance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// PrefixVariable is the variable of the environment that stands for --prefix.
const PrefixVariable = "MGMT_PREFIX"

// Prefix returns the directory below which runs keep what survives them, and whether
// somebody has asked for that one: by the value of a flag, if it isn't empty, or in the
// environment.
func Prefix(flag string) (prefix string, asked bool, err error) {
	if flag != "" {
		return flag, true, nil
	}
	if dir := os.Getenv(PrefixVariable); dir != "" {
		return dir, true, nil
	}
	dir, err := defaultPrefix()
	return dir, false, err
}

func defaultPrefix() (string, error) {
	// systemd.exec(5): what StateDirectory= has made, absolute, and more after a colon.
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); filepath.IsAbs(dir) {
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/mgmt", nil
	}
	// The XDG Base Directory Specification: a path that is not absolute is ignored.
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mgmt"), nil
	}
	if dir := os.Getenv("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".local/state/mgmt"), nil
	}
	return "", errors.New("neither XDG_STATE_HOME nor HOME says where the state directory is")
}
