package wire

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// record is a line of a log on its way.
type record struct {
	Time    time.Time  `json:"time"`
	Level   slog.Level `json:"level"`
	Message string     `json:"msg"`
	Attrs   []attr     `json:"attrs,omitempty"`
	Dropped int        `json:"dropped,omitempty"` // lines before this one
}

// attr is an attribute, whose groups are in its key: "a.b.key".
type attr struct {
	Key  string `json:"key"`
	Text string `json:"text,omitempty"`
	Int  *int64 `json:"int,omitempty"`
	Bool *bool  `json:"bool,omitempty"`
}

func (a attr) slog() slog.Attr {
	switch {
	case a.Int != nil:
		return slog.Int64(a.Key, *a.Int)
	case a.Bool != nil:
		return slog.Bool(a.Key, *a.Bool)
	}
	return slog.String(a.Key, a.Text)
}

// flatten appends a, or what is in it if it is a group.
func flatten(attrs []attr, prefix string, a slog.Attr) []attr {
	v := a.Value.Resolve()
	flat := attr{Key: prefix + a.Key}
	switch v.Kind() {
	case slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			attrs = flatten(attrs, prefix, member)
		}
		return attrs
	case slog.KindInt64:
		n := v.Int64()
		flat.Int = &n
	case slog.KindBool:
		b := v.Bool()
		flat.Bool = &b
	default:
		flat.Text = v.String()
	}
	if a.Key == "" {
		return attrs
	}
	return append(attrs, flat)
}

// handler sends a log over a line.
type handler struct {
	line   *line
	level  slog.Leveler
	prefix string
	attrs  []attr
}

var _ slog.Handler = handler{}

// Enabled implements slog.Handler.
func (h handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level.Level() }

// Handle implements slog.Handler. It never waits and never fails: what there is no room
// for is dropped, and counted.
func (h handler) Handle(_ context.Context, r slog.Record) error {
	attrs := slices.Clip(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.prefix, a)
		return true
	})
	h.line.log(&record{Time: r.Time, Level: r.Level, Message: r.Message, Attrs: attrs})
	return nil
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = slices.Clip(h.attrs)
	for _, a := range attrs {
		h.attrs = flatten(h.attrs, h.prefix, a)
	}
	return h
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	if name != "" {
		h.prefix += name + "."
	}
	return h
}

// tell gives r to log.
func tell(log *slog.Logger, r *record) {
	ctx := context.Background()
	if r.Dropped > 0 {
		log.Warn("lines of the peer's log dropped", "lines", r.Dropped)
	}
	if !log.Enabled(ctx, r.Level) {
		return
	}
	line := slog.NewRecord(r.Time, r.Level, r.Message, 0)
	for _, a := range r.Attrs {
		line.AddAttrs(a.slog())
	}
	_ = log.Handler().Handle(ctx, line)
}
