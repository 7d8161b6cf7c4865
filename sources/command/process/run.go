package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Result is what a command has printed and how it ended.
type Result struct {
	// Stdout and Stderr are what it wrote there, each as Capture keeps it.
	Stdout, Stderr string

	// Output is both, in the order in which it arrived: what is written to one close
	// after the other can change places.
	Output string

	// Started is true if there was a process at all.
	Started bool

	// Status is the exit status, and -1 if it was never started or was ended.
	Status int
}

// Run runs a command to its end, but no longer than timeout; 0 is no limit. It fails
// as Start and Wait do, and with the last line of standard error in an *ExitError. The
// result has what there is even then.
func Run(parent context.Context, c Command, timeout time.Duration) (Result, error) {
	r := Result{Status: -1}
	if parent.Err() != nil {
		return r, fmt.Errorf("%s was not run: %w", c, context.Cause(parent))
	}
	ctx, errTimeout := parent, error(nil)
	if timeout > 0 {
		errTimeout = fmt.Errorf("%s timed out after %v", c, timeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(parent, timeout, errTimeout)
		defer cancel()
	}
	var stdout, stderr, both Capture
	p, err := Start(c, io.MultiWriter(&stdout, &both), io.MultiWriter(&stderr, &both))
	if err != nil {
		return r, err
	}
	err = WithLastLine(p.Wait(ctx), &stderr)
	r.Started, r.Stdout, r.Stderr, r.Output = true, stdout.String(), stderr.String(), both.String()
	exit, failed := errors.AsType[*ExitError](err)
	switch {
	case err == nil:
		r.Status = 0
	case failed:
		if exit.Status.Exited() {
			r.Status = exit.Status.ExitStatus()
		}
	case errTimeout != nil && errors.Is(err, errTimeout) && !errors.Is(err, errStuck):
		return r, errTimeout
	}
	return r, err
}
