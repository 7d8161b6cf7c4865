package eventlog_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/cmd/internal/eventlog"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)

func vertices() (*pipeline.Graph, *pipeline.Vertex, *pipeline.Vertex) {
	g := &pipeline.Graph{Name: "site"}
	a, b := g.Add("file", "/a", nil), g.Add("exec", "b", nil)
	g.Connect(a, b, true)
	return g, a, b
}

func TestLines(t *testing.T) {
	g, a, b := vertices()
	every := sources.Interval{Every: 5 * time.Second}
	for _, c := range []struct {
		name   string
		result pipeline.Result
		want   string // after kind, seq and time
	}{
		{"a graph is in force", pipeline.Result{Kind: pipeline.GraphSwapped, Graph: g, Swap: pipeline.Swap{Added: 1, Changed: 2, Removed: 3, Kept: 4}},
			`{"type":"graph",#,"graph":"site","resources":2,"edges":1,"swap":{"added":1,"changed":2,"removed":3,"kept":4}}`},
		{"a graph is rejected, with all problems", pipeline.Result{Kind: pipeline.GraphRejected, Err: pipeline.Problems{
			{File: "g.yaml", Pos: pipeline.Position{Line: 3, Column: 5}, Message: "unknown <kind>", Hint: "hm"}, {Message: "empty"},
		}}, `{"type":"rejected",#,"problems":[{"file":"g.yaml","line":3,"column":5,"message":"unknown <kind>","hint":"hm"},{"message":"empty"}]}`},
		{"a graph can't be read", pipeline.Result{Kind: pipeline.GraphRejected, Err: errors.New("no such file")},
			`{"type":"rejected",#,"problems":[{"message":"no such file"}]}`},
		{"an event names what fired", pipeline.Result{Kind: pipeline.Woken, Vertex: a, Event: sources.Event{Source: "timer", Watch: every, What: "tick"}},
			`{"type":"event",#,"resource":"file[/a]","source":"timer","watch":"every 5s","what":"tick"}`},
		{"an event of a whole source has no watch", pipeline.Result{Kind: pipeline.Woken, Vertex: a, Event: sources.Event{Source: "inotify", What: "overflow"}},
			`{"type":"event",#,"resource":"file[/a]","source":"inotify","what":"overflow"}`},
		{"a watch has failed", pipeline.Result{Kind: pipeline.Woken, Vertex: a, Event: sources.Event{Source: "timer", Watch: every, Err: errors.New("gone")}},
			`{"type":"event",#,"resource":"file[/a]","source":"timer","watch":"every 5s","error":"gone"}`},
		{"a start has its cause", pipeline.Result{Kind: pipeline.Started, Vertex: b, Refresh: true, Cause: pipeline.Cause{Kind: "predecessor", Vertex: a}},
			`{"type":"start",#,"resource":"exec[b]","cause":{"kind":"predecessor","resource":"file[/a]"},"refresh":true}`},
		{"an end that found all right", pipeline.Result{Kind: pipeline.Finished, Vertex: a, Cause: pipeline.Cause{Kind: "event", Source: "timer", Watch: every}},
			`{"type":"end",#,"resource":"file[/a]","cause":{"kind":"event","source":"timer","watch":"every 5s"},"refresh":false,"duration_ms":0.000,"changed":false}`},
		{"an end with changes, of which secrets are hidden", pipeline.Result{Kind: pipeline.Finished, Vertex: a, Cause: pipeline.Cause{Kind: "swap"}, Noop: true, Outcome: sinks.Outcome{Changed: true, Changes: []sinks.Change{
			{Field: "mode", From: "0600", To: "0644"}, {Field: "content", From: "hunter1", To: "hunter2", Secret: true},
		}}}, `{"type":"end",#,"resource":"file[/a]","cause":{"kind":"swap"},"refresh":false,"duration_ms":0.000,"changed":true,"changes":[{"field":"mode","from":"0600","to":"0644"},{"field":"content","from":"(secret)","to":"(secret)","secret":true}],"noop":true}`},
		{"an end with a failure that is tried again at once", pipeline.Result{Kind: pipeline.Finished, Vertex: a, Cause: pipeline.Cause{Kind: "retry"}, Left: true, Err: errors.New("it broke"), WillRetry: true},
			`{"type":"end",#,"resource":"file[/a]","cause":{"kind":"retry"},"refresh":false,"duration_ms":0.000,"changed":false,"left":true,"error":"it broke","will_retry":true,"retry_ms":0.000}`},
		{"a panic has no stack", pipeline.Result{Kind: pipeline.Finished, Vertex: a, Cause: pipeline.Cause{Kind: "swap"}, Err: &streams.PanicError{Value: "boom", Stack: []byte("goroutine 1")}},
			`{"type":"end",#,"resource":"file[/a]","cause":{"kind":"swap"},"refresh":false,"duration_ms":0.000,"changed":false,"error":"internal error: boom; please report it"}`},
		{"a resource is blocked", pipeline.Result{Kind: pipeline.Blocked, Vertex: b, By: a}, `{"type":"blocked",#,"resource":"exec[b]","by":"file[/a]"}`},
		{"a resource waits for a value", pipeline.Result{Kind: pipeline.Waiting, Vertex: b, By: a, Output: "content"},
			`{"type":"waiting",#,"resource":"exec[b]","by":"file[/a]","output":"content"}`},
		{"a resource waits for a value that no run without changes sends", pipeline.Result{Kind: pipeline.Waiting, Vertex: b, By: a, Output: "content", Noop: true},
			`{"type":"waiting",#,"resource":"exec[b]","by":"file[/a]","output":"content","noop":true}`},
		{"something keeps undoing a resource", pipeline.Result{Kind: pipeline.Flapping, Vertex: a, Count: 7, RetryAfter: 2500 * time.Millisecond, Cause: pipeline.Cause{Kind: "event", Source: "timer", Watch: every}},
			`{"type":"flapping",#,"resource":"file[/a]","cause":{"kind":"event","source":"timer","watch":"every 5s"},"count":7,"rest_ms":2500.000}`},
		{"nothing undoes it any more", pipeline.Result{Kind: pipeline.Steady, Vertex: a}, `{"type":"steady",#,"resource":"file[/a]"}`},
		{"a swap waits for a resource", pipeline.Result{Kind: pipeline.SwapDelayed, Vertex: a}, `{"type":"delayed",#,"resource":"file[/a]"}`},
		{"an end of one of several that were applied together", pipeline.Result{Kind: pipeline.Finished, Vertex: a, Cause: pipeline.Cause{Kind: "swap"}, Batch: 3},
			`{"type":"end",#,"resource":"file[/a]","cause":{"kind":"swap"},"refresh":false,"duration_ms":0.000,"changed":false,"batch":3}`},
		{"all has converged", pipeline.Result{Kind: pipeline.Converged}, `{"type":"converged",#}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			l := eventlog.New(&b, nil)
			c.result.Time = noon
			l.Observe(c.result)
			l.End(noon, eventlog.Exit{}, time.Minute)
			got, _, _ := strings.Cut(b.String(), "\n")
			if want := strings.Replace(c.want, "#", `"seq":1,"time":"2026-07-01T12:00:00.123456789Z"`, 1); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestEndIsTimedAtTheEnd(t *testing.T) {
	var b bytes.Buffer
	_, a, _ := vertices()
	l := eventlog.New(&b, nil)
	l.Observe(pipeline.Result{Kind: pipeline.Finished, Time: noon, Took: 1234567 * time.Nanosecond, Vertex: a})
	l.End(noon, eventlog.Exit{}, time.Minute)
	if got := b.String(); !strings.Contains(got, `"time":"2026-07-01T12:00:00.124691356Z"`) || !strings.Contains(got, `"duration_ms":1.234,`) {
		t.Errorf("got %s", got)
	}
}

func TestTextsAreBounded(t *testing.T) {
	var b bytes.Buffer
	_, a, _ := vertices()
	l := eventlog.New(&b, nil)
	l.Observe(pipeline.Result{Kind: pipeline.Finished, Vertex: a, Outcome: sinks.Outcome{
		Changed: true, Changes: []sinks.Change{{Field: "content", From: strings.Repeat("é", 10_000)}},
	}})
	l.End(noon, eventlog.Exit{}, time.Minute)
	var line struct{ Changes []sinks.Change }
	if err := json.NewDecoder(&b).Decode(&line); err != nil {
		t.Fatal(err)
	}
	if got := line.Changes[0].From; len(got) > 9000 || !strings.HasSuffix(got, "é\n(11808 bytes more)\n") {
		t.Errorf("%d bytes, that end with %q", len(got), got[len(got)-30:])
	}
}

func TestManyProblemsAreCounted(t *testing.T) {
	var b bytes.Buffer
	l := eventlog.New(&b, nil)
	l.Reject(noon, make(pipeline.Problems, 1234))
	l.End(noon, eventlog.Exit{}, time.Minute)
	var line struct {
		Problems []any
		More     int
	}
	if err := json.NewDecoder(&b).Decode(&line); err != nil {
		t.Fatal(err)
	}
	if len(line.Problems) != 1000 || line.More != 234 {
		t.Errorf("got %d problems and %d more", len(line.Problems), line.More)
	}
}

// valve is a writer that blocks until it is opened.
type valve struct {
	open chan struct{}
	bytes.Buffer
}

func (v *valve) Write(p []byte) (int, error) {
	<-v.open
	return v.Buffer.Write(p)
}

func TestDropsAreInTheStream(t *testing.T) {
	v := &valve{open: make(chan struct{})}
	l := eventlog.NewBounded(v, 2000, nil)
	l.Begin(noon, eventlog.Header{})
	for range 1000 {
		l.Observe(pipeline.Result{Kind: pipeline.Converged, Time: noon})
	}
	close(v.open)
	l.End(noon, eventlog.Exit{Code: 1, Reason: "signal", Signal: "SIGTERM"}, time.Minute)

	var seq, dropped uint64
	var last string
	for s := bufio.NewScanner(&v.Buffer); s.Scan(); {
		var line struct {
			Kind       string
			Seq, Count uint64
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatal(err, s.Text())
		}
		if line.Seq != seq+1+max(line.Count, 1)-1 {
			t.Errorf("number %d comes after %d, with %d dropped", line.Seq, seq, line.Count)
		}
		seq, dropped, last = line.Seq, dropped+line.Count, s.Text()
	}
	if dropped == 0 || seq != 1002 {
		t.Errorf("%d lines were dropped and the last has number %d, want some and 1002", dropped, seq)
	}
	if !strings.Contains(last, `"type":"exit"`) || !strings.HasSuffix(last, `"code":1,"reason":"signal","signal":"SIGTERM","failures":[]}`) {
		t.Errorf("the last line is %s", last)
	}
}

func BenchmarkEnd(b *testing.B) {
	_, a, _ := vertices()
	l := eventlog.New(io.Discard, nil)
	r := pipeline.Result{
		Kind: pipeline.Finished, Time: time.Now(), Vertex: a, Took: time.Millisecond, Cause: pipeline.Cause{Kind: "event", Source: "timer", Watch: sources.Interval{Every: time.Second}},
		Outcome: sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "content", From: "i am f1\n", To: "i was f1\n"}, {Field: "mode", From: "0600", To: "0644"}}},
	}
	b.ReportAllocs()
	for b.Loop() {
		l.Observe(r)
	}
	l.End(noon, eventlog.Exit{}, time.Minute)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func ExampleLog() {
	g := &pipeline.Graph{Name: "site"}
	motd := g.Add("file", "/etc/motd", nil)
	l := eventlog.New(os.Stdout, func(err error) { fmt.Fprintln(os.Stderr, err) })
	l.Begin(noon, eventlog.Header{Program: "mgmt 1.0", PID: 7, Host: "a", File: "site.yaml"})
	l.Observe(pipeline.Result{Kind: pipeline.Finished, Time: noon, Vertex: motd, Cause: pipeline.Cause{Kind: "swap"}})
	l.End(noon, eventlog.Exit{Reason: "converged"}, time.Second)
	// Output:
	// {"stream":"mgmt-events","version":1,"type":"stream","seq":1,"time":"2026-07-01T12:00:00.123456789Z","program":"mgmt 1.0","pid":7,"host":"a","file":"site.yaml","noop":false}
	// {"type":"end","seq":2,"time":"2026-07-01T12:00:00.123456789Z","resource":"file[/etc/motd]","cause":{"kind":"swap"},"refresh":false,"duration_ms":0.000,"changed":false}
	// {"type":"exit","seq":3,"time":"2026-07-01T12:00:00.123456789Z","code":0,"reason":"converged","failures":[]}
}
