package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/supervisor"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sources/graphfile"
	"github.com/mgmtproject/mgmt/streams"
)

// What the engine is asked.
const (
	askAlive    = 1 + iota // whether it is alive
	askReloaded            // whether it has taken in a graph file that was read on request
)

// journal says that the log is for systemd's journal: it has our standard error, and no
// other format was asked for.
func (o *runOptions) journal(stderr io.Writer) bool {
	if stderr != io.Writer(os.Stderr) || o.logFormat.value != "text" {
		return false
	}
	ours, err := journal.StderrIsJournalStream()
	return ours && err == nil
}

// supervise finds the service manager, if there is one.
func (a *agent) supervise() {
	manager, err := supervisor.Find(supervisor.Options{Status: a.standing, Log: a.log})
	if err != nil {
		a.log.Warn("the service manager is not told", "error", err)
	}
	a.manager = manager
	if a.opts.file != stdinName && !a.onTerminal() {
		a.reloads = make(chan struct{}, 1)
	}
}

// onTerminal says that the run belongs to somebody's terminal.
func (a *agent) onTerminal() bool {
	return a.manager == nil && (isTerminal(a.prog.In) || isTerminal(a.prog.Err))
}

// reload makes the run read its graph file, whether it has changed or not.
func (a *agent) reload(signal string) {
	if a.reloads == nil {
		a.log.Info("signal ignored", "signal", signal, "why", "standard input is read once")
		return
	}
	a.log.Info("reloading", "signal", signal)
	a.manager.Reloading()
	select {
	case a.reloads <- struct{}{}:
	default: // it is going to read the file anyway
	}
}

// updates makes graphs of the texts, and of what is read on request, and asks the engine
// whether it is alive if the service manager wants to know.
func (a *agent) updates(texts streams.Observable[graphfile.Text], load func(graphfile.Text) pipeline.Update) streams.Observable[pipeline.Update] {
	all := []streams.Observable[pipeline.Update]{streams.Map(texts, load)}
	if a.reloads != nil {
		all = a.reloadable(texts, load)
	}
	if every := a.manager.Watchdog() / 2; every > 0 {
		all = append(all, pulse(every))
	}
	if len(all) == 1 {
		return all[0]
	}
	return streams.Merge(0, all...)
}

// reloadable are two sources of graphs. What is read later comes later, so that the graph
// in force is never an old one.
func (a *agent) reloadable(texts streams.Observable[graphfile.Text], load func(graphfile.Text) pipeline.Update) []streams.Observable[pipeline.Update] {
	var turn sync.Mutex
	changed := streams.New(func(ctx context.Context, emit func(pipeline.Update) bool) error {
		return texts.Subscribe(ctx, func(t graphfile.Text) bool {
			turn.Lock()
			defer turn.Unlock()
			return emit(load(t))
		})
	})
	requested := streams.New(func(ctx context.Context, emit func(pipeline.Update) bool) error {
		return streams.FromChan(a.reloads).Subscribe(ctx, func(struct{}) bool {
			turn.Lock()
			defer turn.Unlock()
			data, err := os.ReadFile(a.opts.file)
			return emit(load(graphfile.Text{Name: a.opts.file, Data: data, Err: err})) && emit(pipeline.Update{Ask: askReloaded})
		})
	})
	return []streams.Observable[pipeline.Update]{changed, requested}
}

// pulse asks whether the engine is alive.
func pulse(every time.Duration) streams.Observable[pipeline.Update] {
	return streams.New(func(ctx context.Context, emit func(pipeline.Update) bool) error {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-tick.C:
				if !emit(pipeline.Update{Ask: askAlive}) {
					return nil
				}
			}
		}
	})
}

// answered tells the service manager what the engine has answered.
func (a *agent) answered(question int) {
	switch {
	case question == askAlive:
		a.manager.Alive()
	case a.status.Loaded && len(a.reloads) == 0:
		a.manager.Ready()
	}
}

// inform tells the service manager what a result means to it. The run is ready as soon as
// its graph is in force: what is started by a resource, and comes after this service,
// would otherwise be waited for in vain.
func (a *agent) inform(r pipeline.Result) {
	switch r.Kind {
	case pipeline.GraphRejected:
		a.rejected = true
	case pipeline.GraphSwapped:
		a.rejected = false
		if !a.ready {
			a.ready = true
			a.manager.Ready()
		}
	}
	a.manager.Changed()
}

// standing is a line about how the run is.
func (a *agent) standing() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.status.Snapshot(0)
	text := fmt.Sprintf("%s: %s", s.Graph, totals(s.Counts))
	if a.rejected {
		text += "; the newest version of the graph file is rejected"
	}
	return console.Line(text)
}
