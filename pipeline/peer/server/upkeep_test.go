package server_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

// forgotten tells whether the store doesn't know any more what it was at a revision.
func forgotten(t *testing.T, s *server.Server, revision int64) error {
	t.Helper()
	_, err := s.Client().Get(s.Root(t.Context()), "x", clientv3.WithRev(revision))
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil
	}
	return fmt.Errorf("it is still known: %v", err)
}

func TestTheMeshForgetsWhatIsOlderThanItHasToKnow(t *testing.T) {
	for _, c := range []struct {
		name   string
		upkeep server.Upkeep
	}{
		{"by age", server.Upkeep{Every: 20 * time.Millisecond, KeepAge: 100 * time.Millisecond}},
		{"by the number of revisions", server.Upkeep{Every: 20 * time.Millisecond, KeepRevisions: 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, server.Options{Name: "a", Upkeep: c.upkeep})
			first := put(t, s, "x", "first")
			for range 10 {
				put(t, s, "x", "last")
			}
			until(t, "the first revision is forgotten", func() error { return forgotten(t, s, first) })
			if got := get(t, s, "x"); got != "last" {
				t.Errorf("x is %q, expected last", got)
			}
		})
	}
}

func TestWhatHasToBeKnownIsNotForgotten(t *testing.T) {
	s := start(t, server.Options{Name: "a", Upkeep: server.Upkeep{
		Every: time.Millisecond, KeepAge: time.Hour, KeepRevisions: 1000,
	}})
	first := put(t, s, "x", "first")
	for range 100 {
		put(t, s, "x", "last")
	}
	if forgotten(t, s, first) == nil {
		t.Error("what is an instant old is forgotten")
	}
}

// fill writes about so many bytes, in values of 100 kB of which n are kept.
func fill(t *testing.T, s *server.Server, bytes, n int) error {
	t.Helper()
	value := strings.Repeat("0123456789", 10_000)
	for i := range bytes / len(value) {
		_, err := s.Client().Put(s.Root(t.Context()), fmt.Sprint("fill/", i%n), value)
		if err != nil {
			return err
		}
	}
	return nil
}

func TestADatabaseThatIsMostlyIdleIsMadeSmallerByOneServerAfterTheOther(t *testing.T) {
	log := &records{}
	a, b, c := three(t, server.Options{Log: log.logger(slog.LevelInfo), Upkeep: server.Upkeep{
		Every: 100 * time.Millisecond, KeepAge: 2 * time.Second, Waste: 2 << 20,
	}})
	if err := fill(t, a, 6<<20, 5); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*server.Server{a, b, c} {
		until(t, "the database is small", func() error {
			put(t, a, "x", "y") // only with what is written next does it show what lies idle
			status, err := s.Client().Status(t.Context(), "")
			if err == nil && status.DbSize > 4<<20 {
				err = fmt.Errorf("it has %d bytes, of which %d are in use", status.DbSize, status.DbSizeInUse)
			}
			return err
		})
	}
	until(t, "one of them says that it was made smaller", func() error {
		put(t, b, "x", "y")
		if log.find("the database is smaller now") == "" {
			return errors.New("none does")
		}
		return nil
	})
	log.await(t, "level=INFO", "the database is smaller now", "before=", "after=", "took=")
	if l := log.find("level=ERROR"); l != "" {
		t.Error(l)
	}
}

func TestAMeshWhoseQuotaIsUsedUpMakesRoomAndGoesOn(t *testing.T) {
	log := &records{}
	a, b, _ := three(t, server.Options{Quota: 4 << 20, Log: log.logger(slog.LevelInfo), Upkeep: server.Upkeep{
		Every: 200 * time.Millisecond,
	}})
	if err := fill(t, a, 20<<20, 5); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("filling it ended with %v, expected %v", err, rpctypes.ErrNoSpace)
	}
	until(t, "the mesh takes something again", func() error {
		_, err := b.Client().Put(t.Context(), "x", "y")
		return err
	})
	t.Log(log.await(t, "level=WARN", "the quota of the mesh is used up", "quota=\"4.0 MiB\""))
	t.Log(log.await(t, "level=INFO", "the mesh takes what is written again"))
}

func TestUpkeepGoesOnWhenOnlyThoseWithANameAreLetIn(t *testing.T) {
	log := &records{}
	s := start(t, server.Options{Name: "a", Quota: 4 << 20, Log: log.logger(slog.LevelInfo), Upkeep: server.Upkeep{
		Every: 50 * time.Millisecond, KeepAge: 10 * time.Second, Waste: 1 << 20, // longer than it takes to fill it
	}})
	protect(t, s)
	if err := fill(t, s, 20<<20, 5); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Fatalf("filling it ended with %v, expected %v", err, rpctypes.ErrNoSpace)
	}
	log.await(t, "the mesh takes what is written again")
	if err := fill(t, s, 2<<20, 5); err != nil {
		t.Fatal(err)
	}
	until(t, "the database is made smaller once more, under a lock", func() error {
		put(t, s, "x", "y")
		if n := log.count("the database is smaller now"); n < 2 {
			return fmt.Errorf("it was %d times", n)
		}
		return nil
	})
	if l := log.find("the upkeep of the server failed"); l != "" {
		t.Error(l)
	}
}

func TestAMeshThatHoldsTooMuchSaysSoOnceAndGoesOnWhenThereIsLess(t *testing.T) {
	log := &records{}
	s := start(t, server.Options{Name: "a", Quota: 2 << 20, Log: log.logger(slog.LevelInfo), Upkeep: server.Upkeep{
		Every: 50 * time.Millisecond,
	}})
	until(t, "the mesh is too full", func() error {
		if err := fill(t, s, 20<<20, 1000); !errors.Is(err, rpctypes.ErrNoSpace) {
			return fmt.Errorf("filling it ended with %w", err)
		}
		if log.find("level=ERROR", "the mesh holds too much to take more", `quota="2.0 MiB"`) == "" {
			return errors.New("it doesn't say so")
		}
		return nil
	})
	if _, err := s.Client().Delete(t.Context(), "fill/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	until(t, "the mesh takes something again", func() error {
		_, err := s.Client().Put(t.Context(), "x", "y")
		return err
	})
	if n := log.count("holds too much"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

func TestASlowDiskIsWarnedOfWithTheFigure(t *testing.T) {
	log := &records{}
	s := start(t, server.Options{Name: "a", Log: log.logger(slog.LevelWarn), Upkeep: server.Upkeep{
		Every: 20 * time.Millisecond, SlowSync: time.Nanosecond,
	}})
	for i := range 300 {
		put(t, s, "x", fmt.Sprint(i))
	}
	t.Log(log.await(t, "level=WARN", "the disk of the server is slow", "fsync_p99=", "limit=1ns", "writes="))
}

func TestAFastDiskIsNotWarnedOf(t *testing.T) {
	log := &records{}
	s := start(t, server.Options{Name: "a", Log: log.logger(slog.LevelWarn), Upkeep: server.Upkeep{
		Every: 10 * time.Millisecond, SlowSync: time.Hour,
	}})
	for i := range 300 {
		put(t, s, "x", fmt.Sprint(i))
	}
	stop(t, s)
	if l := log.find("slow"); l != "" {
		t.Error(l)
	}
}

func TestAServerDoesNotStartOnADiskThatIsNearlyFull(t *testing.T) {
	_, err := server.Start(t.Context(), server.Options{
		Name: "a", Dir: tempDir(t), Upkeep: server.Upkeep{Room: 1 << 60},
	})
	if !errors.Is(err, server.ErrFull) || !strings.Contains(err.Error(), "a server needs") {
		t.Errorf("got %v, expected %v", err, server.ErrFull)
	}
}

// smallDisk mounts a file system in memory of so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it mounts a small file system")
	}
	dir := tempDir(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// clutter fills the disk that dir is on, but for so many bytes.
func clutter(t *testing.T, dir string, left int64) {
	t.Helper()
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	rest := int64(disk.Bavail)*disk.Bsize - left
	err := os.WriteFile(filepath.Join(dir, "clutter"), make([]byte, max(0, rest)), 0o600)
	if err != nil && !errors.Is(err, unix.ENOSPC) { // a server may have been faster
		t.Fatal(err)
	}
}

func TestAServerStopsInOrderBeforeItsDiskIsFull(t *testing.T) {
	disk := smallDisk(t, 160<<20)
	s := start(t, server.Options{Name: "a", Dir: filepath.Join(disk, "a"), Upkeep: server.Upkeep{
		Every: 20 * time.Millisecond, Room: 8 << 20,
	}})
	put(t, s, "x", "y")
	clutter(t, disk, 4<<20)
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	if !errors.Is(s.Err(), server.ErrFull) || !strings.Contains(s.Err().Error(), "MiB are left") {
		t.Errorf("Err is %v, expected %v", s.Err(), server.ErrFull)
	}
	if err := os.Remove(filepath.Join(disk, "clutter")); err != nil {
		t.Fatal(err)
	}
	s = start(t, server.Options{Name: "a", Dir: filepath.Join(disk, "a"), Upkeep: server.Upkeep{Room: 8 << 20}})
	if got := get(t, s, "x"); got != "y" {
		t.Errorf("x is %q, expected y", got)
	}
}
