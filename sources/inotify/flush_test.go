package inotify_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

func itoa(n int) string { return strconv.Itoa(n) }

// While others write without pause, each of several callers changes its own file and
// flushes: when Flush returns, the event of that change must have been emitted.
func TestFlushIsABarrierUnderLoad(t *testing.T) {
	dir := t.TempDir()
	const callers, rounds = 4, 150
	src := inotify.New(inotify.Options{})
	watches := make(map[sources.Watch]*atomic.Int64)
	for i := range callers {
		w := inotify.Path(fmt.Sprintf("%s/d%d/f", dir, i))
		watches[w] = new(atomic.Int64)
		if err := src.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := src.Add(inotify.Path(dir + "/busy")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var consumer, load, work sync.WaitGroup
	consumer.Go(func() {
		_ = src.Events().Subscribe(ctx, func(ev sources.Event) bool {
			if n := watches[ev.Watch]; n != nil {
				n.Add(1)
			}
			return true
		})
	})
	load.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			script(t, dir, "write busy x; replace busy y")
			time.Sleep(100 * time.Microsecond)
		}
	})
	for i := range callers {
		work.Go(func() {
			sub := fmt.Sprintf("%s/d%d", dir, i)
			n := watches[inotify.Path(sub+"/f")]
			for round := range rounds {
				before := n.Load()
				var err error
				switch round % 4 {
				case 0:
					err = os.Mkdir(sub, 0o755)
				case 1:
					err = os.WriteFile(sub+"/f", []byte{byte(round)}, 0o644)
				case 2:
					err = os.Chmod(sub+"/f", 0o600)
				case 3:
					err = os.RemoveAll(sub)
				}
				if err == nil {
					err = src.Flush(ctx)
				}
				if err != nil {
					t.Errorf("caller %d, round %d: %v", i, round, err)
					return
				}
				if n.Load() == before {
					t.Errorf("caller %d, round %d: Flush returned before the event", i, round)
				}
			}
		})
	}
	work.Wait()
	cancel()
	load.Wait()
	consumer.Wait()
}

func TestFlush(t *testing.T) {
	t.Run("returns at once when nothing is watched", func(t *testing.T) {
		if err := inotify.New(inotify.Options{}).Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		src := inotify.New(inotify.Options{})
		w := inotify.Path(t.TempDir())
		if err := src.Add(w); err != nil {
			t.Fatal(err)
		}
		defer src.Remove(w)
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if err := src.Flush(ctx); !errors.Is(err, why) {
			t.Errorf("got %v, want %v", err, why)
		}
	})
	t.Run("ends with the source", func(t *testing.T) {
		src := inotify.New(inotify.Options{})
		w := inotify.Path(t.TempDir())
		if err := src.Add(w); err != nil {
			t.Fatal(err)
		}
		flushed := make(chan error)
		go func() { flushed <- src.Flush(context.Background()) }()
		time.AfterFunc(20*time.Millisecond, func() { src.Remove(w) })
		select {
		case err := <-flushed: // nil if it came too late
			_ = err
		case <-time.After(patience):
			t.Error("Flush does not return")
		}
	})
	t.Run("waits for the consumer", func(t *testing.T) {
		dir := t.TempDir()
		o := observe(t, inotify.Options{})
		o.add(inotify.Path(dir + "/f"))
		release := o.hold(dir, "write f x")
		flushed := make(chan error, 1)
		go func() { flushed <- o.src.Flush(context.Background()) }()
		select {
		case <-flushed:
			t.Error("Flush returned while the consumer held an event")
		case <-time.After(20 * time.Millisecond):
		}
		release()
		if err := <-flushed; err != nil {
			t.Error(err)
		}
	})
}
