package host

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stateDir has a file for each host, which lists its control groups. Who owns the host
// holds a lock on it, which the kernel lets go of when the owner dies.
const stateDir = "/run/mgmt-testhost"

// remains is what the kernel does not clean up by itself when a host dies.
type remains struct {
	id      string
	file    *os.File
	cgroups []string // a folder in each hierarchy
}

// newRemains makes the control groups of a host, which are noted first.
func newRemains() (*remains, error) {
	parents, err := ownCgroups()
	if err != nil {
		return nil, err
	}
	r := &remains{id: random()[:12]}
	for _, p := range parents {
		r.cgroups = append(r.cgroups, filepath.Join(p, "mgmt-testhost-"+r.id))
	}
	if r.file, err = note(filepath.Join(stateDir, r.id)); err != nil {
		return nil, err
	}
	if _, err := r.file.WriteString(strings.Join(r.cgroups, "\n") + "\n"); err != nil {
		return nil, errors.Join(err, r.remove())
	}
	if err := r.renew(); err != nil {
		return nil, errors.Join(err, r.remove())
	}
	return r, nil
}

// renew makes the control groups, anew if they are there.
func (r *remains) renew() error {
	for _, dir := range r.cgroups {
		if err := removeCgroup(dir); err != nil {
			return err
		}
		if err := makeCgroup(dir); err != nil {
			return err
		}
	}
	return nil
}

// note opens the file path, which did not exist, and locks it.
func note(path string) (*os.File, error) {
	for {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // somebody has just removed the empty folder
		}
		if err != nil {
			return nil, err
		}
		if lock(f) {
			return f, nil
		}
		f.Close() // somebody sweeps, and took it for an old one
	}
}

// lock locks f, unless somebody else has, or has removed it.
func lock(f *os.File) bool {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(f.Name())
	return err == nil && os.SameFile(mine, there)
}

// remove removes the control groups, the file, and the folder if it was the last one.
func (r *remains) remove() error {
	var err error
	for _, dir := range r.cgroups {
		err = errors.Join(err, removeCgroup(dir))
	}
	if err == nil {
		err = os.Remove(r.file.Name())
	}
	r.file.Close()
	_ = os.Remove(stateDir) // has more in it, mostly
	return err
}

// sweep removes what hosts left whose owners were killed.
func sweep() {
	files, _ := os.ReadDir(stateDir)
	for _, entry := range files {
		f, err := os.OpenFile(filepath.Join(stateDir, entry.Name()), os.O_RDWR, 0)
		if err != nil {
			continue // it ended just now
		}
		if !lock(f) {
			f.Close()
			continue
		}
		r := &remains{file: f}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if strings.HasSuffix(lines.Text(), "mgmt-testhost-"+entry.Name()) {
				r.cgroups = append(r.cgroups, lines.Text())
			}
		}
		_ = r.remove() // what resists is tried again at the next boot
	}
}

// ownCgroups lists the folder of our control group in each hierarchy that is mounted,
// as proc_pid_cgroup(5) and proc_pid_mountinfo(5) say.
func ownCgroups() ([]string, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	dirs := cgroupDirs(string(groups), string(mounts))
	if len(dirs) == 0 {
		return nil, errors.New("no control groups are mounted")
	}
	return dirs, nil
}

func cgroupDirs(groups, mounts string) []string {
	var dirs []string
	for line := range strings.Lines(groups) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		controllers, path := parts[1], parts[2]
		for m := range strings.Lines(mounts) {
			before, after, _ := strings.Cut(m, " - ")
			fields, super := strings.Fields(before), strings.Fields(after)
			if len(fields) < 5 || len(super) < 3 || !hierarchy(controllers, super[0], super[2]) {
				continue
			}
			rel, err := filepath.Rel(fields[3], path)
			if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
				continue // mounted from a group that ours is not below
			}
			if dir := filepath.Join(fields[4], rel); !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
			break
		}
	}
	return dirs
}

// hierarchy tells whether a mount is the hierarchy with these controllers.
func hierarchy(controllers, fstype, options string) bool {
	if controllers == "" {
		return fstype == "cgroup2"
	}
	if fstype != "cgroup" {
		return false
	}
	have := strings.Split(options, ",")
	for c := range strings.SplitSeq(controllers, ",") {
		if !slices.Contains(have, c) {
			return false
		}
	}
	return true
}

// makeCgroup makes a control group. In the old cpuset hierarchy it has no processors
// and no memory until it is given some, and nothing can run in it.
func makeCgroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.TrimSpace(string(have)) != "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.type")); err == nil {
			continue // the new hierarchy: empty means all
		}
		all, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), all, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeCgroup removes a control group with all below it. What still runs in it is
// killed: that is what is left when the owner of a host was killed.
func removeCgroup(dir string) error {
	for deadline := time.Now().Add(5 * time.Second); ; {
		err := removeTree(dir)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		// A dead process counts until it has been waited for, and nothing tells of that
		// in the old hierarchies.
		<-time.After(2 * time.Millisecond)
	}
}

func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // what went away meanwhile
	})
	if err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) { // the deepest first
		err := unix.Rmdir(d)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			killAll(d)
			return fmt.Errorf("removing the control group %s: %w", d, err)
		}
	}
	return nil
}

func killAll(dir string) {
	procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for line := range strings.Lines(string(procs)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may just have ended
		}
	}
}
