package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/streams"
)

// Snapshot is a Status at one moment, as it is printed or sent elsewhere as JSON. It
// does not change any more.
type Snapshot struct {
	// Graph is the name of the graph that is in force since Since. With Loaded false
	// there is none yet, and all else is empty.
	Graph  string    `json:"graph"`
	Loaded bool      `json:"loaded"`
	Since  time.Time `json:"since,omitzero"`

	// Converged says that nothing has been pending for the timeout, since the last
	// disturbance.
	Converged bool `json:"converged"`

	// Edges is how many the graph has.
	Edges int `json:"edges"`

	// Counts says how many resources are how.
	Counts Counts `json:"counts"`

	// The resources that are not right, in the order of the graph, up to the number that
	// Status.Snapshot was given for each list. Failed, Blocked, Waiting, Pending and
	// Differs are those of Counts.
	Failed   []ResourceStatus `json:"failed"`
	Blocked  []ResourceStatus `json:"blocked"`
	Waiting  []ResourceStatus `json:"waiting"`
	Flapping []ResourceStatus `json:"flapping"`
	Pending  []ResourceStatus `json:"pending"`
	Differs  []ResourceStatus `json:"differs"`

	// Gone are the failures of what is in the graph no more, such as what could not be
	// undone.
	Gone []string `json:"gone,omitempty"`
}

// Well reports whether no resource is in trouble: none has failed, is blocked, or waits
// for a value that does not come.
func (s *Snapshot) Well() bool { return s.Counts.Trouble == 0 && len(s.Gone) == 0 }

// Counts says how many resources are how. Each is counted once in Right, Differs,
// Failed, Blocked, Waiting, Pending or Hidden.
type Counts struct {
	// Resources is how many the graph has.
	Resources int `json:"resources"`

	// Right are as desired, to judge by their last run.
	Right int `json:"right"`

	// Differs would be changed, in a run that changes nothing.
	Differs int `json:"differs"`

	// Failed have failed, and wait for the next event.
	Failed int `json:"failed"`

	// Blocked have to run, but an ancestor has failed.
	Blocked int `json:"blocked"`

	// Waiting have to run, but were not sent a value that they need.
	Waiting int `json:"waiting"`

	// Pending run, will be tried again after a failure, or wait for their turn.
	Pending int `json:"pending"`

	// Hidden are in the graph and never run here.
	Hidden int `json:"hidden"`

	// Flapping are undone by something else again and again, however they are now.
	Flapping int `json:"flapping"`

	// Changed have changed something since they came into the graph.
	Changed int `json:"changed"`

	// Trouble are those to mend: they have failed, be it that they will be tried again,
	// are blocked, or wait, unless the run changes nothing.
	Trouble int `json:"trouble"`
}

// ResourceStatus is how a resource is, and what came of its last run.
type ResourceStatus struct {
	// Resource is its name: "file[/etc/motd]".
	Resource string `json:"resource"`

	// State is "right", "differs", "failed", "retrying", "blocked", "waiting", "pending",
	// "running" or "hidden".
	State string `json:"state"`

	// Undo says that it is there to undo what has left the graph.
	Undo bool `json:"undo,omitempty"`

	// By is the ancestor that blocks it, or who has not sent Output.
	By     string `json:"by,omitempty"`
	Output string `json:"output,omitempty"`

	// Error is the failure of the last run. It is tried again at RetryAt, if that is set.
	Error   string    `json:"error,omitempty"`
	RetryAt time.Time `json:"retry_at,omitzero"`

	// Last is the last run; nil if there was none.
	Last *LastRun `json:"last,omitempty"`

	// Repairs is how often it has changed something since it came into the graph.
	Repairs int `json:"repairs"`

	// Flapping is set if something else keeps undoing it.
	Flapping *FlappingStatus `json:"flapping,omitempty"`
}

// LastRun is what came of the last CheckApply of a resource.
type LastRun struct {
	Began    time.Time `json:"began"`
	Duration float64   `json:"duration_ms"` // in milliseconds
	Cause    CauseInfo `json:"cause"`

	// Changed says that something was not as desired. It was changed, unless Noop.
	Changed bool `json:"changed"`
	Noop    bool `json:"noop,omitempty"`

	// Changes are what, with secrets hidden and long texts cut. There may be more.
	Changes []sinks.Change `json:"changes,omitempty"`

	// Batch is how many resources were applied together with it, itself included.
	Batch int `json:"batch,omitempty"`
}

// Took is the duration.
func (l *LastRun) Took() time.Duration { return time.Duration(l.Duration * float64(time.Millisecond)) }

// CauseInfo is a Cause in words.
type CauseInfo struct {
	Kind     string `json:"kind"`
	Source   string `json:"source,omitempty"`
	Watch    string `json:"watch,omitempty"`
	Resource string `json:"resource,omitempty"`
}

// String is as Cause.String.
func (c CauseInfo) String() string {
	switch {
	case c.Resource != "":
		return c.Kind + " " + c.Resource
	case c.Watch != "":
		return c.Kind + " " + c.Source + " " + c.Watch
	case c.Source != "":
		return c.Kind + " " + c.Source + " all"
	}
	return c.Kind
}

// FlappingStatus tells of a resource that something else keeps undoing.
type FlappingStatus struct {
	Count int       `json:"count"` // repairs within the window
	Cause CauseInfo `json:"cause"`
	Until time.Time `json:"rests_until"`
}

// The bounds of what is kept of the changes of a run.
const (
	keptChanges = 10
	keptText    = 200 // bytes
)

// digest is what a Status keeps of changes: little, and no secrets.
func digest(changes []sinks.Change) []sinks.Change {
	if len(changes) == 0 {
		return nil
	}
	kept := make([]sinks.Change, min(len(changes), keptChanges))
	for i := range kept {
		kept[i] = changes[i].Shown()
		kept[i].From, kept[i].To = curtail(kept[i].From), curtail(kept[i].To)
	}
	return kept
}

// curtail is s, or a copy of its beginning and how much was cut.
func curtail(s string) string {
	if len(s) <= keptText {
		return s
	}
	cut := keptText
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s ... (%d bytes more)", s[:cut], len(s)-cut)
}

// Snapshot returns the status with up to most resources in each list. It is quick: if all
// resources are right it looks at none of them.
func (s *Status) Snapshot(most int) Snapshot {
	c := &s.counts
	snap := Snapshot{
		Loaded: s.Loaded, Since: s.since, Converged: s.Converged,
		Counts: Counts{
			Resources: s.Resources, Right: c[conditionRight], Differs: c[conditionDiffers], Failed: c[conditionFailed],
			Blocked: c[conditionBlocked], Waiting: c[conditionWaiting], Pending: c[conditionPending] + c[conditionRetrying],
			Hidden: c[conditionHidden], Flapping: len(s.flapping), Changed: s.changed, Trouble: s.trouble,
		},
		Failed: []ResourceStatus{}, Blocked: []ResourceStatus{}, Waiting: []ResourceStatus{},
		Flapping: []ResourceStatus{}, Pending: []ResourceStatus{}, Differs: []ResourceStatus{},
	}
	if s.graph != nil {
		snap.Graph, snap.Edges = s.graph.Name, len(s.graph.Edges)
	}
	lists := [conditions]*[]ResourceStatus{
		conditionPending: &snap.Pending, conditionRetrying: &snap.Pending, conditionDiffers: &snap.Differs,
		conditionFailed: &snap.Failed, conditionBlocked: &snap.Blocked, conditionWaiting: &snap.Waiting,
	}
	left := s.Resources - c[conditionRight] - c[conditionHidden]
	holders := s.holders()
	for i := range s.records {
		if left == 0 {
			break
		}
		list := lists[s.records[i].condition()]
		if list == nil {
			continue
		}
		left--
		if s.heldBack(int32(i), holders) {
			snap.Counts.Pending--
			snap.Counts.Blocked++
			snap.Counts.Trouble++
			list = &snap.Blocked
		}
		if len(*list) < most {
			*list = append(*list, s.resource(int32(i), holders))
		}
	}
	for _, v := range s.byPlace() {
		if i, ok := s.place(v); ok && len(snap.Flapping) < most {
			snap.Flapping = append(snap.Flapping, s.resource(i, holders))
		}
	}
	for v, err := range s.strays {
		snap.Gone = append(snap.Gone, v.String()+": "+describe(err))
	}
	slices.Sort(snap.Gone)
	return snap
}

// Resource tells how a resource of the graph is; false if it is not in the graph.
func (s *Status) Resource(v *Vertex) (ResourceStatus, bool) {
	i, ok := s.place(v)
	if !ok {
		return ResourceStatus{}, false
	}
	return s.resource(i, s.holders()), true
}

// holders returns, for those that come after a resource that has failed, or waits for a
// value, which one that is. A run tells of what is blocked only when nothing else is left to be done; whoever
// asks in between wants to know it, too.
func (s *Status) holders() map[int32]int32 {
	if s.counts[conditionFailed]+s.counts[conditionWaiting] == 0 || s.counts[conditionPending] == 0 {
		return nil
	}
	holds := func(i int32) bool {
		r := &s.records[i]
		c := r.condition()
		return c == conditionFailed || c == conditionWaiting && !r.content
	}
	by := map[int32]int32{}
	var queue []int32
	for i := range s.records {
		if holds(int32(i)) {
			queue = append(queue, int32(i))
		}
	}
	if s.out.start == nil {
		s.out = newAdjacency(s.graph)
	}
	for at := 0; at < len(queue); at++ {
		v := queue[at]
		for _, e := range s.out.edges(v) {
			to := s.graph.Edges[e].To
			if _, seen := by[to]; seen || holds(to) {
				continue
			}
			by[to] = v
			if first, ok := by[v]; ok {
				by[to] = first
			}
			queue = append(queue, to)
		}
	}
	return by
}

// heldBack says that a resource has to run, but can't, though nobody has told so yet.
func (s *Status) heldBack(i int32, holders map[int32]int32) bool {
	_, held := holders[i]
	return held && s.records[i].condition() == conditionPending && !s.records[i].running
}

func (s *Status) resource(i int32, holders map[int32]int32) ResourceStatus {
	rec, v := &s.records[i], s.graph.Vertices[i]
	out := ResourceStatus{Resource: v.String(), State: rec.condition().String(), Undo: v.Undo, Repairs: int(rec.changes)}
	switch {
	case rec.running:
		out.State = "running"
	case s.heldBack(i, holders):
		out.State, out.By = conditionBlocked.String(), s.graph.Vertices[holders[i]].String()
	}
	if rec.began != 0 {
		out.Last = &LastRun{
			Began: time.Unix(0, rec.began).UTC(), Duration: float64(rec.took/1000) / 1000, Cause: causeInfo(*rec.cause),
		}
	}
	if p := rec.more; p != nil {
		switch rec.after {
		case conditionBlocked, conditionWaiting:
			out.By, out.Output = p.by.String(), p.output
		}
		if p.err != nil {
			out.Error = describe(p.err)
		}
		if !p.retry.IsZero() {
			out.RetryAt = p.retry.UTC()
		}
		if out.Last != nil {
			out.Last.Changed, out.Last.Noop, out.Last.Changes, out.Last.Batch = p.changed, p.noop, p.changes, p.batch
		}
	}
	if f, ok := s.flapping[v]; ok {
		out.Flapping = &FlappingStatus{f.count, causeInfo(f.cause), f.until.UTC()}
	}
	return out
}

func causeInfo(c Cause) CauseInfo {
	out := CauseInfo{Kind: c.Kind, Source: c.Source}
	if c.Watch != nil {
		out.Watch = c.Watch.String()
	}
	if c.Vertex != nil {
		out.Resource = c.Vertex.String()
	}
	return out
}

// describe is an error as people are told it. A panic is a fault of the program, and is
// called that.
func describe(err error) string {
	if p, ok := errors.AsType[*streams.PanicError](err); ok {
		return fmt.Sprintf("internal error: %v; please report it", p.Value)
	}
	return err.Error()
}
