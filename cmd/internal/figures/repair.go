package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/streams"
)

// repair makes changes to files that the engine keeps, and to as many others that a bare
// inotify loop keeps, in turn, in one process. The time is from just before the change
// (the change itself included) until the file is right again.
func repair(b *bench) error {
	for _, base := range []string{"/dev/shm", b.scratch} {
		dir, err := os.MkdirTemp(base, "repair")
		if err != nil {
			return err
		}
		err = repairIn(b, dir)
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

func repairIn(b *bench, dir string) error {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	ours, theirs := filepath.Join(dir, "engine"), filepath.Join(dir, "loop")
	for _, d := range []string{ours, theirs} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	g := &pipeline.Graph{Name: "repair"}
	for i := range files {
		text := content(i)
		name := fmt.Sprintf("f%05d", i)
		cfg := file.Spec.New().(*file.Config)
		cfg.Content, cfg.State = &text, "exists"
		g.Add("file", filepath.Join(ours, name), cfg)
		if err := os.WriteFile(filepath.Join(theirs, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := g.Compile(sinks.Options{}); err != nil {
		return err
	}
	repaired := make(chan time.Time, 16)
	converged := make(chan bool, 1)
	ended := make(chan error, 2)
	go func() {
		run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{Sources: all.New(nil), ConvergedTimeout: 200 * time.Millisecond, Fights: pipeline.Fights{Repairs: -1}})
		ended <- run.Subscribe(ctx, func(r pipeline.Result) bool {
			switch {
			case r.Kind == pipeline.Converged:
				select {
				case converged <- true:
				default:
				}
			case r.Kind == pipeline.Finished && r.Outcome.Changed && r.Cause.Kind == "event":
				repaired <- r.Time.Add(r.Took)
			}
			return true
		})
	}()
	select {
	case <-converged:
	case err := <-ended:
		return err
	}
	loop, err := newLoop(theirs)
	if err != nil {
		return err
	}
	defer loop.close()

	changes := []struct {
		name string
		make func(path string) error
	}{
		{"overwritten", func(p string) error { return os.WriteFile(p, []byte("something else\n"), 0o644) }},
		{"deleted", os.Remove},
		{"appended to", func(p string) error {
			f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("more\n")
			return errors.Join(err, f.Close())
		}},
	}
	kind := "tmpfs"
	if filepath.Dir(dir) != "/dev/shm" {
		kind = "disk"
	}
	for _, c := range changes {
		var a, l sample
		for i := range 1000 {
			name := fmt.Sprintf("f%05d", (i*7919)%files)
			for _, side := range []struct {
				dir  string
				done chan time.Time
				into *sample
			}{{ours, repaired, &a}, {theirs, loop.repaired, &l}} {
				path := filepath.Join(side.dir, name)
				took, err := timeRepair(path, content((i*7919)%files), c.make, side.done)
				if err != nil {
					return fmt.Errorf("%s %s: %w", path, c.name, err)
				}
				*side.into = append(*side.into, took)
			}
		}
		report(fmt.Sprintf("mgmt, %s, %s", c.name, kind), a)
		report(fmt.Sprintf("bare inotify loop, %s, %s", c.name, kind), l)
		ratio("mgmt / loop", a, l)
	}
	return nil
}

// timeRepair makes a change and waits until done tells of the repair that put the file
// right. An overwriting change may be repaired more than once, as it has several steps.
func timeRepair(path, want string, change func(string) error, done chan time.Time) (time.Duration, error) {
	for len(done) > 0 {
		<-done
	}
	began := time.Now()
	if err := change(path); err != nil {
		return 0, err
	}
	deadline := time.After(5 * time.Second)
	for {
		select {
		case at := <-done:
			if got, err := os.ReadFile(path); err == nil && string(got) == want {
				time.Sleep(time.Millisecond) // let what follows of it settle
				return at.Sub(began), nil
			}
		case <-deadline:
			return 0, errors.New("not repaired within 5 s")
		}
	}
}

// loop is the least that keeps files in place: it reads inotify, compares the file that
// is named, and replaces it by rename.
type loop struct {
	inotify  *os.File
	repaired chan time.Time
	ended    chan struct{}
}

func newLoop(dir string) (*loop, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	l := &loop{inotify: os.NewFile(uintptr(fd), "inotify"), repaired: make(chan time.Time, 16), ended: make(chan struct{})}
	mask := uint32(unix.IN_MODIFY | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ATTRIB | unix.IN_CREATE)
	if _, err := unix.InotifyAddWatch(fd, dir, mask); err != nil {
		return nil, err
	}
	want := make(map[string][]byte, files)
	for i := range files {
		want[fmt.Sprintf("f%05d", i)] = []byte(content(i))
	}
	go func() {
		defer close(l.ended)
		buf := make([]byte, 64<<10)
		for {
			n, err := l.inotify.Read(buf)
			if err != nil {
				return
			}
			for off := 0; off < n; {
				ev := (*unix.InotifyEvent)(unsafe.Pointer(&buf[off]))
				name := string(bytes.TrimRight(buf[off+unix.SizeofInotifyEvent:off+unix.SizeofInotifyEvent+int(ev.Len)], "\x00"))
				off += unix.SizeofInotifyEvent + int(ev.Len)
				if text, ok := want[name]; ok {
					l.keep(filepath.Join(dir, name), text)
				}
			}
		}
	}()
	return l, nil
}

func (l *loop) keep(path string, want []byte) {
	if got, err := os.ReadFile(path); err == nil && bytes.Equal(got, want) {
		return
	}
	temp := filepath.Join(filepath.Dir(path), ".tmp-"+filepath.Base(path))
	if os.WriteFile(temp, want, 0o644) == nil && os.Rename(temp, path) == nil {
		l.repaired <- time.Now()
	}
}

func (l *loop) close() {
	l.inotify.Close()
	<-l.ended
}
