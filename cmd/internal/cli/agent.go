package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/eventlog"
	"github.com/mgmtproject/mgmt/cmd/internal/outlet"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	allsinks "github.com/mgmtproject/mgmt/sinks/all"
	allsources "github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/streams"
)

const (
	// stopLimit is how long a run may take to stop. What runs in it has limits of its
	// own, which are lower: this one is for what should not happen.
	stopLimit = 4 * time.Second

	// flushLimit is how long a slow reader of the log or the event stream is waited for
	// at the end.
	flushLimit = 800 * time.Millisecond

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

	stopping atomic.Bool // a signal has asked for it

	after sync.WaitGroup

	mu       sync.Mutex // results may still come when a stop has been forced
	ended    bool
	settled  bool // it has converged once
	report   *console.Report
	status   pipeline.Status
	progress *progress // nil unless results are traced
	memory   *collector
}

func newAgent(p Program, opts runOptions) *agent {
	a := &agent{opts: opts, prog: p, began: time.Now()}
	a.stderr = outlet.New(p.Err, outlet.Options{Bound: logBound, Gap: a.logGap})
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
	if a.traced() {
		a.progress = newProgress(opts.maxRuntime.given)
	}
	a.memory = newCollector()
	return a
}

// handler is how the log is written to w.
func (a *agent) handler(w io.Writer) slog.Handler {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.opts.logLevel.value)) // the flag allows no other
	if a.opts.logFormat.value == "json" {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
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
	return a.events != nil || a.opts.maxRuntime.given || !a.opts.convergedTimeout.given ||
		a.log.Enabled(context.Background(), slog.LevelDebug)
}

// Causes for which a run ends before it has converged.
var errMaxRuntime = errors.New("max-runtime")

type stopped struct{ signal signalName }

// Error implements error.
func (s *stopped) Error() string { return "stopped by " + s.signal.String() }

// errLate is the end of a run that did not stop in time.
var errLate = errors.New("not stopped in time")

// graphError says that there is no graph to begin with.
type graphError struct{ error }

// Unwrap gives the reason.
func (e *graphError) Unwrap() error { return e.error }

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
		host, _ := os.Hostname()
		a.events.Begin(a.began, eventlog.Header{
			Program: "mgmt " + release(a.prog.Version), PID: os.Getpid(), Host: host, File: a.opts.file, Noop: a.opts.noop,
		})
	}
	over := make(chan error, 1)
	go func() { over <- safely(func() error { return a.subscribe(ctx) }) }()
	var err error
	select {
	case err = <-over:
	case <-ctx.Done():
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
	sources := allsources.New(a.log)
	graphs := streams.Map(a.texts(sources), a.loader(reg))
	return pipeline.Run(graphs, pipeline.Options{
		Sources:          sources,
		Log:              a.log,
		Noop:             a.opts.noop,
		MaxParallel:      int(a.opts.maxParallel),
		Resync:           a.opts.resync.Duration,
		ConvergedTimeout: a.opts.convergedTimeout.Duration,
		ConvergedExit:    a.opts.convergedTimeout.given,
		Trace:            a.traced(),
	}).Subscribe(ctx, func(r pipeline.Result) bool {
		if r.Kind == pipeline.Blocked && ctx.Err() != nil {
			return true // by what was cancelled, which is no failure
		}
		return a.observe(r)
	})
}

// observe takes a result in. It never waits: everything slow is behind a buffer.
func (a *agent) observe(r pipeline.Result) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return false
	}
	a.status.Observe(r)
	if a.progress != nil {
		a.progress.observe(r)
	}
	a.report.Observe(r)
	if a.events != nil {
		a.events.Observe(r)
	}
	switch r.Kind {
	case pipeline.GraphSwapped:
		if a.draw != nil {
			a.draw.put(r.Graph)
		}
	case pipeline.Converged:
		if a.opts.convergedTimeout.given && a.prog.Exits {
			partFromInotify()
		}
		if !a.opts.convergedTimeout.given && !a.settled {
			a.settled = true
			a.after.Go(a.memory.settle)
		}
	}
	return true
}

// conclude tells how the run has ended, and returns the exit status.
func (a *agent) conclude(ctx context.Context, err error) int {
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	if a.draw != nil {
		a.draw.end(ctx)
	}
	e := a.exit(context.Cause(ctx), err)
	for _, f := range a.status.Failures() {
		line := console.Line(console.Describe(f))
		a.last(line)
		e.Failures = append(e.Failures, line)
	}
	var flushing sync.WaitGroup
	if a.events != nil {
		flushing.Go(func() { a.events.End(time.Now(), e, flushLimit) })
	}
	a.stderr.Close(flushLimit)
	flushing.Wait()
	return e.Code
}

// exit decides on the exit status, and says why it is not a good one.
func (a *agent) exit(cause, err error) eventlog.Exit {
	failed := len(a.status.Failures()) > 0
	settled := a.status.Converged && (a.progress == nil || a.progress.idle())
	code := exitOK
	if failed {
		code = exitFailed
	}
	if broken, ok := errors.AsType[*graphError](err); ok {
		return a.noGraph(broken.error)
	}
	if panicked, ok := errors.AsType[*streams.PanicError](err); ok {
		a.log.Debug("stack", "stack", console.Diff(panicked.Stack))
		return a.broken(exitInternal, console.Describe(err))
	}
	stop, signalled := errors.AsType[*stopped](cause)
	switch {
	case err == nil:
		return eventlog.Exit{Code: code, Reason: "converged"}
	case errors.Is(err, errLate):
		a.last(fmt.Sprintf("mgmt run: the run did not stop within %v and was abandoned; please report it", stopLimit))
	case cause == nil:
		return a.broken(exitFailed, console.Line(console.Describe(err)))
	}
	switch {
	case errors.Is(cause, errMaxRuntime):
		e := eventlog.Exit{Code: code, Reason: "max-runtime"}
		if !settled {
			e.Code = exitFailed
			e.Error = fmt.Sprintf("not converged within %v (--max-runtime)%s", a.opts.maxRuntime.Duration, a.progress.pending())
			a.last("mgmt run: " + e.Error)
		}
		return e
	case !signalled:
		return eventlog.Exit{Code: max(code, exitFailed), Reason: "error", Error: cause.Error()}
	case !settled && !failed:
		code = stop.signal.exitStatus()
	}
	return eventlog.Exit{Code: code, Reason: "signal", Signal: stop.signal.String()}
}

// noGraph lists what is wrong with the first graph.
func (a *agent) noGraph(err error) eventlog.Exit {
	if a.events != nil {
		a.events.Reject(time.Now(), err)
	}
	lines := problemLines("mgmt run: ", err)
	for _, line := range lines {
		a.last(line)
	}
	return eventlog.Exit{Code: exitUsage, Reason: "graph", Error: lines[0]}
}

func (a *agent) broken(code int, message string) eventlog.Exit {
	a.last("mgmt run: " + message)
	return eventlog.Exit{Code: code, Reason: "error", Error: message}
}

// last writes one of the last lines to standard error. They are not part of the log:
// they have no time, and are there whatever its level is.
func (a *agent) last(line string) {
	if a.opts.logFormat.value == "json" {
		var b lineBuffer
		slog.New(slog.NewJSONHandler(&b, nil)).Error("summary", "error", line)
		a.stderr.Final(b)
		return
	}
	a.stderr.Final([]byte(line + "\n"))
}

// problemLines is all that is wrong with a graph, a line for each.
func problemLines(prefix string, err error) []string {
	problems, ok := errors.AsType[pipeline.Problems](err)
	if !ok {
		return []string{prefix + console.Line(console.Describe(err))}
	}
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = console.Line(p.Error())
	}
	return lines
}
