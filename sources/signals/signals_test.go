package signals_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources/signals"
)

func TestMain(m *testing.M) {
	if os.Getenv("TEST_DEFAULT_ACTION") != "" {
		defaultAction()
	}
	goleak.VerifyTestMain(m)
}

func kill(sig syscall.Signal) { _ = syscall.Kill(os.Getpid(), sig) }

// observe sends SIGWINCH, which by default does nothing, until it is observed, then
// SIGTERM, and returns what it got until that.
func observe(ctx context.Context) (got []os.Signal, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	observed := make(chan struct{})
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(func() {
		for {
			kill(syscall.SIGWINCH)
			select {
			case <-observed:
				kill(syscall.SIGTERM)
				return
			case <-ctx.Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	err = signals.Observe(syscall.SIGWINCH, syscall.SIGTERM).Subscribe(ctx, func(s os.Signal) bool {
		if len(got) == 0 {
			close(observed)
		}
		got = append(got, s)
		return s != syscall.SIGTERM
	})
	return slices.Compact(got), err
}

func TestSignalsAreEmitted(t *testing.T) {
	got, err := observe(t.Context())
	if want := []os.Signal{syscall.SIGWINCH, syscall.SIGTERM}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestCancel(t *testing.T) {
	for _, sigs := range [][]os.Signal{nil, {syscall.SIGWINCH}} {
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var canceller sync.WaitGroup
		canceller.Go(func() { cancel(enough) })
		err := signals.Observe(sigs...).Subscribe(ctx, func(s os.Signal) bool { t.Errorf("got %v", s); return true })
		canceller.Wait()
		if !errors.Is(err, enough) {
			t.Errorf("%v: ended with %v, want %v", sigs, err, enough)
		}
	}
}

func TestDefaultActionIsBackAfterwards(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TEST_DEFAULT_ACTION=1")
	out, err := cmd.CombinedOutput()
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGTERM || string(out) != "observed\n" {
		t.Errorf("got %v, %q; want the end by the second SIGTERM", err, out)
	}
}

// defaultAction is a process that observes one SIGTERM and is ended by the next.
func defaultAction() {
	if _, err := observe(context.Background()); err == nil {
		_, _ = os.Stdout.WriteString("observed\n")
	}
	kill(syscall.SIGTERM)
	time.Sleep(10 * time.Second)
	os.Exit(1)
}
