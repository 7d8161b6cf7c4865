package sinks_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/noop"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// A resource is of use without an engine: check it whenever its watch says so.
func ExampleResource() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "motd")

	motd, err := (&file.Config{Content: new("be nice\n")}).Build(path, sinks.Options{})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	repairs := 0
	// The first event says that the watch is in place, so nothing is missed.
	for _, err := range inotify.New(inotify.Options{}).Observe(motd.Watches()[0]).Seq(ctx) {
		if err != nil {
			panic(err)
		}
		out, err := motd.CheckApply(ctx, true)
		if err != nil {
			panic(err)
		}
		if !out.Changed {
			continue
		}
		fmt.Println(out.Changes)
		if repairs++; repairs == 2 {
			break
		}
		if err := os.WriteFile(path, []byte("be nasty\n"), 0o644); err != nil { // somebody else
			panic(err)
		}
	}
	// Output:
	// [state: absent -> exists content: "" -> "be nice\n"]
	// [content: "be nasty\n" -> "be nice\n"]
}

func ExampleNewRegistry() {
	kinds, err := sinks.NewRegistry(noop.Spec, file.Spec)
	if err != nil {
		panic(err)
	}
	fmt.Println(kinds.Kinds())
	_, ok := kinds.Spec("svc")
	fmt.Println(ok)

	_, err = sinks.NewRegistry(noop.Spec, noop.Spec)
	fmt.Println(err)
	// Output:
	// [file noop]
	// false
	// kind noop is listed twice
}

func ExampleChange() {
	fmt.Println(sinks.Change{Field: "mode", From: "0600", To: "0644"})
	fmt.Println(sinks.Change{Field: "content", From: "a\nb\n", To: "a\n"})
	fmt.Println(sinks.Change{Field: "token", From: "xyzzy", To: "plugh", Secret: true})
	// Output:
	// mode: 0600 -> 0644
	// content: (2 lines, 4 bytes) -> "a\n"
	// token: (secret) -> (secret)
}

func ExampleText() {
	fmt.Printf("%q\n", sinks.Text([]byte("grüß dich\n")))
	fmt.Printf("%q\n", sinks.Text([]byte{0x7f, 'E', 'L', 'F', 0}))
	// Output:
	// "grüß dich\n"
	// "(binary, 5 bytes)"
}

// What a resource logs carries its name.
func ExampleOptions_Logger() {
	drop := func(_ []string, a slog.Attr) slog.Attr { // the time, which is never the same
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: drop}))
	opts := sinks.Options{Log: log, Ref: "file[/etc/motd]"}
	opts.Logger().Info("hello")
	sinks.Options{}.Logger().Info("nobody hears this")
	// Output: level=INFO msg=hello res=file[/etc/motd]
}

func ExampleParamError() {
	_, err := (&file.Config{Symlink: "motd.new", Mode: "0644"}).Build("/etc/motd", sinks.Options{})
	if wrong, ok := errors.AsType[*sinks.ParamError](err); ok {
		fmt.Println("the parameter", wrong.Param, "is wrong:", wrong.Err)
	}
	// Output: the parameter mode is wrong: a symbolic link has none
}
