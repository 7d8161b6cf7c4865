// Package graphfile observes the text of a graph file, so that a saved file is an event
// like any other.
package graphfile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/reactivex/rxgo/v2"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/streams"
)

// settle is how long a file must be quiet before it is read again: an editor truncates,
// writes and renames, and half a file is worth nothing.
const settle = 20 * time.Millisecond

// Text is one version of a graph file.
type Text struct {
	// Name is the file's name, as it was given: problems show it.
	Name string

	// Data is the whole content, if Err is nil.
	Data []byte

	// Err says why the file could not be read.
	Err error
}

// Watcher is what inotify.Source offers beside the events of the engine.
type Watcher interface {
	Observe(w sources.Watch) streams.Observable[sources.Event]
}

// Observe emits the content of the file at path at once, and again when a save has
// changed it. A touch, or a save of the same bytes, emits nothing. A file that can't be
// read is emitted once as an error; when it is back with what it held before, that is no
// news either.
func Observe(path string, files Watcher) streams.Observable[Text] {
	return streams.New(func(ctx context.Context, emit func(Text) bool) error {
		watched := path
		if path != "" {
			if abs, err := filepath.Abs(path); err == nil {
				watched = abs
			}
		}
		read := func(sources.Event) Text { return readFile(path) }
		saves := operators.Debounce(files.Observe(inotify.Path(watched)), settle)
		texts := streams.New(func(ctx context.Context, emit func(Text) bool) error {
			// What is saved from here on is seen by the watch, whose first event says
			// that it is in place.
			if !emit(readFile(path)) {
				return nil
			}
			return streams.Map(saves, read).Subscribe(ctx, emit)
		})
		distinct := streams.Via[Text, Text](texts, 0, func(o rxgo.Observable, _ rxgo.Option) rxgo.Observable {
			return o.DistinctUntilChanged(func(_ context.Context, v any) (any, error) { return fingerprint(v.(Text)), nil })
		})
		var good any
		return distinct.Subscribe(ctx, func(t Text) bool {
			if t.Err == nil {
				f := fingerprint(t)
				if f == good {
					return true
				}
				good = f
			}
			return emit(t)
		})
	})
}

// fingerprint is comparable, and the same for texts that say the same.
func fingerprint(t Text) any {
	if t.Err != nil {
		return t.Err.Error()
	}
	return sha256.Sum256(t.Data)
}

func readFile(path string) Text {
	data, err := os.ReadFile(path)
	return Text{Name: path, Data: data, Err: err}
}

// Read emits what r holds, once it has ended, under the given name. It then stays
// subscribed, since the graph stays in force. A cancel does not interrupt a Read of r.
func Read(r io.Reader, name string) streams.Observable[Text] {
	return streams.New(func(ctx context.Context, emit func(Text) bool) error {
		text := make(chan Text, 1)
		go func() {
			data, err := io.ReadAll(r)
			if err != nil {
				err = fmt.Errorf("reading %s: %w", name, err)
			}
			text <- Text{Name: name, Data: data, Err: err}
		}()
		select {
		case t := <-text:
			if !emit(t) {
				return nil
			}
			<-ctx.Done()
		case <-ctx.Done():
		}
		return context.Cause(ctx)
	})
}
