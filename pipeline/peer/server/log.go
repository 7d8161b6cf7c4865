package server

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// ExitCode is with what the process ends when the etcd server in it can't go on, such as
// when its disk can't be written to. Why is the last that it logs.
const ExitCode = 75

// Zap returns a logger as etcd wants one that writes to log, at once. A client of etcd is
// given one, since it would otherwise write to standard error.
func Zap(log *slog.Logger) *zap.Logger {
	return zap.New(&core{handler: log.Handler()})
}

// waiting is how many records of etcd may wait for whoever takes them, and noise for how
// long a warning that has been logged is not repeated.
const (
	waiting = 256
	noise   = 10 * time.Second
)

// bridge carries what etcd logs to a slog.Logger. It never makes etcd wait: a server whose
// log nobody reads has to go on all the same. Warnings that repeat are logged once in a
// while.
type bridge struct {
	log     *slog.Logger
	records chan slog.Record
	ended   chan struct{}

	mu      sync.Mutex
	dropped int
	closed  bool
	ending  bool // what goes wrong from now on belongs to the end
	last    map[string]*repeated
}

type repeated struct {
	since time.Time
	times int
}

func newBridge(log *slog.Logger) *bridge {
	b := &bridge{
		log:     log,
		records: make(chan slog.Record, waiting),
		ended:   make(chan struct{}),
		last:    map[string]*repeated{},
	}
	go b.carry()
	return b
}

func (b *bridge) carry() {
	defer close(b.ended)
	for r := range b.records {
		_ = b.log.Handler().Handle(context.Background(), r) // there is nobody else to tell
		if n := b.takeDropped(); n > 0 {
			b.log.Warn("records of etcd's log were dropped", "records", n)
		}
	}
}

func (b *bridge) takeDropped() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.dropped
	b.dropped = 0
	return n
}

// end has all that follows logged as debug: it is about connections that are closed.
func (b *bridge) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ending = true
}

// close returns when all has been carried over, or when nobody takes it for a second. What
// etcd logs later is lost.
func (b *bridge) close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.records)
	}
	b.mu.Unlock()
	select {
	case <-b.ended:
	case <-time.After(time.Second):
	}
}

// Enabled implements slog.Handler.
func (b *bridge) Enabled(ctx context.Context, level slog.Level) bool {
	return b.log.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (b *bridge) Handle(_ context.Context, r slog.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	if b.ending && !b.log.Enabled(context.Background(), slog.LevelDebug) {
		return nil
	}
	if b.ending {
		r.Level = slog.LevelDebug
	}
	if r.Level == slog.LevelWarn && !b.news(&r) {
		return nil
	}
	select {
	case b.records <- r:
	default:
		b.dropped++
	}
	return nil
}

// news tells whether a warning is to be logged now, and adds to it how often it wasn't.
// Two are the same if they differ in numbers alone, such as in ports.
func (b *bridge) news(r *slog.Record) bool {
	what := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			what += a.Value.String()
		}
		return true
	})
	what = strings.Map(func(c rune) rune {
		if '0' <= c && c <= '9' {
			return -1
		}
		return c
	}, what)
	l, known := b.last[what]
	if !known {
		if len(b.last) > waiting {
			clear(b.last)
		}
		l = &repeated{}
		b.last[what] = l
	}
	if known && r.Time.Sub(l.since) < noise {
		l.times++
		return false
	}
	if l.times > 0 {
		r.AddAttrs(slog.Int("repeated", l.times))
	}
	*l = repeated{since: r.Time}
	return true
}

// WithAttrs implements slog.Handler; a core keeps its fields itself.
func (b *bridge) WithAttrs([]slog.Attr) slog.Handler { return b }

// WithGroup implements slog.Handler.
func (b *bridge) WithGroup(string) slog.Handler { return b }

// logger is what etcd logs to.
func (b *bridge) logger() *zap.Logger {
	return zap.New(&core{handler: b}, zap.WithFatalHook(fatal{b}))
}

// fatal ends the process after a record of a fatal error, as etcd expects it, but with a
// status of its own, and when the record has been carried over: or has not within a second.
type fatal struct{ bridge *bridge }

// OnWrite implements zapcore.CheckWriteHook.
func (f fatal) OnWrite(*zapcore.CheckedEntry, []zapcore.Field) {
	f.bridge.close()
	os.Exit(ExitCode)
}

// core is a zapcore.Core that makes slog records of entries.
type core struct {
	handler slog.Handler
	fields  []zapcore.Field
}

// quiet are parts of warnings and errors of etcd that say nothing to whoever runs a mesh.
var quiet = []string{
	"Running http and grpc server on single port",
	"simple token is not cryptographically signed", // certificates are used in place of tokens
	"check file permission",                        // nobody gets to what is below Dir
	"Failed to detect schema version",              // for the first moments of a mesh
	"failed to update storage version",
	"still pending configuration changes to apply", // what hasten asks for too early
	"is unpromotable and can not campaign",
	"rejecting promote learner: learner is not ready", // whoever asks is told as well
	"rejecting member add request",
	"failed to apply request",
	"bootstrap failed", // this one is told to whoever starts the server
}

func levelOf(e zapcore.Entry) slog.Level {
	isQuiet := func(part string) bool { return strings.Contains(e.Message, part) }
	switch {
	case e.Level == zapcore.DebugLevel:
		return slog.LevelDebug - 4
	case e.Level == zapcore.InfoLevel:
		return slog.LevelDebug
	case e.Level < zapcore.DPanicLevel && slices.ContainsFunc(quiet, isQuiet):
		return slog.LevelDebug
	case e.Level == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// Enabled implements zapcore.LevelEnabler.
func (c *core) Enabled(l zapcore.Level) bool {
	return c.handler.Enabled(context.Background(), levelOf(zapcore.Entry{Level: l}))
}

// With implements zapcore.Core.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{handler: c.handler, fields: append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check implements zapcore.Core.
func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.handler.Enabled(context.Background(), levelOf(e)) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	r := slog.NewRecord(e.Time, levelOf(e), e.Message, 0)
	r.AddAttrs(slog.String("from", "etcd"))
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		values := zapcore.NewMapObjectEncoder()
		f.AddTo(values)
		for name, v := range values.Fields {
			r.AddAttrs(slog.Any(name, v))
		}
	}
	return c.handler.Handle(context.Background(), r)
}

// Sync implements zapcore.Core.
func (c *core) Sync() error { return nil }
