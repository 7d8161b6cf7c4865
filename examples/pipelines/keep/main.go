// Command keep keeps a file as it should be, without a graph file:
//
//	keep /tmp/motd "be nice"
//
// Whatever happens to the file is put right at once, until Ctrl-C ends the program.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/streams"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: keep PATH TEXT")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := keep(ctx, os.Args[1], os.Args[2]+"\n"); err != nil {
		log.Fatal(err)
	}
}

func keep(ctx context.Context, path, text string) error {
	g := &pipeline.Graph{Name: "keep"}
	g.Add("file", path, &file.Config{Content: &text, Mode: "0644"})
	if err := g.Compile(sinks.Options{}); err != nil {
		return err
	}
	run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{Sources: all.New(nil)})
	for r, err := range run.Seq(ctx) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case r.Err != nil:
			log.Print(r.Failure())
		case r.Outcome.Changed:
			fmt.Println(r.Vertex, r.Outcome.Changes)
		}
	}
	return nil
}
