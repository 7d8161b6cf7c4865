package utsname_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/utsname"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// events subscribes to a source until the test ends or stop is called.
func events(t *testing.T, s *utsname.Source) (<-chan sources.Event, func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ch, ended := make(chan sources.Event, 100), make(chan error, 1)
	go func() {
		ended <- s.Events().Subscribe(ctx, func(e sources.Event) bool { ch <- e; return true })
	}()
	stop := func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("it does not end")
		}
	}
	return ch, stop
}

func next(t *testing.T, ch <-chan sources.Event, when string) {
	t.Helper()
	select {
	case e := <-ch:
		if want := (sources.Event{Source: "utsname", Watch: utsname.Nodename(), What: "set"}); e != want {
			t.Errorf("%s: got %v, want %v", when, e, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no event comes", when)
	}
}

func set(t *testing.T, name string) {
	t.Helper()
	if err := unix.Sethostname([]byte(name)); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, s *utsname.Source) {
	t.Helper()
	if err := s.Add(utsname.Nodename()); err != nil {
		t.Fatal(err)
	}
}

func TestNameIsSet(t *testing.T) {
	needs.Systemd(t)
	s := utsname.New()
	for _, round := range []string{"the first subscription", "a second one"} {
		add(t, s)
		set(t, "before") // Events is subscribed
		ch, stop := events(t, s)
		next(t, ch, round+", before it began")
		for _, name := range []string{"one", "two", "two"} {
			set(t, name)
			next(t, ch, round+", set to "+name)
		}
		stop()
	}
}

func TestAddedAndRemovedWhileServed(t *testing.T) {
	needs.Systemd(t)
	s := utsname.New()
	add(t, s)
	s.Remove(utsname.Nodename()) // closes it
	ch, stop := events(t, s)
	defer stop()
	add(t, s)
	add(t, s)
	s.Remove(utsname.Nodename())
	set(t, "added")
	next(t, ch, "added while it is served")
	s.Remove(utsname.Nodename())
	set(t, "removed")
	set(t, "removed again")
	add(t, s)
	set(t, "added again")
	next(t, ch, "added again")
}

func TestOnlyItsWatchIsServed(t *testing.T) {
	if err := utsname.New().Add(sources.Interval{Every: time.Second}); err == nil {
		t.Error("it serves an interval")
	}
}

func TestCancelWithoutAWatch(t *testing.T) {
	_, stop := events(t, utsname.New())
	stop()
}
