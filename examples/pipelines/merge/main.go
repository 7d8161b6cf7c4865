// Command merge keeps a file saying what was said last: in a draft, which somebody edits,
// or in a datagram, which is a source of our own. Both are merged by RxGo.
//
//	merge /etc/motd /tmp/draft 127.0.0.1:4000
//	echo "be nice" >/dev/udp/127.0.0.1/4000
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/reactivex/rxgo/v2"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/streams"
)

// datagrams emits what is sent to a UDP address.
func datagrams(addr string) streams.Observable[string] {
	return streams.New(func(ctx context.Context, emit func(string) bool) error {
		conn, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		for buf := make([]byte, 1024); ; {
			n, _, err := conn.ReadFrom(buf)
			if err != nil || !emit(string(buf[:n])) {
				return err
			}
		}
	})
}

// merge keeps the file at path like the draft or the latest of said.
func merge(path, draft string, said streams.Observable[string]) streams.Observable[pipeline.Result] {
	saves := operators.Debounce(inotify.New(inotify.Options{}).Observe(inotify.Path(draft)), 20*time.Millisecond)
	drafts := streams.Map(saves, func(sources.Event) string { text, _ := os.ReadFile(draft); return string(text) })
	graph := func(_ context.Context, text any) (any, error) {
		g := &pipeline.Graph{}
		g.Add("file", path, &file.Config{Content: new(text.(string))})
		return pipeline.Update{Graph: g}, g.Compile(sinks.Options{})
	}
	updates := streams.FromRx[pipeline.Update](1, func(bind rxgo.Option) rxgo.Observable {
		return rxgo.Merge([]rxgo.Observable{drafts.Rx(1), said.Rx(1)}, bind).
			Filter(func(text any) bool { return text != "" }).
			Map(graph)
	})
	return pipeline.Run(updates, pipeline.Options{Sources: all.New(nil)})
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: merge FILE DRAFT ADDRESS")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := merge(os.Args[1], os.Args[2], datagrams(os.Args[3])).Subscribe(ctx, func(r pipeline.Result) bool {
		if r.Outcome.Changed || r.Err != nil {
			fmt.Println(r.Vertex, r.Outcome.Changes, r.Err)
		}
		return true
	})
	if ctx.Err() == nil {
		log.Fatal(err)
	}
}
