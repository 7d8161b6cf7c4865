package inotify

import (
	"bytes"
	"errors"
	"hash/maphash"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const mountTable = "/proc/self/mountinfo"

// watchMounts starts to wait for changes of the mount table. The kernel ends watches
// when a filesystem is unmounted, which fsnotify keeps to itself, and says nothing when
// something is mounted over a directory. Without /proc nothing can be done.
func (s *Source) watchMounts() {
	k := s.k
	f, err := os.Open(mountTable)
	if err != nil {
		s.log.Debug("mounts will not be noticed", "err", err)
		return
	}
	conn, err := f.SyscallConn()
	if err == nil {
		k.table, err = unix.Open(mountTable, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		_ = f.Close()
		s.log.Debug("mounts will not be noticed", "err", err)
		return
	}
	k.mounts = f
	s.mounts = k.readMounts()
	k.wg.Go(func() {
		// One call for good, because what wakes Go's poller between two is forgotten.
		_ = conn.Read(func(uintptr) bool {
			s.mu.Lock()
			if s.k != k || !k.remounted() {
				s.mu.Unlock()
				return false
			}
			b := s.mark(true)
			s.mu.Unlock()
			select {
			case <-b.done:
			case <-k.stop:
				return true
			}
			s.mu.Lock()
			took := k.took
			s.mu.Unlock()
			return !k.pause(10 * took)
		})
	})
}

// pause waits, so that a storm of mounts costs a bounded share of the time.
func (k *kernel) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-k.stop:
		return false
	}
}

// remounted says whether the mount table has changed since it was last asked.
func (k *kernel) remounted() bool {
	if k.table < 0 {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(k.table), Events: unix.POLLPRI}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// remounted renews what lies at and below mount points that have changed, and what the
// kernel has stopped to watch. The queue has been read beyond the time of the mount, so
// that fsnotify knows what has stopped.
func (s *Source) remounted() {
	start := time.Now()
	defer func() { s.k.took = time.Since(start) }()
	clear(s.special)
	old := s.mounts
	s.mounts = s.k.readMounts()
	var points []string
	for point, sum := range s.mounts {
		if old[point] != sum {
			points = append(points, point)
		}
	}
	for point := range old {
		if _, still := s.mounts[point]; !still {
			points = append(points, point)
		}
	}
	for _, point := range points {
		if e := s.entries[point]; e != nil {
			s.changed(e, "mount")
		}
	}
	if s.k.fs == nil {
		return
	}
	alive := make(map[string]bool)
	for _, path := range s.k.fs.WatchList() {
		alive[path] = true
	}
	var dead []*entry
	for _, same := range s.inodes {
		if !slices.ContainsFunc(same, func(e *entry) bool { return alive[e.key] }) {
			dead = append(dead, same...)
		}
	}
	for _, e := range dead {
		if s.entries[e.key] == e && e.w != nil {
			s.changed(e, "mount")
		}
	}
}

// readMounts returns what is mounted, as a checksum of its lines by mount point. The
// format is described in proc_pid_mountinfo(5).
func (k *kernel) readMounts() map[string]uint64 {
	var table []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Pread(k.table, buf, int64(len(table)))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			break
		}
		table = append(table, buf[:n]...)
	}
	mounts := make(map[string]uint64)
	for line := range bytes.Lines(table) {
		fields := bytes.SplitN(line, []byte(" "), 6)
		if len(fields) == 6 {
			point := unescape(string(fields[4]))
			mounts[point] = mounts[point]*31 + maphash.Bytes(seed, line)
		}
	}
	return mounts
}

// unescape replaces \040 and the like, which stand for blanks and backslashes.
func unescape(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out = append(out, byte(c))
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}
