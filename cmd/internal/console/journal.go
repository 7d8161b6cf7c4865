package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// The fields of a journal entry that have a meaning to systemd, see
// systemd.journal-fields(7).
const (
	fieldMessage    = "MESSAGE"
	fieldPriority   = "PRIORITY"
	fieldIdentifier = "SYSLOG_IDENTIFIER"
)

// ownFields is how the names of our own fields begin.
const ownFields = "MGMT_"

// NewJournal returns a handler for systemd's journal, to be read through a Journal: in
// one Write it writes a line, which is a JSON object with the fields of an entry. The
// message is what a terminal shows, without the time, the level and differences. Each attribute is a
// field too: res is MGMT_RESOURCE, cause is MGMT_CAUSE. The message without them is
// MGMT_MESSAGE, and a difference of more than a line MGMT_DIFF.
func NewJournal(w io.Writer, level slog.Leveler) slog.Handler {
	return &entries{NewText(w, Options{Level: level}).(*text)}
}

type entries struct{ *text }

// WithAttrs implements slog.Handler.
func (h *entries) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &entries{h.text.WithAttrs(attrs).(*text)}
}

// WithGroup implements slog.Handler.
func (h *entries) WithGroup(name string) slog.Handler {
	return &entries{h.text.WithGroup(name).(*text)}
}

// Handle implements slog.Handler.
func (h *entries) Handle(_ context.Context, r slog.Record) error {
	l := lines.Get().(*line)
	defer lines.Put(l)
	l.Reset()
	l.color, l.quoted, l.below = false, "", ""
	h.facts(l, r)
	if l.quoted != "" {
		l.WriteByte('\n')
		l.quotes()
		l.Truncate(l.Len() - 1)
	}
	fields := map[string]string{
		fieldMessage:          l.String(),
		fieldPriority:         fmt.Sprint(int(priority(r.Level))),
		fieldIdentifier:       "mgmt",
		ownFields + "MESSAGE": r.Message,
	}
	for _, a := range h.given {
		field(fields, "", a)
	}
	r.Attrs(func(a slog.Attr) bool { field(fields, h.prefix, a); return true })
	entry, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err = h.w.Write(append(entry, '\n'))
	return err
}

// priority is the level as syslog(3) counts it.
func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// field adds an attribute to the fields of an entry.
func field(fields map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range v.Group() {
			field(fields, prefix, inner)
		}
		return
	}
	key := prefix + a.Key
	if key == "res" {
		key = "resource"
	}
	fields[ownFields+strings.Map(fieldLetter, key)] = v.String()
}

// fieldLetter makes a letter one that the name of a field may have.
func fieldLetter(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z':
		return r - 'a' + 'A'
	case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return r
	}
	return '_'
}

// Journal takes what a NewJournal has written, in whole lines, and sends it to the
// journal. A Write waits for the journal.
type Journal struct {
	// Send is journal.Send.
	Send func(message string, p journal.Priority, fields map[string]string) error

	// Stream is a stream to the journal, which takes the message alone if Send fails.
	Stream io.Writer
}

// Write implements io.Writer.
func (j Journal) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if err := j.entry(line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (j Journal) entry(line []byte) error {
	fields := map[string]string{}
	if err := json.Unmarshal(line, &fields); err != nil {
		return fmt.Errorf("not an entry of the journal: %w", err)
	}
	message := fields[fieldMessage]
	p := journal.PriInfo
	if text := fields[fieldPriority]; len(text) == 1 {
		p = journal.Priority(text[0] - '0')
	}
	delete(fields, fieldMessage)
	delete(fields, fieldPriority)
	if j.Send(message, p, fields) == nil {
		return nil
	}
	// As sd-daemon(3) has it, where each line is an entry.
	mark := fmt.Sprintf("<%d>", p)
	_, err := fmt.Fprintf(j.Stream, "%s%s\n", mark, strings.ReplaceAll(message, "\n", "\n"+mark))
	return err
}
