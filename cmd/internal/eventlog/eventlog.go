// Package eventlog turns the results of a run into the event stream: one JSON object a
// line, for programs. The format is described in docs/events.md, and its version is in
// the first line of every stream.
package eventlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/outlet"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

// Name and Version of the format, in the first line.
const (
	Name    = "mgmt-events"
	Version = 1
)

const (

	// Bound is how many bytes wait for a slow reader before lines are dropped.
	Bound = 16 << 20

	// maxText is how many bytes of each text of a change are in the stream.
	maxText = 8 << 10

	// maxProblems is how many problems of a rejected graph are in the stream.
	maxProblems = 1000
)

// Log writes the event stream. Its methods may be called by several goroutines.
type Log struct {
	out *outlet.Outlet

	mu  sync.Mutex
	buf bytes.Buffer
	enc *json.Encoder
	seq uint64 // of the newest line
}

// New returns a Log in front of w, which may block without holding anybody up. Failed
// is told why nothing can be written any more: the reader has gone.
func New(w io.Writer, failed func(error)) *Log { return NewBounded(w, Bound, failed) }

// NewBounded is New with another bound than Bound.
func NewBounded(w io.Writer, bound int, failed func(error)) *Log {
	l := &Log{}
	l.enc = json.NewEncoder(&l.buf)
	l.enc.SetEscapeHTML(false)
	l.out = outlet.New(w, outlet.Options{Bound: bound, Gap: l.gap, Failed: failed})
	return l
}

// Header is what the first line tells about the run.
type Header struct {
	Program string `json:"program"` // name and version
	PID     int    `json:"pid"`
	Host    string `json:"host"`
	File    string `json:"file"`
	Noop    bool   `json:"noop"`
}

// Exit is what the last line tells about the end of the run.
type Exit struct {
	// Code is the exit status of the program.
	Code int `json:"code"`

	// Reason is "converged", "signal", "max-runtime", "graph" or "error".
	Reason string `json:"reason"`

	// Signal is the name of the signal that ended the run.
	Signal string `json:"signal,omitempty"`

	// Error says what went wrong beyond the failures of resources.
	Error string `json:"error,omitempty"`

	// Failures are the failures that are outstanding, and the resources that they block.
	Failures []string `json:"failures"`
}

type head struct {
	Type string    `json:"type"`
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
}

func (h *head) number(seq uint64) { h.Seq = seq }

// numbered is a line: the sequence number is put in when its turn has come.
type numbered interface{ number(seq uint64) }

type (
	headerLine struct {
		Stream  string `json:"stream"`
		Version int    `json:"version"`
		head
		Header
	}
	graphLine struct {
		head
		Graph     string `json:"graph"`
		Resources int    `json:"resources"`
		Edges     int    `json:"edges"`
		Swap      swap   `json:"swap"`
	}
	swap struct {
		Added   int `json:"added"`
		Changed int `json:"changed"`
		Removed int `json:"removed"`
		Kept    int `json:"kept"`
	}
	rejectedLine struct {
		head
		Problems []problem `json:"problems"`
		More     int       `json:"more,omitempty"`
	}
	problem struct {
		File    string `json:"file,omitempty"`
		Line    int32  `json:"line,omitempty"`
		Column  int32  `json:"column,omitempty"`
		Message string `json:"message"`
		Hint    string `json:"hint,omitempty"`
	}
	eventLine struct {
		head
		Resource string `json:"resource,omitempty"`
		Source   string `json:"source,omitempty"`
		Watch    string `json:"watch,omitempty"`
		What     string `json:"what,omitempty"`
		Error    string `json:"error,omitempty"`
	}
	cause struct {
		Kind     string `json:"kind"`
		Source   string `json:"source,omitempty"`
		Watch    string `json:"watch,omitempty"`
		Resource string `json:"resource,omitempty"`
	}
	startLine struct {
		head
		Resource string `json:"resource"`
		Cause    cause  `json:"cause"`
		Refresh  bool   `json:"refresh"`
	}
	endLine struct {
		head
		Resource  string         `json:"resource"`
		Cause     cause          `json:"cause"`
		Refresh   bool           `json:"refresh"`
		Duration  milliseconds   `json:"duration_ms"`
		Changed   bool           `json:"changed"`
		Changes   []sinks.Change `json:"changes,omitempty"`
		Noop      bool           `json:"noop,omitempty"`
		Left      bool           `json:"left,omitempty"`
		Error     string         `json:"error,omitempty"`
		WillRetry bool           `json:"will_retry,omitempty"`
		Retry     *milliseconds  `json:"retry_ms,omitempty"`
		Batch     int            `json:"batch,omitempty"`
	}
	blockedLine struct {
		head
		Resource string `json:"resource"`
		By       string `json:"by"`
	}
	waitingLine struct {
		head
		Resource string `json:"resource"`
		By       string `json:"by"`
		Output   string `json:"output"`
		Noop     bool   `json:"noop,omitempty"`
	}
	flappingLine struct {
		head
		Resource string       `json:"resource"`
		Cause    cause        `json:"cause"`
		Count    int          `json:"count"`
		Rest     milliseconds `json:"rest_ms"`
	}
	resourceLine struct {
		head
		Resource string `json:"resource"`
	}
	plainLine   struct{ head }
	droppedLine struct {
		head
		Count uint64 `json:"count"`
	}
	exitLine struct {
		head
		Exit
	}
)

// milliseconds is a duration with a precision of a microsecond.
type milliseconds time.Duration

// MarshalJSON implements json.Marshaler.
func (d milliseconds) MarshalJSON() ([]byte, error) {
	us := time.Duration(d).Microseconds()
	return fmt.Appendf(nil, "%d.%03d", us/1000, us%1000), nil
}

// Begin writes the first line.
func (l *Log) Begin(at time.Time, h Header) {
	l.write(&headerLine{Stream: Name, Version: Version, head: newHead("stream", at), Header: h})
}

// Observe writes the line of r. It does not wait for the reader.
func (l *Log) Observe(r pipeline.Result) {
	if n := lineOf(r); n != nil {
		l.write(n)
	}
}

// Reject writes that a graph is not accepted: for the first one, of which there is no
// Result.
func (l *Log) Reject(at time.Time, err error) {
	l.Observe(pipeline.Result{Kind: pipeline.GraphRejected, Time: at, Err: err})
}

// End writes the last line, and waits no longer than limit until all is taken.
func (l *Log) End(at time.Time, e Exit, limit time.Duration) {
	if e.Failures == nil {
		e.Failures = []string{}
	}
	l.mu.Lock()
	l.encode(&exitLine{head: newHead("exit", at), Exit: e})
	l.out.Final(l.buf.Bytes())
	l.mu.Unlock()
	l.out.Close(limit)
}

// Close ends the Log without a last line, and waits no longer than limit until all is
// taken.
func (l *Log) Close(limit time.Duration) { l.out.Close(limit) }

func newHead(kind string, at time.Time) head { return head{Type: kind, Time: at.UTC()} }

func (l *Log) write(n numbered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.encode(n)
	_, _ = l.out.Write(l.buf.Bytes())
}

// encode puts n into buf, with the next number. The caller holds mu.
func (l *Log) encode(n numbered) {
	l.seq++
	n.number(l.seq)
	l.buf.Reset()
	_ = l.enc.Encode(n) // a bytes.Buffer takes everything, and the lines hold nothing that JSON can't
}

// gap is the line in the place of n that were dropped: it has the number of the last of
// them. It is called by the outlet while the next line is being written, with mu held.
func (l *Log) gap(n uint64) []byte {
	line, _ := json.Marshal(&droppedLine{head{Type: "dropped", Seq: l.seq - 1, Time: time.Now().UTC()}, n})
	return append(line, '\n')
}

func lineOf(r pipeline.Result) numbered {
	h := newHead(string(r.Kind), r.Time)
	switch r.Kind {
	case pipeline.GraphSwapped:
		return &graphLine{h, r.Graph.Name, len(r.Graph.Vertices), len(r.Graph.Edges), swap(r.Swap)}
	case pipeline.GraphRejected:
		return rejected(h, r.Err)
	case pipeline.Woken:
		e := &eventLine{head: h, Resource: name(r.Vertex), Source: r.Event.Source, What: r.Event.What}
		if r.Event.Watch != nil {
			e.Watch = r.Event.Watch.String()
		}
		if r.Event.Err != nil {
			e.Error = r.Event.Err.Error()
		}
		return e
	case pipeline.Started:
		return &startLine{h, name(r.Vertex), causeOf(r.Cause), r.Refresh}
	case pipeline.Finished:
		return end(h, r)
	case pipeline.Blocked:
		return &blockedLine{h, name(r.Vertex), name(r.By)}
	case pipeline.Waiting:
		return &waitingLine{h, name(r.Vertex), name(r.By), r.Output, r.Noop}
	case pipeline.Flapping:
		return &flappingLine{h, name(r.Vertex), causeOf(r.Cause), r.Count, milliseconds(r.RetryAfter)}
	case pipeline.Steady, pipeline.SwapDelayed:
		return &resourceLine{h, name(r.Vertex)}
	case pipeline.Converged:
		return &plainLine{h}
	}
	return nil
}

func name(v *pipeline.Vertex) string {
	if v == nil {
		return ""
	}
	return v.String()
}

func causeOf(c pipeline.Cause) cause {
	out := cause{Kind: c.Kind, Source: c.Source, Resource: name(c.Vertex)}
	if c.Watch != nil {
		out.Watch = c.Watch.String()
	}
	return out
}

func end(h head, r pipeline.Result) *endLine {
	h.Time = h.Time.Add(r.Took) // the result has when it began
	e := &endLine{
		head: h, Resource: name(r.Vertex), Cause: causeOf(r.Cause), Refresh: r.Refresh, Duration: milliseconds(r.Took),
		Changed: r.Outcome.Changed, Noop: r.Noop, Left: r.Left, WillRetry: r.WillRetry, Batch: r.Batch,
	}
	for _, c := range r.Outcome.Changes {
		c = c.Shown()
		c.From, c.To = bounded(c.From), bounded(c.To)
		e.Changes = append(e.Changes, c)
	}
	if r.Err != nil {
		e.Error = console.Describe(r.Err)
	}
	if r.WillRetry {
		e.Retry = (*milliseconds)(&r.RetryAfter)
	}
	return e
}

// bounded is s, or its beginning and how much was cut.
func bounded(s string) string {
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s\n(%d bytes more)\n", s[:cut], len(s)-cut)
}

func rejected(h head, err error) *rejectedLine {
	line := &rejectedLine{head: h}
	problems, ok := errors.AsType[pipeline.Problems](err)
	if !ok {
		line.Problems = []problem{{Message: console.Describe(err)}}
		return line
	}
	if more := len(problems) - maxProblems; more > 0 {
		problems, line.More = problems[:maxProblems], more
	}
	for _, p := range problems {
		line.Problems = append(line.Problems, problem{p.File, p.Pos.Line, p.Pos.Column, p.Message, p.Hint})
	}
	return line
}
