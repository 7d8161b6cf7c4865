package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/eventlog"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/streams"
)

// flushLimit is how long a slow reader of the log or the event stream is waited for at
// the end.
const flushLimit = 800 * time.Millisecond

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

// conclude tells how the run has ended, and returns the exit status.
func (a *agent) conclude(ctx context.Context, err error) int {
	a.mu.Lock()
	a.ended = true
	server := a.control
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
	if server != nil {
		flushing.Go(func() { server.Close(e) })
	}
	flushing.Go(func() { a.manager.Close(flushLimit) })
	a.stderr.Close(flushLimit)
	flushing.Wait()
	return e.Code
}

// exit decides on the exit status, and says why it is not a good one.
func (a *agent) exit(cause, err error) eventlog.Exit {
	failed := len(a.status.Failures()) > 0
	settled := a.status.Converged && a.status.Idle()
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
	if _, refused := errors.AsType[*mesh.Refusal](err); refused {
		return a.broken(exitUsage, console.Line(err.Error()))
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
			e.Error = fmt.Sprintf("not converged within %v (--max-runtime)%s", a.opts.maxRuntime.Duration, stillPending(&a.status))
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
	if a.toJournal {
		var b lineBuffer
		slog.New(console.NewJournal(&b, nil)).Error(line)
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
