package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// rootDir is where the root of a host is mounted, in a mount namespace that is its own.
const rootDir = "/run/root"

// netFile is where its network namespace is then, if it is given one.
const netFile = "/run/net"

// target is what a host boots: far less than the default target, which starts all that
// is installed.
const target = "mgmt-testhost.target"

const targetUnit = `[Unit]
Description=A host for tests
Requires=basic.target
Wants=dbus.service systemd-logind.service
After=basic.target dbus.service systemd-logind.service
AllowIsolate=yes
`

// prepare gives the calling thread a mount namespace, and in it a /run of its own: for
// the root of the host, and for what nspawn leaves there.
func prepare(opts Options, netns *os.File) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	// A slave and not private: what is unmounted outside is not kept busy by us.
	if err := mount("none", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if err := mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, dir := range []string{rootDir, "/run/upper", "/run/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	lower := strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace(opts.Base)
	if err := mount("overlay", rootDir, "overlay", 0, "lowerdir="+lower+",upperdir=/run/upper,workdir=/run/work"); err != nil {
		return err
	}
	if netns != nil {
		if err := os.WriteFile(netFile, nil, 0o600); err != nil {
			return err
		}
		if err := mount(fmt.Sprintf("/proc/self/fd/%d", netns.Fd()), netFile, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return furnish(opts.Name)
}

// furnish makes another machine of the copy, one that starts little.
func furnish(name string) error {
	remove := []string{filepath.Join(rootDir, "usr/sbin/policy-rc.d")}
	for _, pattern := range []string{"*.wants", "*.requires"} {
		dirs, err := filepath.Glob(filepath.Join(rootDir, "etc/systemd/system", pattern))
		if err != nil {
			return err
		}
		remove = append(remove, dirs...)
	}
	for _, path := range remove {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	for path, text := range map[string]string{
		"etc/machine-id":               random() + "\n",
		"etc/hostname":                 name + "\n",
		"etc/fstab":                    "",
		"etc/systemd/system/" + target: targetUnit,
	} {
		path = filepath.Join(rootDir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		// Away with it first: it may be a symbolic link, or read-only.
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", source, target, err)
	}
	return nil
}
