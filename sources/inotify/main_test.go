package inotify_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test.
const patience = 20 * time.Second

// observer subscribes to a source and keeps its events.
type observer struct {
	t      *testing.T
	src    *inotify.Source
	cancel context.CancelFunc
	ended  chan error

	mu    sync.Mutex
	got   []sources.Event
	block chan struct{} // closed when the consumer may go on; nil if it need not wait
}

func observe(t *testing.T, opts inotify.Options) *observer {
	t.Helper()
	return subscribe(t, inotify.New(opts))
}

func subscribe(t *testing.T, src *inotify.Source) *observer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o := &observer{t: t, src: src, cancel: cancel, ended: make(chan error, 1)}
	go func() {
		o.ended <- src.Events().Subscribe(ctx, func(ev sources.Event) bool {
			o.mu.Lock()
			o.got = append(o.got, ev)
			block := o.block
			o.mu.Unlock()
			if block != nil {
				<-block
			}
			return true
		})
	}()
	t.Cleanup(o.stop)
	return o
}

func (o *observer) stop() {
	o.cancel()
	select {
	case err, open := <-o.ended:
		if open && !errors.Is(err, context.Canceled) {
			o.t.Errorf("Events ended with %v", err)
		}
		if open {
			close(o.ended)
		}
	case <-time.After(patience):
		o.t.Error("Events does not end")
	}
}

func (o *observer) add(watches ...sources.Watch) {
	o.t.Helper()
	for _, w := range watches {
		if err := o.src.Add(w); err != nil {
			o.t.Fatalf("Add(%v): %v", w, err)
		}
	}
}

// events flushes the source and returns what has come since the last call.
func (o *observer) events() []sources.Event {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := o.src.Flush(ctx); err != nil {
		o.t.Fatalf("Flush: %v", err)
	}
	return o.drain()
}

func (o *observer) drain() []sources.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	got := o.got
	o.got = nil
	return got
}

func fired(events []sources.Event, w sources.Watch) bool {
	return slices.ContainsFunc(events, func(ev sources.Event) bool { return ev.Watch == w })
}

// fires fails the test unless w has fired since the last look.
func (o *observer) fires(w sources.Watch, after string) {
	o.t.Helper()
	if got := o.events(); !fired(got, w) {
		o.t.Errorf("%s: %v did not fire; events: %v", after, w, got)
	}
}

// silent fails the test if anything has fired since the last look.
func (o *observer) silent(after string) {
	o.t.Helper()
	if got := o.events(); len(got) > 0 {
		o.t.Errorf("%s: unexpected events: %v", after, got)
	}
}

// step runs a step of a script, after which w has to fire, or with "quiet:" nothing.
func (o *observer) step(dir, step string, w sources.Watch) {
	o.t.Helper()
	step, quiet := strings.CutPrefix(step, "quiet:")
	script(o.t, dir, step)
	if quiet {
		o.silent(step)
	} else {
		o.fires(w, step)
	}
}

// eventually waits until w fires without a Flush.
func (o *observer) eventually(w sources.Watch, after string) {
	o.t.Helper()
	var got []sources.Event
	waitFor(o.t, after+": "+w.String()+" fires", func() bool {
		got = append(got, o.drain()...)
		return fired(got, w)
	})
}

// hold does what makes an event and returns when the consumer has taken it. The
// consumer takes no other until release.
func (o *observer) hold(dir, commands string) (release func()) {
	o.t.Helper()
	block := make(chan struct{})
	o.mu.Lock()
	o.got, o.block = nil, block
	o.mu.Unlock()
	script(o.t, dir, commands)
	waitFor(o.t, "the consumer has an event", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.got) > 0
	})
	return func() {
		o.mu.Lock()
		o.block = nil
		o.mu.Unlock()
		close(block)
	}
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// script runs commands, separated by semicolons, with paths relative to dir.
func script(t *testing.T, dir, commands string) {
	t.Helper()
	for line := range strings.SplitSeq(commands, ";") {
		if err := command(dir, strings.Fields(line)); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

func command(dir string, args []string) error {
	at := func(i int) string { return filepath.Join(dir, args[i]) }
	switch args[0] {
	case "mkdir":
		return os.MkdirAll(at(1), 0o755)
	case "write":
		return os.WriteFile(at(1), []byte(args[2]), 0o644)
	case "append":
		f, err := os.OpenFile(at(1), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(args[2])
		return errors.Join(err, f.Close())
	case "replace":
		tmp := at(1) + ".tmp"
		return errors.Join(os.WriteFile(tmp, []byte(args[2]), 0o644), os.Rename(tmp, at(1)))
	case "rm":
		return os.Remove(at(1))
	case "rmtree":
		return os.RemoveAll(at(1))
	case "mv":
		return os.Rename(at(1), at(2))
	case "exchange":
		return exchange(at(1), at(2))
	case "ln":
		return os.Symlink(args[1], at(2))
	case "abs-ln":
		return os.Symlink(at(1), at(2))
	case "swap":
		tmp := at(1) + ".tmp"
		return errors.Join(os.Symlink(args[2], tmp), os.Rename(tmp, at(1)))
	case "hardlink":
		return os.Link(at(1), at(2))
	case "chmod":
		var mode os.FileMode
		if _, err := fmt.Sscanf(args[1], "%o", &mode); err != nil {
			return err
		}
		return os.Chmod(at(2), mode)
	case "chown":
		return os.Lchown(at(1), 1, 1)
	case "touch":
		return os.Chtimes(at(1), time.Time{}, time.Unix(1, 0))
	case "sh":
		cmd := exec.Command("sh", "-ec", strings.Join(args[1:], " "))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	return fmt.Errorf("unknown command %q", args[0])
}
