// Package console is the program's log: what a run does, told to people on a terminal
// or, as JSON, to programs that collect logs. It exists beside log/slog's own handlers
// because a person wants one short, aligned line for each change, and the difference
// that it makes below it.
package console

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// messageWidth is the width of the column with the message.
const messageWidth = len("graph loaded")

const (
	faint  = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	reset  = "\x1b[0m"
)

// bare are the attributes whose meaning is evident without their names.
var bare = []string{"res", "graph", "event", "changes", "error"}

// Options of a text handler.
type Options struct {
	// Level is the least that is printed; nil stands for info.
	Level slog.Leveler

	// Color marks levels and differences for a terminal.
	Color bool
}

// NewText returns a handler that writes one line for a record, in one Write: the time,
// the level, the message, and the attributes. What can't be printed is escaped, so that
// nothing found on the host can steer the terminal.
func NewText(w io.Writer, opts Options) slog.Handler {
	if opts.Level == nil {
		opts.Level = slog.LevelInfo
	}
	return &text{w: w, opts: opts, mu: new(sync.Mutex)}
}

type text struct {
	opts   Options
	prefix string // of the names of attributes: the groups
	given  []slog.Attr

	mu *sync.Mutex // one for a handler and those derived from it
	w  io.Writer
}

// Enabled implements slog.Handler.
func (h *text) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.opts.Level.Level()
}

// WithAttrs implements slog.Handler.
func (h *text) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.given = slices.Clip(h.given)
	for _, a := range attrs {
		a.Key = h.prefix + a.Key
		with.given = append(with.given, a)
	}
	return &with
}

// WithGroup implements slog.Handler.
func (h *text) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	with := *h
	with.prefix += name + "."
	return &with
}

var lines = sync.Pool{New: func() any { return new(line) }}

// Handle implements slog.Handler.
func (h *text) Handle(_ context.Context, r slog.Record) error {
	l := lines.Get().(*line)
	defer lines.Put(l)
	l.Reset()
	l.color, l.quoted, l.below = h.opts.Color, "", ""
	if !r.Time.IsZero() {
		l.painted(faint, r.Time.Format("15:04:05.000"))
		l.WriteByte(' ')
	}
	l.level(r.Level)
	h.facts(l, r)
	l.WriteByte('\n')
	l.quotes()
	l.diff("")

	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(l.Bytes())
	return err
}

// facts writes the message and the attributes.
func (h *text) facts(l *line, r slog.Record) {
	l.clean(r.Message)
	l.pad(messageWidth - utf8.RuneCountInString(r.Message))
	for _, a := range h.given {
		l.attr("", a)
	}
	r.Attrs(func(a slog.Attr) bool { l.attr(h.prefix, a); return true })
	l.Truncate(len(bytes.TrimRight(l.Bytes(), " ")))
}

// line is a log line in the making.
type line struct {
	bytes.Buffer
	color  bool
	quoted string // what goes right below the line, in lines
	below  Diff   // what goes below that
}

func (l *line) pad(n int) {
	for range n {
		l.WriteByte(' ')
	}
}

func (l *line) painted(color, s string) {
	if !l.color {
		l.WriteString(s)
		return
	}
	l.WriteString(color)
	l.WriteString(s)
	l.WriteString(reset)
}

func (l *line) level(level slog.Level) {
	color := faint
	switch {
	case level >= slog.LevelError:
		color = red
	case level >= slog.LevelWarn:
		color = yellow
	case level >= slog.LevelInfo:
		color = green
	}
	name := level.String()
	l.painted(color, name)
	l.pad(6 - len(name))
}

func (l *line) attr(prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range v.Group() {
			l.attr(prefix, inner)
		}
		return
	}
	switch special := v.Any().(type) {
	case Diff:
		l.below += special
		return
	case aside:
		return
	}
	l.WriteString("  ")
	if key := prefix + a.Key; !slices.Contains(bare, key) {
		l.painted(faint, key+"=")
		l.value(v, true)
		return
	}
	if a.Key == "error" {
		var own string
		own, l.quoted = apart(v.String(), l.quoted)
		v = slog.StringValue(own)
	}
	l.value(v, false)
}

// apart splits an error from the lines in it that begin with a tab: those are what somebody
// else has said, such as a program that has failed. They are added to the ones before.
func apart(s, before string) (own, quoted string) {
	if !strings.Contains(s, "\n\t") {
		return s, before
	}
	var said, rest strings.Builder
	said.WriteString(before)
	for one := range strings.Lines(s) {
		if strings.HasPrefix(one, "\t") {
			said.WriteString(strings.TrimSuffix(one, "\n"))
			said.WriteByte('\n')
		} else {
			rest.WriteString(one)
		}
	}
	return strings.TrimSuffix(rest.String(), "\n"), said.String()
}

// quotes writes the lines of others.
func (l *line) quotes() {
	for one := range strings.Lines(l.quoted) {
		l.tabbed(strings.TrimSuffix(one, "\n"))
		l.WriteByte('\n')
	}
}

// tabbed writes s on one line, with its tabs, and with what is not printable escaped.
func (l *line) tabbed(s string) {
	for i, part := range strings.Split(s, "\t") {
		if i > 0 {
			l.WriteByte('\t')
		}
		l.clean(part)
	}
}

func (l *line) value(v slog.Value, quote bool) {
	s := v.String()
	switch v.Kind() {
	case slog.KindDuration:
		s = Round(v.Duration()).String()
	case slog.KindTime:
		s = v.Time().Format(time.RFC3339Nano)
	}
	if quote && (s == "" || strings.ContainsAny(s, " =\"\n\t")) {
		s = strconv.Quote(s)
	}
	l.clean(s)
}

// joined joins the lines of a text, of which some may be quoted behind a tab.
var joined = strings.NewReplacer(":\n\t", ": ", "\n\t", "; ", "\n", "; ")

// Line is s on one line, with whatever is not printable escaped.
func Line(s string) string {
	var l line
	l.clean(s)
	return l.String()
}

// clean writes s on one line, with whatever is not printable escaped.
func (l *line) clean(s string) {
	if printable(s) {
		l.WriteString(s)
		return
	}
	s = joined.Replace(strings.TrimRight(s, "\n"))
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			l.WriteString(`\x`)
			l.WriteString(strconv.FormatUint(uint64(s[i])>>4, 16))
			l.WriteString(strconv.FormatUint(uint64(s[i])&15, 16))
		case unicode.IsPrint(r):
			l.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			l.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// diff writes the differences that go below the line, each line behind indent.
func (l *line) diff(indent string) {
	if l.below == "" {
		return
	}
	for one := range strings.SplitSeq(strings.TrimSuffix(string(l.below), "\n"), "\n") {
		color := ""
		switch {
		case strings.HasPrefix(one, "+"):
			color = green
		case strings.HasPrefix(one, "-"):
			color = red
		case strings.HasPrefix(one, "@@"):
			color = cyan
		}
		l.WriteString(indent)
		if color != "" && l.color {
			l.WriteString(color)
		}
		l.tabbed(one)
		if color != "" && l.color {
			l.WriteString(reset)
		}
		l.WriteByte('\n')
	}
}

// Round is d with as many digits as a person wants to read.
func Round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}
