// Package graphfile observes the text of a graph file: at once, and whenever it has
// become another one.
package graphfile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/reactivex/rxgo/v2"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/streams"
)

// quiet is how long nothing must have happened to the file before it is read: many
// editors truncate a file and then write it.
const quiet = 20 * time.Millisecond

// Text is what was read.
type Text struct {
	// Name is the file as it was given to Observe or Read, for error messages.
	Name string

	// Data is the content. The receiver must not change it.
	Data []byte

	// Err says why the file could not be read; Data is nil then. It is an *fs.PathError
	// from Observe. It does not end the stream: the file may come back.
	Err error
}

// A Watcher watches beside the events of an engine, as *inotify.Source does. Its first
// event says that the watch is in place.
type Watcher interface {
	Observe(w sources.Watch) streams.Observable[sources.Event]
}

// Observe emits the content of the file at once, and again whenever it has become
// different and the file has been left alone for 20 ms. A file that can't be read is
// emitted once, as an error; when it comes back, it is emitted if it differs from what
// was read last. Observe ends with its subscription, or if path can't be watched.
func Observe(path string, watcher Watcher) streams.Observable[Text] {
	texts := streams.Map(moments(watcher.Observe(inotify.Path(path))), func(struct{}) Text {
		data, err := os.ReadFile(path)
		if err != nil {
			return Text{Name: path, Err: err}
		}
		return Text{Name: path, Data: data}
	})
	return distinct(texts)
}

// moments are the times to read the file: the first event, and each time no further
// one has followed for a while.
func moments(events streams.Observable[sources.Event]) streams.Observable[struct{}] {
	return streams.New(func(ctx context.Context, emit func(struct{}) bool) error {
		now, started := struct{}{}, false
		changes := streams.New(func(ctx context.Context, change func(struct{}) bool) error {
			return events.Subscribe(ctx, func(sources.Event) bool {
				if !started {
					started = true
					return emit(now) // nobody else emits before there has been a change
				}
				return change(now)
			})
		})
		return operators.Debounce(changes, quiet).Subscribe(ctx, emit)
	})
}

// distinct drops a text that says the same as the one before, and one that is what was
// read last before an error.
func distinct(texts streams.Observable[Text]) streams.Observable[Text] {
	return streams.Via[Text, Text](texts, 0, func(o rxgo.Observable, _ rxgo.Option) rxgo.Observable {
		var last any               // what came last
		var good [sha256.Size]byte // the content that was read last
		var read bool              // there is one
		return o.DistinctUntilChanged(func(_ context.Context, item any) (any, error) {
			text := item.(Text)
			if text.Err != nil {
				last = text.Err.Error()
				return last, nil
			}
			if sum := sha256.Sum256(text.Data); !read || sum != good {
				good, read, last = sum, true, sum
			}
			return last, nil
		})
	})
}

// Read emits what r holds, once it has all been read, and then stays silent until its
// subscription is cancelled. It reads r once, on the first subscription, and emits the
// same to every other. A read that waits for input ends at a cancel if r has read
// deadlines; otherwise a goroutine stays behind until r returns.
func Read(r io.Reader, name string) streams.Observable[Text] {
	var once sync.Once
	var text Text
	done := make(chan struct{})
	start := func() {
		defer close(done)
		data, err := io.ReadAll(r)
		if err != nil {
			text = Text{Name: name, Err: fmt.Errorf("reading %s: %w", name, err)}
			return
		}
		text = Text{Name: name, Data: data}
	}
	return streams.New(func(ctx context.Context, emit func(Text) bool) error {
		once.Do(func() { go start() })
		select {
		case <-done:
		case <-ctx.Done():
			if d, ok := r.(interface{ SetReadDeadline(time.Time) error }); ok && d.SetReadDeadline(time.Unix(1, 0)) == nil {
				<-done
			}
			return context.Cause(ctx)
		}
		if emit(text) {
			<-ctx.Done()
		}
		return context.Cause(ctx)
	})
}
