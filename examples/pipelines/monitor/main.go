// Command monitor runs a graph file, and raises alerts about each window of time in which
// something failed or had to be repaired:
//
//	monitor graph.yaml 1m
package main

import (
	"context"
	"fmt"
	"log"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/reactivex/rxgo/v2"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	allsinks "github.com/mgmtproject/mgmt/sinks/all"
	allsources "github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/streams"
)

// alerts has a text for each window in which something is notable.
func alerts(results streams.Observable[pipeline.Result], window time.Duration) streams.Observable[string] {
	notable := streams.Filter(results, func(r pipeline.Result) bool {
		return r.Err != nil || r.Outcome.Changed && r.Cause.Kind == "event"
	})
	windows := streams.Via[pipeline.Result, []any](notable, 64, func(o rxgo.Observable, _ rxgo.Option) rxgo.Observable {
		return o.BufferWithTime(rxgo.WithDuration(window))
	})
	return streams.Map(windows, func(results []any) (text string) {
		count := map[string]int{}
		for _, item := range results {
			if r := item.(pipeline.Result); r.Err != nil {
				count["failed: "+r.Failure().Error()]++
			} else {
				count["repaired: "+r.Vertex.String()]++
			}
		}
		for _, what := range slices.Sorted(maps.Keys(count)) {
			text += fmt.Sprintf("ALERT %d x %s\n", count[what], what)
		}
		return text
	})
}

func load(path string) (*pipeline.Graph, error) {
	reg, err := sinks.NewRegistry(allsinks.Specs...)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	g, err := pipeline.Load(path, text, reg)
	if err != nil {
		return nil, err
	}
	return g, g.Compile(sinks.Options{})
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: monitor GRAPH WINDOW")
	}
	window, err := time.ParseDuration(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	g, err := load(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{Sources: allsources.New(nil)})
	for text, err := range alerts(run, window).Seq(ctx) {
		if err != nil && ctx.Err() == nil {
			log.Fatal(err)
		}
		fmt.Print(text)
	}
}
