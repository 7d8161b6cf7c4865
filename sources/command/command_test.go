package command_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/command"
	"github.com/mgmtproject/mgmt/sources/command/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script watches the lines of a shell script.
func script(format string, args ...any) sources.Watch {
	return command.Lines(process.Command{Cmd: fmt.Sprintf(format, args...), Shell: "/bin/sh"})
}

// observed is a source whose events are received one by one. It is closed at the end
// of the test.
type observed struct {
	*command.Source
	t      *testing.T
	events chan sources.Event
	close  func()
}

func observe(t *testing.T) *observed {
	t.Helper()
	o := &observed{Source: command.New(), t: t, events: make(chan sources.Event)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- o.Events().Subscribe(ctx, func(e sources.Event) bool {
			select {
			case o.events <- e:
			case <-ctx.Done():
			}
			return true
		})
	}()
	closed := false
	o.close = func() {
		if closed {
			return
		}
		closed = true
		cancel()
		if err := receive(t, done); !errors.Is(err, context.Canceled) {
			t.Errorf("Events ended with %v, want %v", err, context.Canceled)
		}
	}
	t.Cleanup(o.close)
	return o
}

func (o *observed) add(w sources.Watch) {
	o.t.Helper()
	if err := o.Add(w); err != nil {
		o.t.Fatal(err)
	}
}

// line is the next event, which must be a line of w.
func (o *observed) line(w sources.Watch) string {
	o.t.Helper()
	e := receive(o.t, o.events)
	if e.Source != "command" || e.Watch != w || e.Err != nil {
		o.t.Fatalf("got event %v, want a line of %v", e, w)
	}
	return e.What
}

// failure is the text of the next event, which must be a failure of w.
func (o *observed) failure(w sources.Watch) string {
	o.t.Helper()
	e := receive(o.t, o.events)
	if e.Source != "command" || e.Watch != w || e.Err == nil {
		o.t.Fatalf("got event %v, want a failure of %v", e, w)
	}
	return e.Err.Error()
}

// quiet checks that there is no event left but those of a new watch.
func (o *observed) quiet() {
	o.t.Helper()
	w := script("echo quiet # %p", new(int))
	o.add(w)
	if got := o.line(w); got != "quiet" {
		o.t.Errorf("got %q", got)
	}
	o.Remove(w)
}

// process is the number that a script has printed on its next line.
func (o *observed) process(w sources.Watch) int {
	o.t.Helper()
	s := o.line(w)
	pid, err := strconv.Atoi(s)
	if err != nil {
		o.t.Fatalf("got line %q, want a number", s)
	}
	return pid
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	tests := []struct {
		name  string
		print string
		want  []string
	}{
		{"each line is an event", "a\nb c\n", []string{"a", "b c"}},
		{"a last line needs no end", "a\nb", []string{"a", "b"}},
		{"an empty line counts", "\na\n\n", []string{"empty line", "a", "empty line"}},
		{"blanks around a line are not shown", " a\r\n\tb \n \n", []string{"a", "b", "empty line"}},
		{"nothing is no line", "", nil},
		{"a long line is cut", long + "\n" + long[:command.MaxLine] + "\nb\n" + long, []string{long[:command.MaxLine], long[:command.MaxLine], "b", long[:command.MaxLine]}},
		{"a long line is cut at a character", "x" + strings.Repeat("é", 200) + "\n", []string{"x" + strings.Repeat("é", 99)}},
		{"bytes that are no text are left out", "a\xffb\n\xff\n", []string{"ab", "empty line"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "print")
			if err := os.WriteFile(file, []byte(tt.print), 0o644); err != nil {
				t.Fatal(err)
			}
			o := observe(t)
			w := script("cat %s; echo $$", file)
			if tt.print != "" && !strings.HasSuffix(tt.print, "\n") {
				w = script("cat %s", file)
			}
			o.add(w)
			for _, want := range tt.want {
				if got := o.line(w); got != want {
					t.Errorf("got line %q, want %q", got, want)
				}
			}
			if tt.print == "" || strings.HasSuffix(tt.print, "\n") {
				gone(t, o.process(w))
			}
			o.quiet()
		})
	}
}

func TestWhatRuns(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name    string
		command process.Command
		want    string
	}{
		{"words", process.Command{Cmd: `echo 'a  b'`}, "a  b"},
		{"arguments", process.Command{Cmd: "printf", Args: []string{"%s|", "", "a b", ""}}, "|a b||"},
		{"one empty argument", process.Command{Cmd: "printf", Args: []string{"%s|", ""}}, "|"},
		{"a script", process.Command{Cmd: `echo "$1"`, Shell: "/bin/sh", Args: []string{"a  b"}}, "a  b"},
		{"a working directory", process.Command{Cmd: "pwd", Dir: dir}, dir},
		{"an environment", process.Command{Cmd: `echo "$A|$B"`, Shell: "/bin/sh", Env: map[string]string{"A": "x=y", "B": ""}}, "x=y|"},
		{"standard input is empty", process.Command{Cmd: "cat; echo end", Shell: "/bin/sh"}, "end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t)
			w := command.Lines(tt.command)
			if w != command.Lines(tt.command) {
				t.Error("the watches of equal commands differ")
			}
			o.add(w)
			if got := o.line(w); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("another user", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("needs root: only root may run commands as others")
		}
		w := command.Lines(process.Command{Cmd: "id -un", User: "nobody", Dir: "/"})
		o := observe(t)
		o.add(w)
		if got := o.line(w); got != "nobody" {
			t.Errorf("got %q", got)
		}
	})
}

func TestFailure(t *testing.T) {
	tests := []struct {
		name   string
		script string
		want   string
	}{
		{"a status", "exit 3", `command "exit 3" exited with status 3`},
		{"a status and a message", "echo a >&2; echo b >&2; exit 1", `command "echo a >&2; echo b >&2; exit 1" exited with status 1: b`},
		{"a signal", "kill -15 $$", `command "kill -15 $$" was killed by SIGTERM`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t)
			w := script("%s", tt.script)
			o.add(w)
			if got := o.failure(w); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
			o.quiet()
		})
	}
}

func TestFailedWatchIsServedAgain(t *testing.T) {
	o := observe(t)
	runs := filepath.Join(t.TempDir(), "runs")
	w := script("echo x >>%s; echo $(wc -l <%[1]s); test $(wc -l <%[1]s) != 1 || exit 1; sleep 1000", runs)
	o.add(w)
	o.add(w) // by another resource
	if got := o.line(w); got != "1" {
		t.Errorf("got line %q of the first run", got)
	}
	o.failure(w)
	o.quiet()
	for range 2 { // both hear of the failure
		o.Remove(w)
		o.add(w)
	}
	if got := o.line(w); got != "2" {
		t.Errorf("got line %q of the second run", got)
	}
	o.quiet()
	if b, _ := os.ReadFile(runs); string(b) != "x\nx\n" {
		t.Errorf("it ran %d times, want 2", len(b)/2)
	}
}

func TestAddStartsAgainWhatIsOver(t *testing.T) {
	o := observe(t)
	w := script("echo $$")
	o.add(w)
	first := o.process(w)
	gone(t, first)
	o.quiet()
	o.add(w)
	if second := o.process(w); second == first {
		t.Errorf("both runs are process %d", first)
	}
}

func TestStartFails(t *testing.T) {
	tests := []struct {
		name    string
		command process.Command
		want    string
		is      error
	}{
		{"no such program", process.Command{Cmd: "no-such-program -f"}, `command "no-such-program": executable file not found in $PATH`, exec.ErrNotFound},
		{"no such directory", process.Command{Cmd: "true", Dir: "/no/such"}, `command "true": working directory: stat /no/such: no such file or directory`, fs.ErrNotExist},
		{"no such user", process.Command{Cmd: "true", User: "no-such-user"}, `command "true": there is no user "no-such-user"`, nil},
		{"an open quote", process.Command{Cmd: "echo 'a"}, `command "echo 'a" can't be split into words: unterminated single-quoted string (with a shell or with args it is not split)`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := observe(t)
			w := command.Lines(tt.command)
			err := o.Add(w)
			if err == nil || err.Error() != tt.want || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got error %v, want %s", err, tt.want)
			}
			o.Remove(w) // it was not counted
			o.quiet()
		})
	}
}

type stranger struct{}

func (stranger) Source() string { return "command" }
func (stranger) String() string { return "stranger" }

func TestAnotherSortOfWatch(t *testing.T) {
	o := observe(t)
	if err := o.Add(stranger{}); err == nil || !strings.Contains(err.Error(), "not a command_test.stranger") {
		t.Errorf("got %v", err)
	}
	o.Remove(stranger{})
}

func TestEqualWatchesAreOneProcess(t *testing.T) {
	o := observe(t)
	w := script("echo $$; sleep 1000 & wait")
	o.add(w)
	o.add(w)
	pid := o.process(w)
	o.quiet()
	o.Remove(w)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("one of two has removed it, and it does not run: %v", err)
	}
	o.Remove(w)
	gone(t, pid)
	o.quiet() // its end is no failure
	o.Remove(w)
}

func TestRemoveBeforeEventsIsSubscribed(t *testing.T) {
	s := command.New()
	file := filepath.Join(t.TempDir(), "pid")
	w := script("echo $$ >%s; yes", file)
	if err := s.Add(w); err != nil {
		t.Fatal(err)
	}
	var pid int
	waitFor(t, "the script to run", func() bool {
		b, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return pid != 0
	})
	s.Remove(w)
	gone(t, pid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Events().Subscribe(ctx, func(sources.Event) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestNobodyListens adds a failing watch twice while the events pile up.
func TestNobodyListens(t *testing.T) {
	s := command.New()
	dir := t.TempDir()
	flood, fails := script("yes"), script("echo x >>%s/fails; exit 1", dir)
	if err := s.Add(flood); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 20; {
		if err := s.Add(fails); err != nil {
			t.Fatal(err)
		}
		b, _ := os.ReadFile(dir + "/fails")
		if len(b) >= 2*n {
			n++ // it has run once more: the Add before was after its end
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 1)
	go func() { done <- s.Events().Subscribe(ctx, func(sources.Event) bool { return true }) }()
	if err := receive(t, done); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSlowConsumerLosesNothing(t *testing.T) {
	const count = 20_000
	s := command.New()
	w := script("seq %d", count)
	if err := s.Add(w); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := s.Events().Subscribe(t.Context(), func(e sources.Event) bool {
		n++
		if e.What != strconv.Itoa(n) {
			t.Errorf("got line %v, want %d", e, n)
			return false
		}
		if n == 100 {
			time.Sleep(time.Second) // longer than output is waited for after the end
		}
		return n < count
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEndlessLineTakesNoMemory(t *testing.T) {
	o := observe(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w := script("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo $$")
	o.add(w)
	if got := o.line(w); got != strings.Repeat("x", command.MaxLine) {
		t.Errorf("got %d bytes", len(got))
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 5<<20 {
		t.Errorf("a line of 50 MB made us allocate %d bytes", grown)
	}
}

func TestEndOfTheSubscriptionEndsAll(t *testing.T) {
	o := observe(t)
	pids := make(map[sources.Watch]int)
	for _, text := range []string{
		"echo $$; sleep 1000 & wait",
		"trap '' TERM; echo $$; while :; do sleep 1000; done",
		"echo $$; yes", // waits for us to read
	} {
		w := script("%s", text)
		o.add(w)
		pids[w] = o.process(w)
	}
	start := time.Now()
	o.close()
	if d := time.Since(start); d > process.Grace+time.Second {
		t.Errorf("closing took %v", d)
	}
	for w, pid := range pids {
		if err := syscall.Kill(-pid, 0); err == nil && !onlyZombies(t, pid) {
			t.Errorf("somebody of %v is left", w)
		}
	}
	if err := o.Add(script("true")); err == nil || err.Error() != "the source of commands has ended" {
		t.Errorf("Add on a closed source: got %v", err)
	}
	for w := range pids {
		o.Remove(w)
	}
}

func TestConsumerMayAddAndRemove(t *testing.T) {
	s := command.New()
	first, second := script("echo first; yes"), script("echo second; yes")
	if err := s.Add(first); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := s.Events().Subscribe(t.Context(), func(e sources.Event) bool {
		switch e.What {
		case "first":
			if err := s.Add(second); err != nil {
				t.Error(err)
			}
			s.Remove(first)
		case "second":
			return false
		}
		n++
		return n < 100_000
	})
	if err != nil || n == 100_000 {
		t.Errorf("got %v after %d events", err, n)
	}
}

func TestManyWatches(t *testing.T) {
	const count = 100
	o := observe(t)
	var got []string
	for i := range count {
		o.add(script("echo %d; exec sleep 1000", i))
	}
	for range count {
		got = append(got, receive(t, o.events).What)
	}
	slices.Sort(got)
	if got = slices.Compact(got); len(got) != count {
		t.Errorf("got lines of %d watches, want %d", len(got), count)
	}
}

func TestName(t *testing.T) {
	if got := command.New().Name(); got != script("true").Source() {
		t.Errorf("the source is named %q", got)
	}
}

// gone waits for the end of a process.
func gone(t *testing.T, pid int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("process %d to end", pid), func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
}

// onlyZombies is true if nobody of a process group lives.
func onlyZombies(t *testing.T, pgid int) bool {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	return !slices.ContainsFunc(stats, func(file string) bool {
		b, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		return len(f) > 2 && f[2] == strconv.Itoa(pgid) && f[0] != "Z"
	})
}

func receive[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(20 * time.Second):
		t.Fatal("waited too long")
	}
	return v
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}
