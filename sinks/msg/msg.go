// Package msg sends messages to the log, and on to the systemd journal and to syslog.
package msg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"log/syslog"
	"maps"
	"slices"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// Spec is the msg resource.
var Spec = sinks.Spec{
	Kind: "msg",
	New:  func() sinks.Config { return &Config{Priority: "info"} },
}

// tag is by what the journal and syslog know us.
const tag = "mgmt"

// Config is a message. It is sent whenever the resource is looked at, which without
// watches is at the start and after a change of what it depends on.
type Config struct {
	// Body is the message; the default is the name of the resource.
	Body string `param:"body" shown:"true"`

	// Priority is emerg, alert, crit, err, warning, notice, info or debug, in capital or
	// small letters.
	Priority string `param:"priority"`

	// Fields are further facts, which go into the log and the journal. In the journal their
	// names are in capital letters; they consist of letters, digits and underscores,
	// begin with a letter and have at most 64 characters.
	Fields map[string]string `param:"fields" shown:"true"`

	// Journal sends the message to the systemd journal too. It is an error if there is none.
	Journal bool `param:"journal"`

	// Syslog sends the message to the syslog service of this host too. It is an error if
	// there is none.
	Syslog bool `param:"syslog"`
}

// priorities are those of syslog(3), the most urgent first, so that the index is the
// number, and the levels at which they are logged.
var priorities = []struct {
	name  string
	level slog.Level
}{
	{"emerg", slog.LevelError},
	{"alert", slog.LevelError},
	{"crit", slog.LevelError},
	{"err", slog.LevelError},
	{"warning", slog.LevelWarn},
	{"notice", slog.LevelInfo},
	{"info", slog.LevelInfo},
	{"debug", slog.LevelDebug},
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	m := &message{body: c.Body, journal: c.Journal, syslog: c.Syslog, opts: opts}
	if m.body == "" {
		m.body = name
	}
	for i, p := range priorities {
		if strings.EqualFold(p.name, c.Priority) {
			m.priority, m.level = i, p.level
			m.fields = map[string]string{"SYSLOG_IDENTIFIER": tag}
		}
	}
	if m.fields == nil {
		return nil, &sinks.ParamError{Param: "priority", Err: fmt.Errorf(
			"%q is none of emerg, alert, crit, err, warning, notice, info, debug", c.Priority)}
	}
	taken := map[string]string{"MESSAGE": "body", "PRIORITY": "priority"}
	for _, key := range slices.Sorted(maps.Keys(c.Fields)) {
		name := strings.ToUpper(key)
		switch other := taken[name]; {
		case !validField(name):
			return nil, &sinks.ParamError{Param: "fields", Err: fmt.Errorf(
				"the name %q does not consist of at most 64 letters, digits and underscores, the first a letter", key)}
		case other != "":
			return nil, &sinks.ParamError{Param: "fields", Err: fmt.Errorf("the journal takes %q for the same as %s", key, other)}
		}
		taken[name] = fmt.Sprintf("%q", key)
		m.fields[name] = c.Fields[key]
		m.attrs = append(m.attrs, slog.String(key, c.Fields[key]))
	}
	return m, nil
}

// validField says whether the journal takes a name, by systemd.journal-fields(7).
func validField(name string) bool {
	for i, c := range []byte(name) {
		letter := 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return 0 < len(name) && len(name) <= 64
}

type message struct {
	body            string
	priority        int
	level           slog.Level
	attrs           []slog.Attr       // for the log
	fields          map[string]string // for the journal
	journal, syslog bool
	opts            sinks.Options
}

var (
	_ sinks.Actor  = (*message)(nil)
	_ sinks.Waiter = (*message)(nil)
)

// Acts implements sinks.Actor.
func (m *message) Acts() bool { return true }

// Waits implements sinks.Waiter: a journal that is behind makes its senders wait.
func (m *message) Waits() bool { return m.journal || m.syslog }

// Watches implements sinks.Resource.
func (m *message) Watches() []sources.Watch { return nil }

// CheckApply implements sinks.Resource.
func (m *message) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	if !apply {
		return sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "body", From: "(not sent)", To: m.body}}}, nil
	}
	out := sinks.Outcome{Changed: true} // the log tells which
	m.opts.Logger().LogAttrs(ctx, m.level, m.body, m.attrs...)
	if !m.journal && !m.syslog {
		return out, nil
	}
	return out, m.send(ctx)
}

// send returns when the message has been sent, or ctx is done. Neither service can be
// told to hurry: if one hangs, what waits for it ends with it.
func (m *message) send(ctx context.Context) error {
	sent := make(chan error, 1)
	go func() {
		err, second := m.toJournal(), m.toSyslog()
		if err != nil && second != nil {
			err = fmt.Errorf("%w; %w", err, second)
		}
		sent <- cmp.Or(err, second)
	}()
	select {
	case err := <-sent:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting until the message has been sent: %w", context.Cause(ctx))
	}
}

func (m *message) toJournal() error {
	if !m.journal {
		return nil
	}
	if err := journal.Send(m.body, journal.Priority(m.priority), m.fields); err != nil {
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			err = errno // the rest is about sockets without a name
		}
		return fmt.Errorf("sending to the systemd journal at /run/systemd/journal/socket: %w", err)
	}
	return nil
}

func (m *message) toSyslog() error {
	if !m.syslog {
		return nil
	}
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.Priority(m.priority), tag)
	if err != nil {
		return fmt.Errorf("sending to syslog at /dev/log, /var/run/syslog or /var/run/log: %w", err)
	}
	_, err = w.Write([]byte(m.body))
	return errors.Join(err, w.Close())
}
