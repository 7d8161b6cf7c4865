package inotify_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// A file is watched without an engine: sources.Observe serves the watch for as long as
// it is subscribed.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	motd := filepath.Join(dir, "motd")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	go func() { // somebody who changes it now and then
		for ctx.Err() == nil {
			_ = os.WriteFile(motd, []byte("hello\n"), 0o644)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	for ev, err := range sources.Observe(inotify.New(inotify.Options{}), inotify.Path(motd)).Seq(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(ev.Source, filepath.Base(ev.Watch.String()))
		break
	}
	// Output: inotify motd
}

// Observe watches something beside the Events that an engine consumes. Its first event
// says that the watch is in place.
func ExampleSource_Observe() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "conf.d", "a.conf")

	src := inotify.New(inotify.Options{})
	for ev, err := range src.Observe(inotify.Tree(dir)).Seq(context.Background()) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(ev.What)
		if ev.What != "watching" {
			break
		}
		_ = os.Mkdir(filepath.Dir(conf), 0o755)
		_ = os.WriteFile(conf, nil, 0o644)
	}
	// Output:
	// watching
	// create
}
