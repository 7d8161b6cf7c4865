package all_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/sources/mounts"
	"github.com/mgmtproject/mgmt/sources/netlink"
	"github.com/mgmtproject/mgmt/sources/systemd"
)

func TestEverySourceHasANameOfItsOwnAndServesOnlyItsWatches(t *testing.T) {
	byName := make(map[string]sources.Source)
	for _, s := range all.New(nil) {
		if byName[s.Name()] != nil {
			t.Errorf("two sources are called %s", s.Name())
		}
		byName[s.Name()] = s
	}
	watches := []sources.Watch{
		inotify.Path("/nowhere/f"),
		inotify.Tree("/nowhere"),
		systemd.Unit("nowhere.service"),
		mounts.Point("/nowhere"),
		netlink.Link("nothing0"),
		sources.Interval{Every: time.Hour},
	}
	for _, w := range watches {
		if byName[w.Source()] == nil {
			t.Errorf("no source serves %v", w)
		}
		for name, s := range byName {
			err := s.Add(w)
			if (err == nil) != (name == w.Source()) {
				t.Errorf("%s: Add(%v) = %v", name, w, err)
			}
			if err == nil {
				s.Remove(w)
			}
		}
	}
}

func ExampleNew() {
	for _, s := range all.New(slog.New(slog.DiscardHandler)) {
		fmt.Println(s.Name())
	}
	// Output:
	// command
	// inotify
	// mounts
	// netlink
	// packages
	// systemd
	// timer
	// utsname
}
