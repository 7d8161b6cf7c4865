package inotify

import (
	"errors"
	"os"
	"slices"
	"time"

	"github.com/mgmtproject/mgmt/sources/mounts/table"
)

// watchMounts starts to wait for changes of the mount table. The kernel ends watches
// when a filesystem is unmounted, which fsnotify keeps to itself, and says nothing when
// something is mounted over a directory. Without /proc nothing can be done.
func (s *Source) watchMounts() {
	k := s.k
	t, err := table.Open()
	if err != nil {
		s.log.Debug("mounts will not be noticed", "err", err)
		return
	}
	k.table = t
	s.mounts = k.readMounts()
	k.wg.Go(func() {
		err := t.Wait(func() bool {
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
		if err != nil && !errors.Is(err, os.ErrClosed) {
			s.log.Debug("mounts will not be noticed", "err", err)
		}
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
func (k *kernel) remounted() bool { return k.table != nil && k.table.Changed() }

// remounted renews what lies at and below mount points that have changed, and what the
// kernel has stopped to watch. The queue has been read beyond the time of the mount, so
// that fsnotify knows what has stopped.
func (s *Source) remounted() {
	start := time.Now()
	defer func() { s.k.took = time.Since(start) }()
	clear(s.special)
	old := s.mounts
	s.mounts = s.k.readMounts()
	for _, point := range table.Differing(old, s.mounts) {
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

// readMounts returns what is mounted, as a checksum by mount point: as much of it as can be
// read.
func (k *kernel) readMounts() map[string]uint64 {
	points, _ := k.table.Points()
	return points
}
