package inotify

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A cause is why something is polled.
type cause struct {
	key    string // causes with the same key are logged once
	reason string
	mend   string // what would help, "" if nothing does
	fs     string // the filesystem that does not report
}

// silent is the cause of a filesystem that does not report every change.
func silent(kind string) *cause {
	reason := kind + " does not report changes that are made on other hosts"
	if generated(kind) {
		reason = kind + " does not report changes that the kernel makes"
	}
	return &cause{key: "fs " + kind, reason: reason, fs: kind}
}

// refused is the cause of an error of inotify_add_watch(2).
func refused(path string, err error) *cause {
	switch {
	case errors.Is(err, unix.ENOSPC):
		return &cause{
			key:    "watches",
			reason: "the limit of inotify watches is reached",
			mend:   raise("fs.inotify.max_user_watches"),
		}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return &cause{
			key:    "read " + path,
			reason: "no permission to read " + path,
			mend:   "grant it, or run as root",
		}
	}
	return &cause{key: err.Error(), reason: err.Error()}
}

// noInstance is the cause of an error of inotify_init1(2).
func noInstance(err error) *cause {
	c := &cause{key: "instances", reason: "no inotify instance: " + err.Error()}
	if errors.Is(err, unix.EMFILE) {
		if fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0); errors.Is(err, unix.EMFILE) {
			c.reason = "the limit of open files of this process is reached"
			c.mend = "ulimit -n"
			return c
		} else if err == nil {
			_ = unix.Close(fd)
		}
		c.reason = "the limit of inotify instances is reached"
		c.mend = raise("fs.inotify.max_user_instances")
	}
	return c
}

// raise is the command that doubles a limit.
func raise(name string) string {
	value := "…"
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			value = strconv.Itoa(max(2*n, 128))
		}
	}
	return fmt.Sprintf("sysctl %s=%s", name, value)
}

// silentFS are the filesystems on which something can change without this kernel's file
// system calls, by the numbers of statfs(2).
var silentFS = map[int64]string{
	0x6969:     "nfs",
	0x517b:     "smb",
	0xff534d42: "cifs",
	0xfe534d42: "smb2",
	0x01021997: "9p",
	0x65735546: "fuse",
	0x5346414f: "afs",
	0x6b414653: "afs",
	0x00c36400: "ceph",
	0x73757245: "coda",
	0x01161970: "gfs2",
	0x7461636f: "ocfs2",
	0x0bd00bd0: "lustre",
	0x47504653: "gpfs",
	0x20030528: "orangefs",
	0x786f4256: "vboxsf",
	0xbacbacbc: "vmhgfs",
	0x9fa0:     "proc",
	0x62656572: "sysfs",
	0x64626720: "debugfs",
	0x74726163: "tracefs",
	0x73636673: "securityfs",
	0x62656570: "configfs",
	0x27e0eb:   "cgroup",
	0x63677270: "cgroup2",
	0xcafe4a11: "bpf",
}

// generated says that the kernel makes up the files of such a filesystem when they are
// read, so that their size and times mean nothing.
func generated(kind string) bool {
	switch kind {
	case "proc", "sysfs", "debugfs", "tracefs", "securityfs", "configfs", "cgroup", "cgroup2", "bpf":
		return true
	}
	return false
}

// specialFS returns the kind of filesystem of path, on device dev, if it does not
// report every change, and otherwise "".
func (s *Source) specialFS(path string, dev uint64) string {
	kind, known := s.special[dev]
	if !known {
		var st unix.Statfs_t
		if unix.Statfs(path, &st) != nil {
			return ""
		}
		kind = silentFS[int64(uint32(st.Type))]
		s.special[dev] = kind
	}
	return kind
}
