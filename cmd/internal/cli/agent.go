package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/mattn/go-isatty"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/control"
	"github.com/mgmtproject/mgmt/cmd/internal/eventlog"
	"github.com/mgmtproject/mgmt/cmd/internal/outlet"
	"github.com/mgmtproject/mgmt/cmd/internal/supervisor"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	allsinks "github.com/mgmtproject/mgmt/sinks/all"
	allsources "github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

const (
	// stopLimit is how long a run may take to stop. What runs in it has limits of its
	// own, which are lower: this one is for what should not happen.
	stopLimit = 4 * time.Second

	// exchangeLimit is how long a run that ends when it has converged waits for the mesh.
	exchangeLimit = 10 * time.Second

	// logBound is how many bytes of the log wait for a slow reader.
	logBound = 1 << 20
)

// agent is one run of mgmt run.
type agent struct {
	opts   runOptions
	prog   Program
	began  time.Time
	stderr *outlet.Outlet
	log    *slog.Logger
	events *eventlog.Log // nil without --events
	draw   *drawer       // nil without --graphviz

	manager   *supervisor.Manager // nil if nobody has to be told how the run is
	reloads   chan struct{}       // requests to read the graph file; nil if it is not for that
	toJournal bool

	stopping  atomic.Bool            // a signal has asked for it
	temporary atomic.Pointer[string] // the prefix, if it is to be removed

	after sync.WaitGroup

	mu       sync.Mutex // results may still come when a stop has been forced
	ended    bool
	settled  bool // it has converged once
	ready    bool // a graph has come into force
	rejected bool // the newest version of the graph file is
	report   *console.Report
	status   pipeline.Status
	control  *control.Server // nil if nobody can ask
	memory   *collector
}

func newAgent(p Program, opts runOptions) *agent {
	a := &agent{opts: opts, prog: p, began: time.Now()}
	stderr := p.Err
	if a.toJournal = opts.journal(p.Err); a.toJournal {
		stderr = console.Journal{Send: journal.Send, Stream: p.Err}
	}
	a.stderr = outlet.New(stderr, outlet.Options{Bound: logBound, Gap: a.logGap})
	a.log = slog.New(a.handler(a.stderr))
	a.report = console.NewReport(a.log, a.began)
	if opts.events.value != "" {
		a.events = eventlog.New(p.Out, func(err error) {
			a.log.Warn("event stream ended", "error", err)
		})
	}
	if opts.graphviz != "" {
		a.draw = newDrawer(opts.graphviz, a.log)
	}
	a.memory = newCollector()
	a.supervise()
	return a
}

// handler is how the log is written to w.
func (a *agent) handler(w io.Writer) slog.Handler {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.opts.logLevel.value)) // the flag allows no other
	if a.opts.logFormat.value == "json" {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	}
	if a.toJournal {
		return console.NewJournal(w, level)
	}
	return console.NewText(w, console.Options{Level: level, Color: a.colored()})
}

func (a *agent) colored() bool {
	return !a.opts.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(a.prog.Err)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// logGap is the log line in the place of n that were dropped.
func (a *agent) logGap(n uint64) []byte {
	var b lineBuffer
	slog.New(a.handler(&b)).Warn("log lines lost", "count", n, "why", "standard error was not read")
	return b
}

type lineBuffer []byte

func (b *lineBuffer) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }

// traced says whether the starts of CheckApplys have to be known. A run that ends at the
// first convergence need not know them to tell whether it has converged.
func (a *agent) traced() bool {
	return a.events != nil || a.opts.maxRuntime.given || !a.opts.convergedTimeout.given || a.opts.together() ||
		a.log.Enabled(context.Background(), slog.LevelDebug)
}

// run goes on until the run is over, and returns the exit status.
func (a *agent) run(parent context.Context) int {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	defer a.after.Wait()
	defer a.memory.restore()
	defer a.handleSignals(cancel)()
	if limit := a.opts.maxRuntime; limit.given {
		var done context.CancelFunc
		ctx, done = context.WithTimeoutCause(ctx, limit.Duration, errMaxRuntime)
		defer done()
	}
	if a.events != nil {
		a.events.Begin(a.began, a.header(a.opts.file))
	}
	over := make(chan error, 1)
	go func() { over <- safely(func() error { return a.subscribe(ctx) }) }()
	var err error
	select {
	case err = <-over:
	case <-ctx.Done():
		a.manager.Stopping()
		late := time.NewTimer(stopLimit)
		defer late.Stop()
		select {
		case err = <-over:
		case <-late.C:
			err = errLate
		}
	}
	return a.conclude(ctx, err)
}

// safely turns a panic of f into its error.
func safely(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &streams.PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	return f()
}

// subscribe is the dataflow: graphs and events go in, results come out.
func (a *agent) subscribe(ctx context.Context) error {
	reg, err := sinks.NewRegistry(allsinks.Specs...)
	if err != nil {
		return err
	}
	kept, err := a.keep()
	if err != nil {
		return err
	}
	defer kept.leave()
	defer a.listen(kept.place)()
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	link := a.link(kept.prefix, refuse)
	defer a.unlink(ctx, link)()
	if a.opts.noop {
		link.End(errNoop)
	}
	files := allsources.New(a.log)
	graphs := a.updates(a.texts(files), a.loader(reg, sinks.Options{Log: a.log, Shared: &sinks.Shared{}, Dir: kept.kinds, Mesh: link}))
	exchange := pipeline.NewExchange(pipeline.ExchangeOptions{
		Host:  link.Host(),
		Store: func() mesh.Store { return link },
		Kinds: reg,
		Dir:   kept.dir,
		Noop:  a.opts.noop,
		Log:   a.log,

		Together: a.opts.together(),
	})
	if a.opts.convergedTimeout.given {
		files = append(files, exchange.Settled(exchangeLimit))
	}
	return exchange.Results(pipeline.Run(exchange.Graphs(graphs), pipeline.Options{
		Sources:          append(files, mesh.NewSource(link)),
		Log:              a.log,
		Noop:             a.opts.noop,
		MaxParallel:      int(a.opts.maxParallel),
		Resync:           a.opts.resync.Duration,
		ConvergedTimeout: a.opts.convergedTimeout.Duration,
		ConvergedExit:    a.opts.convergedTimeout.given && !a.opts.together(),
		Trace:            a.traced(),
		State:            kept.state,
		Kinds:            reg,
		Fights:           a.opts.flapping.Fights,
	})).Subscribe(ctx, a.observe)
}

// observe takes a result in. It never waits: everything slow is behind a buffer.
func (a *agent) observe(r pipeline.Result) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return false
	}
	if r.Kind == pipeline.Answered {
		a.answered(r.Count)
		return true
	}
	a.status.Observe(r)
	a.report.Observe(r)
	if a.events != nil {
		a.events.Observe(r)
	}
	if a.control != nil {
		a.control.Observe(r)
	}
	a.inform(r)
	switch r.Kind {
	case pipeline.GraphSwapped:
		if a.draw != nil {
			a.draw.put(r.Graph)
		}
	case pipeline.Converged:
		if a.opts.convergedTimeout.given && !a.opts.together() && a.prog.Exits {
			partFromInotify()
		}
		if !a.opts.convergedTimeout.given && !a.settled {
			a.settled = true
			a.after.Go(a.memory.settle)
		}
	}
	return true
}
