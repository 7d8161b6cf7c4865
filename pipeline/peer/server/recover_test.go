package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

func TestAMeshThatHasLostItsMajorityIsRestoredFromTheNewestSurvivor(t *testing.T) {
	a, b, c := three(t, server.Options{})
	for i := range 50 {
		put(t, a, fmt.Sprint("k/", i), "v")
	}
	last := put(t, a, "x", "y")
	until(t, "c has all", func() error {
		if at := server.Survey(t.Context(), remote(t, c), c.ClientURLs())[0].Revision; at < last {
			return fmt.Errorf("it is at revision %d", at)
		}
		return nil
	})
	cluster := c.Cluster()
	gone := append(a.ClientURLs(), b.ClientURLs()...)
	stop(t, b)
	stop(t, a)

	client := remote(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := client.Put(ctx, "x", "z"); err == nil {
		t.Fatal("one server of three takes what is written")
	}
	all := server.Survey(t.Context(), client, append(gone, c.ClientURLs()...))
	newest := all[0]
	for _, h := range all {
		if h.Newer(newest) {
			newest = h
		}
	}
	if all[0].Problem == "" || newest.Member != c.ID() || newest.Revision < last || newest.Size == 0 {
		t.Errorf("the newest is %+v, expected that of c; all are %+v", newest, all)
	}

	saved := filepath.Join(tempDir(t), "saved")
	if err := server.Save(t.Context(), client, saved); err != nil {
		t.Fatal(err)
	}
	if err := server.Save(t.Context(), client, saved); !errors.Is(err, os.ErrExist) {
		t.Errorf("saved over what was saved before: %v", err)
	}
	dir := filepath.Join(tempDir(t), "d")
	id, err := server.Restore(saved, server.Options{Name: "d", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	d := start(t, server.Options{Name: "d", Dir: dir, Expect: id})
	if d.Cluster() == cluster {
		t.Error("the old servers would take the new mesh for theirs")
	}
	if got := get(t, d, "x"); got != "y" {
		t.Errorf("x is %q, expected y", got)
	}
	list, err := d.Client().MemberList(t.Context())
	if err != nil || len(list.Members) != 1 || list.Members[0].Name != "d" {
		t.Errorf("the members are %v %v, expected d alone", list, err)
	}
	// Who has seen revisions of the old mesh is told to begin anew.
	watch := <-d.Client().Watch(t.Context(), "x", clientv3.WithRev(last+1000))
	if !errors.Is(watch.Err(), rpctypes.ErrCompacted) {
		t.Errorf("a watch from before goes on: %+v", watch)
	}
	// And who joins gets all of it, though the log has nothing of it.
	e := start(t, add(t, server.Options{Name: "e"}, d))
	promote(t, e, d)
	stop(t, d)
	r, err := e.Client().Get(t.Context(), "k/", clientv3.WithPrefix(), clientv3.WithSerializable())
	if err != nil || len(r.Kvs) != 50 {
		t.Errorf("a server that has joined has %d of 50 keys: %v", len(r.Kvs), err)
	}
}

func TestWhatAServerHadThatDoesNotRunIsSavedToItsLastWord(t *testing.T) {
	base := tempDir(t)
	dir := filepath.Join(base, "c")
	a, b, c := three(t, server.Options{})
	_ = c
	d := start(t, add(t, server.Options{Name: "d", Dir: dir}, a))
	promote(t, d, a)
	for i := range 20 {
		put(t, b, "x", fmt.Sprint(i))
	}
	get(t, d, "x") // all has arrived
	running := server.Survey(t.Context(), remote(t, d), d.ClientURLs())[0]
	stop(t, d)

	h, err := server.Inspect(dir)
	if err != nil || h.Member != d.ID() || h.Index < running.Index || h.Revision != running.Revision {
		t.Errorf("it has %+v %v, expected what it had when it ran: %+v", h, err, running)
	}
	saved := filepath.Join(base, "saved")
	if err := server.SaveStopped(t.Context(), dir, saved, server.Options{}); err != nil {
		t.Fatal(err)
	}
	if again, err := server.Inspect(dir); err != nil || again != h {
		t.Errorf("saving has changed %+v to %+v %v", h, again, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "copy-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	id, err := server.Restore(saved, server.Options{Name: "d", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	restored := start(t, server.Options{Name: "d", Dir: dir})
	if got := get(t, restored, "x"); got != "19" || restored.ID() != id.Member {
		t.Errorf("x is %q at member %d, expected 19 at %d", got, restored.ID(), id.Member)
	}
	if aside, err := filepath.Glob(filepath.Join(dir, "aside-*")); err != nil || len(aside) != 1 {
		t.Errorf("what was there before is not kept: %v %v", aside, err)
	}
}

func TestAFileThatIsNotWholeIsNotRestored(t *testing.T) {
	s := start(t, server.Options{Name: "a"})
	put(t, s, "x", "y")
	saved := filepath.Join(tempDir(t), "saved")
	if err := server.Save(t.Context(), s.Client(), saved); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, good...)
	flipped[len(flipped)/2] ^= 1
	for _, c := range []struct {
		name string
		text []byte
		want string
	}{
		{"the end is missing", good[:len(good)-1000], "not saved to the end"},
		{"nothing is there", nil, "not saved to the end"},
		{"a bit has changed", flipped, "its checksum is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := filepath.Join(tempDir(t), "bad")
			if err := os.WriteFile(bad, c.text, 0o600); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(tempDir(t), "b")
			old := start(t, server.Options{Name: "b", Dir: dir})
			put(t, old, "x", "old")
			stop(t, old)
			_, err := server.Restore(bad, server.Options{Name: "b", Dir: dir})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, expected %q", err, c.want)
			}
			old = start(t, server.Options{Name: "b", Dir: dir})
			if got := get(t, old, "x"); got != "old" {
				t.Errorf("x is %q, expected what was there before", got)
			}
		})
	}
}

func TestADirectoryWithoutAServerHasNothingToSave(t *testing.T) {
	dir := tempDir(t)
	if _, err := server.Inspect(dir); err == nil || !strings.Contains(err.Error(), "no server has ever run") {
		t.Errorf("inspecting: %v", err)
	}
	if err := server.SaveStopped(t.Context(), dir, filepath.Join(dir, "saved"), server.Options{}); err == nil {
		t.Error("saved")
	}
}

func TestRestoredUsersStillHaveToProveWhoTheyAre(t *testing.T) {
	s := start(t, server.Options{Name: "a"})
	put(t, s, "x", "y")
	protect(t, s)
	saved := filepath.Join(tempDir(t), "saved")
	if err := server.Save(t.Context(), s.Client(), saved); err == nil {
		t.Fatal("anybody may save all there is")
	}
	if err := server.Save(s.Root(t.Context()), s.Client(), saved); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(tempDir(t), "b")
	if _, err := server.Restore(saved, server.Options{Name: "b", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	b := start(t, server.Options{Name: "b", Dir: dir})
	if _, err := remote(t, b).Get(t.Context(), "x"); !errors.Is(err, rpctypes.ErrUserEmpty) {
		t.Errorf("somebody without a name reads x: %v", err)
	}
	if got := get(t, b, "x"); got != "y" {
		t.Errorf("x is %q, expected y", got)
	}
}

// protect lets only those into a mesh that have a name.
func protect(t *testing.T, s *server.Server) {
	t.Helper()
	for _, err := range []error{
		second(s.Client().UserAddWithOptions(t.Context(), "root", "", &clientv3.UserAddOptions{NoPassword: true})),
		second(s.Client().RoleAdd(t.Context(), "root")),
		second(s.Client().UserGrantRole(t.Context(), "root", "root")),
		second(s.Client().AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
