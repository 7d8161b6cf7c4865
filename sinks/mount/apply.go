package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mgmtproject/mgmt/sources/command/process"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// edit sees to fstab. A systemd makes units of it, and is told that they have changed.
func (m *mount) edit(ctx context.Context, now *found) (acted bool, err error) {
	if m.entry == either || m.entry == no && !now.listed || m.entry == yes && !now.stale {
		return false, nil
	}
	if err := m.rewrite(ctx); err != nil {
		return false, err
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return true, nil
	}
	if err := bus.System().DaemonReload(ctx); err != nil {
		return true, fmt.Errorf("having systemd read %s again: %w", fstab, err)
	}
	return true, nil
}

// mend sees to what is mounted.
func (m *mount) mend(ctx context.Context, now *found) (acted bool, err error) {
	if m.live == no && now.mounted || m.live == yes && now.remake {
		if err := m.unmount(ctx); err != nil {
			return false, err
		}
		acted = true
	}
	switch {
	case m.live != yes:
		return acted, nil
	case !now.mounted || now.remake:
		if err := m.makePoint(); err != nil {
			return acted, err
		}
		err = m.run(ctx, m.is.options)
	case len(now.wrong) > 0 || now.others:
		err = m.run(ctx, "remount,"+m.is.options)
	default:
		return false, nil
	}
	if err != nil {
		return acted, err
	}
	return true, m.verify()
}

// verify looks whether what mount(8) has done is what was asked for.
func (m *mount) verify() error {
	all, info, err := m.at()
	if err != nil {
		return err
	}
	if info == nil {
		return fmt.Errorf("mount said that it has mounted %s on %s, but nothing is mounted there", m.is.device, m.path)
	}
	if wrong, _ := m.compare(all, info); len(wrong) > 0 {
		return fmt.Errorf("mount said that it has mounted %s on %s, but the kernel still has another %s: %q, and not %q", m.is.device, m.path, wrong[0].Field, wrong[0].From, wrong[0].To)
	}
	return nil
}

// makePoint makes the mount point if it is missing: a file to show a file.
func (m *mount) makePoint() error {
	if _, err := os.Stat(m.path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	st, err := os.Stat(m.is.device)
	if err != nil || !m.bind() || st.IsDir() {
		return os.MkdirAll(m.path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(m.path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(m.path, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// at most so many programs that mount run at once.
var running = make(chan struct{}, 32)

// run runs mount(8), which knows the tags of devices and the helpers of file systems. For
// a remount it is given the device as well, or it would add the options of fstab.
func (m *mount) run(ctx context.Context, options string) error {
	args := []string{"-o", options}
	if !m.bind() && m.is.kind != "auto" {
		args = append(args, "-t", m.is.kind)
	}
	return call(ctx, "mount", append(args, "--", m.is.device, m.path)...)
}

// unmount unmounts all that is mounted at the mount point.
func (m *mount) unmount(ctx context.Context) error {
	const most = 100 // on top of each other
	for range most {
		_, info, err := m.at()
		if err != nil || info == nil {
			return err
		}
		if err := call(ctx, "umount", "--", info.Mountpoint); err != nil {
			return err
		}
	}
	return fmt.Errorf("there are more than %d mounts on %s: somebody else seems to mount there", most, m.path)
}

// call runs a program of util-linux. Its words say what is wrong.
func call(ctx context.Context, program string, args ...string) error {
	select {
	case running <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-running }()
	result, err := process.Run(ctx, process.Command{Cmd: program, Args: args, Env: map[string]string{"LC_ALL": "C"}}, 0)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ended := errors.AsType[*process.ExitError](err); !ended {
		return fmt.Errorf("%w: the Debian package mount brings it", err)
	}
	said := strings.Join(strings.Fields(strings.ReplaceAll(result.Stderr, "dmesg(1) may have more information after failed mount system call.", "")), " ")
	if said == "" {
		return err
	}
	return fmt.Errorf("%s (status %d)", strings.TrimSuffix(said, "."), result.Status)
}
