// Package command is the source of what commands print: each line of a long-running
// command, such as one that follows a log, is an event.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/command/process"
	"github.com/mgmtproject/mgmt/streams"
)

// Name is the name of the source.
const Name = "command"

// MaxLine is how many bytes of a line an event has at most.
const MaxLine = 200

// Watch is a command whose lines are events. Lines makes it; it is a process.Command
// whose lists are strings, so that two of them can be compared.
type Watch struct {
	cmd, shell, dir, user, group string

	args, env string // each item is followed by a zero byte, which none can hold
}

// Lines returns the watch that fires for each line that c prints on its standard
// output. It starts c when it is added. When c ends with status 0, the watch is over:
// there are no more events, whatever c has left in the background, and no failure. When
// c ends in another way, the watch has failed; c is not started again until somebody
// adds it again. Standard input of c is empty, and c is ended with its whole process
// group when the watch is removed.
func Lines(c process.Command) sources.Watch {
	w := Watch{cmd: c.Cmd, shell: c.Shell, dir: c.Dir, user: c.User, group: c.Group}
	for _, a := range c.Args {
		w.args += a + "\x00"
	}
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		w.env += k + "=" + c.Env[k] + "\x00"
	}
	return w
}

// Source implements sources.Watch.
func (Watch) Source() string { return Name }

// String implements sources.Watch.
func (w Watch) String() string { return w.command().String() }

// command is the inverse of Lines.
func (w Watch) command() process.Command {
	c := process.Command{Cmd: w.cmd, Shell: w.shell, Dir: w.dir, User: w.user, Group: w.group, Args: items(w.args)}
	for _, e := range items(w.env) {
		k, v, _ := strings.Cut(e, "=")
		if c.Env == nil {
			c.Env = make(map[string]string)
		}
		c.Env[k] = v
	}
	return c
}

func items(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\x00"), "\x00")
}

// errClosed is the error of Add when the source has ended.
var errClosed = errors.New("the source of commands has ended")

// Source serves watches made by Lines. A consumer that is slower than a command holds
// the command up, as a slow reader of a pipe does: lines are not dropped.
type Source struct {
	events chan sources.Event

	mu      sync.Mutex // not held while an event is sent
	running map[Watch]*run
	closed  bool
	all     sync.WaitGroup // the goroutines of the commands, removed ones too
}

var _ sources.Source = (*Source)(nil)

// run is a watch while it is served.
type run struct {
	count int
	over  bool // its command has ended by itself
	end   context.CancelFunc
}

// New returns a source without watches. Subscribing to its Events, and ending that,
// closes it.
func New() *Source {
	return &Source{events: make(chan sources.Event, 64), running: make(map[Watch]*run)}
}

// Name implements sources.Source.
func (s *Source) Name() string { return Name }

// Add implements sources.Source. When it returns, the command has been started, and it
// fails if that can't be done. A command that has ended by itself is started again.
func (s *Source) Add(watch sources.Watch) error {
	w, ok := watch.(Watch)
	if !ok {
		return fmt.Errorf("the source %q serves the lines of commands, not a %T", Name, watch)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	r := s.running[w]
	if r != nil && !r.over {
		r.count++
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := lines{emit: func(line string) bool {
		return streams.Send(ctx, s.events, sources.Event{Source: Name, Watch: w, What: line})
	}}
	var stderr process.Capture
	p, err := process.Start(w.command(), &out, &stderr)
	if err != nil {
		cancel()
		return fmt.Errorf("command %w", err)
	}
	if r == nil {
		r = &run{}
		s.running[w] = r
	} else {
		r.end() // nobody needs to hear of the failure that this mends
	}
	r.count, r.over, r.end = r.count+1, false, cancel
	s.all.Go(func() {
		defer cancel()
		err := p.Wait(ctx)
		out.flush()
		s.ended(ctx, w, r, process.WithLastLine(err, &stderr))
	})
	return nil
}

// ended notes the end of a command, and says so if it has failed. A command that was
// removed has ended as it should.
func (s *Source) ended(ctx context.Context, w Watch, r *run, err error) {
	s.mu.Lock()
	removed := ctx.Err() != nil
	if !removed {
		r.over = true
	}
	s.mu.Unlock()
	if err != nil && !removed {
		streams.Send(ctx, s.events, sources.Event{Source: Name, Watch: w, Err: fmt.Errorf("command %w", err)})
	}
}

// Remove implements sources.Source. It does not wait for the end of the command.
func (s *Source) Remove(watch sources.Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, _ := watch.(Watch)
	r := s.running[w]
	if r == nil {
		return
	}
	if r.count--; r.count == 0 {
		r.end()
		delete(s.running, w)
	}
}

// Events implements sources.Source. When its subscription ends, it ends all commands,
// those that are added, and waits for them.
func (s *Source) Events() streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		defer s.close()
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case e := <-s.events:
				if !emit(e) {
					return nil
				}
			}
		}
	})
}

func (s *Source) close() {
	s.mu.Lock()
	s.closed = true
	for _, r := range s.running {
		r.end()
	}
	clear(s.running)
	s.mu.Unlock()
	s.all.Wait()
}

// lines cuts what is written to it into lines and keeps of each what an event shows,
// so that a line may be of any length.
type lines struct {
	emit  func(line string) bool
	shown []byte // of the line that has begun
	begun bool
}

// Write implements io.Writer. It fails when nobody wants the lines any more.
func (l *lines) Write(b []byte) (int, error) {
	n := len(b)
	for {
		text, rest, ended := bytes.Cut(b, []byte{'\n'})
		l.shown = append(l.shown, text[:min(len(text), MaxLine-len(l.shown))]...)
		l.begun = l.begun || len(b) > 0
		if !ended {
			return n, nil
		}
		if !l.flush() {
			return 0, io.ErrClosedPipe
		}
		b = rest
	}
}

// flush emits the line that has begun.
func (l *lines) flush() bool {
	if !l.begun {
		return true
	}
	text := strings.TrimSpace(strings.ToValidUTF8(string(l.shown), ""))
	if text == "" {
		text = "empty line"
	}
	l.shown, l.begun = l.shown[:0], false
	return l.emit(text)
}
