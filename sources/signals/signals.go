// Package signals makes the signals that this process receives an Observable.
package signals

import (
	"context"
	"os"
	"os/signal"

	"github.com/mgmtproject/mgmt/streams"
)

// Observe emits each of the given signals that arrives while it is subscribed; their
// default action, such as ending the process, does not take place meanwhile. A signal
// that arrives again before it has been emitted may be emitted once, as is usual for
// signals. Without any it emits nothing.
func Observe(sigs ...os.Signal) streams.Observable[os.Signal] {
	if len(sigs) == 0 { // signal.Notify would take that for all
		return streams.Never[os.Signal]()
	}
	return streams.New(func(ctx context.Context, emit func(os.Signal) bool) error {
		arrived := make(chan os.Signal, 16)
		signal.Notify(arrived, sigs...)
		defer signal.Stop(arrived)
		return streams.FromChan(arrived).Subscribe(ctx, emit)
	})
}
