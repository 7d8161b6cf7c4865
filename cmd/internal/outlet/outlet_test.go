package outlet_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/cmd/internal/outlet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// valve is a writer that blocks until it is opened.
type valve struct {
	open chan struct{}
	mu   sync.Mutex
	got  bytes.Buffer
}

func (v *valve) Write(p []byte) (int, error) {
	<-v.open
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.got.Write(p)
}

func (v *valve) String() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.got.String()
}

func gap(n uint64) []byte { return fmt.Appendf(nil, "(%d missing)\n", n) }

func TestOrder(t *testing.T) {
	v := &valve{open: make(chan struct{})}
	close(v.open)
	o := outlet.New(v, outlet.Options{Bound: 1 << 20, Gap: gap})
	var want strings.Builder
	for i := range 20_000 {
		line := fmt.Sprintf("line %d\n", i)
		want.WriteString(line)
		fmt.Fprint(o, line)
	}
	if !o.Close(time.Minute) {
		t.Fatal("Close says that not all was taken")
	}
	if v.String() != want.String() {
		t.Errorf("got %d bytes, want the %d that were written, in their order", len(v.String()), want.Len())
	}
}

func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{open: make(chan struct{})}
		o := outlet.New(v, outlet.Options{Bound: 80, Gap: gap})
		write := func(from, to int) {
			for i := from; i < to; i++ {
				fmt.Fprintf(o, "line %03d.\n", i) // 10 bytes
			}
			synctest.Wait()
		}
		write(0, 1) // this one is already being written
		write(1, 30)
		close(v.open)
		synctest.Wait()
		write(30, 32)
		if !o.Close(time.Minute) {
			t.Error("Close says that not all was taken")
		}
		var want strings.Builder
		for i := range 8 {
			fmt.Fprintf(&want, "line %03d.\n", i)
		}
		want.WriteString("(22 missing)\nline 030.\nline 031.\n")
		if v.String() != want.String() {
			t.Errorf("got:\n%swant:\n%s", v.String(), want.String())
		}
	})
}

func TestGapAtTheEndAndFinalLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{open: make(chan struct{})}
		o := outlet.New(v, outlet.Options{Bound: 20, Gap: gap})
		for i := range 5 {
			fmt.Fprintf(o, "line %03d.\n", i)
		}
		o.Final([]byte("the end\n"))
		fmt.Fprint(o, "dropped\n")
		go func() { time.Sleep(time.Second); close(v.open) }()
		if !o.Close(2 * time.Second) {
			t.Error("Close has not waited for the reader")
		}
		if want := "line 000.\nline 001.\n(3 missing)\nthe end\n(1 missing)\n"; v.String() != want {
			t.Errorf("got %q, want %q", v.String(), want)
		}
	})
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &valve{open: make(chan struct{})}
		o := outlet.New(v, outlet.Options{Bound: 20, Gap: gap})
		fmt.Fprint(o, "line\n")
		start := time.Now()
		if o.Close(time.Second) {
			t.Error("Close says that all was taken, which nobody has read")
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("Close took %v, want 1s", took)
		}
		close(v.open)
	})
}

func TestBrokenPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	failed := make(chan error, 2)
	o := outlet.New(w, outlet.Options{Bound: 1 << 10, Gap: gap, Failed: func(err error) { failed <- err }})
	fmt.Fprint(o, "line\n")
	if err := <-failed; !strings.Contains(err.Error(), "broken pipe") {
		t.Errorf("Failed got %v, want a broken pipe", err)
	}
	for range 1000 {
		fmt.Fprint(o, "line\n")
	}
	if o.Close(time.Minute) {
		t.Error("Close says that all was taken")
	}
	if len(failed) > 0 {
		t.Errorf("Failed was called again, with %v", <-failed)
	}
}

type short struct{}

func (short) Write(p []byte) (int, error) { return len(p) / 2, nil }

func TestShortWrite(t *testing.T) {
	failed := make(chan error, 1)
	o := outlet.New(short{}, outlet.Options{Bound: 1 << 10, Gap: gap, Failed: func(err error) { failed <- err }})
	fmt.Fprint(o, "line\n")
	if err := <-failed; !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Failed got %v, want io.ErrShortWrite", err)
	}
	o.Close(time.Minute)
}

func TestConcurrentWriters(t *testing.T) {
	v := &valve{open: make(chan struct{})}
	close(v.open)
	o := outlet.New(v, outlet.Options{Bound: 1 << 20, Gap: gap})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				fmt.Fprint(o, "0123456789\n")
			}
		})
	}
	wg.Wait()
	o.Close(time.Minute)
	if got := strings.Count(v.String(), "0123456789\n"); got != 8000 {
		t.Errorf("%d whole lines have arrived, want 8000", got)
	}
}

func BenchmarkWrite(b *testing.B) {
	o := outlet.New(io.Discard, outlet.Options{Bound: 16 << 20, Gap: gap})
	line := bytes.Repeat([]byte("x"), 300)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = o.Write(line)
	}
	o.Close(time.Minute)
}

func ExampleOutlet() {
	o := outlet.New(os.Stdout, outlet.Options{Bound: 1 << 20, Gap: func(n uint64) []byte {
		return fmt.Appendf(nil, "%d lines are missing here\n", n)
	}})
	fmt.Fprintln(o, "one line")
	fmt.Fprintln(o, "and another")
	o.Close(time.Second)
	// Output:
	// one line
	// and another
}
