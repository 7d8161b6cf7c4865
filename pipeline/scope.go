package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

// A mesh has converged when all its hosts that ask for it are quiet at the same time. Each
// of them keeps a key that says whether it is, and up to which revision it has taken in
// what others export. The first by name that sees all of them quiet writes the decision,
// on the condition that none of those keys has been written since, nor any export that one
// of them has not taken in. So all agree, and nobody leaves while something is on its way.

// convergedKey holds the last decision.
const convergedKey = mesh.SharedPrefix + "converged"

// calm is what a host says of itself.
type calm struct {
	Quiet bool `json:"quiet"`

	// Seen is the revision up to which it has taken in exports; 0 for one that collects
	// nothing.
	Seen int64 `json:"seen,omitempty"`
}

// decision says that hosts have converged.
type decision struct {
	Hosts []string `json:"hosts"`
}

// scope takes part in the decision.
type scope struct {
	x       *Exchange
	decided atomic.Bool
	end     context.CancelFunc // ends Results; nil before its subscription

	quiet bool          // as the run says
	seen  int64         // up to which revision the run has taken in exports
	asked int64         // up to which it was asked about
	asks  map[int]int64 // revisions, by the numbers of questions that are under way
	last  int           // the number of the newest question; they count down

	said    calm // the last that was written
	first   int64
	writing bool
	rest    time.Duration
	restsTo time.Time

	hosts    map[string]calm
	revision int64 // of hosts
	deciding bool
	again    time.Time  // when the decision may be tried again
	newest   mesh.Entry // the last decision
}

// Results passes on what a run tells. It stands behind the Run whose graphs come from
// Graphs, and hears there what resources send to exported ones. With ExchangeOptions.Together it completes when all hosts of the mesh that run
// with it have converged; it needs Options.Trace then, to know at once when something
// begins, and ConvergedExit unset. Answers to its own questions, whose Count is negative,
// are not passed on.
func (x *Exchange) Results(results streams.Observable[Result]) streams.Observable[Result] {
	return streams.New(func(ctx context.Context, emit func(Result) bool) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if x.opts.Together {
			x.later(func() { x.scope.end = cancel })
		}
		quiet := false
		err := results.Subscribe(ctx, func(r Result) bool {
			if r.Kind == Answered && r.Count < 0 {
				x.later(func() { x.scope.answered(r.Count) })
				return true
			}
			if now, tells := calmAfter(r); x.opts.Together && tells && now != quiet {
				quiet = now
				x.later(func() { x.scope.quiet = now })
			}
			if r.Kind == Finished && r.Err == nil && !r.Left && len(r.Outcome.Values) > 0 {
				x.hears(r)
			}
			return emit(r)
		})
		if x.scope.decided.Load() {
			return nil
		}
		return err
	})
}

// listen says from which resources values are wanted.
func (x *Exchange) listen(from map[string][]string) {
	var wanted map[string]bool
	for name := range from {
		if wanted == nil {
			wanted = map[string]bool{}
		}
		wanted[name] = true
	}
	x.wanted.Store(&wanted)
}

// hears takes in what a resource has sent.
func (x *Exchange) hears(r Result) {
	wanted := x.wanted.Load()
	if wanted == nil || len(*wanted) == 0 {
		return
	}
	from := r.Vertex.String()
	if (*wanted)[from] {
		values := maps.Clone(r.Outcome.Values)
		x.later(func() { x.out.received(from, values) })
	}
}

// calmAfter says whether a run is quiet after a result, if that tells it.
func calmAfter(r Result) (quiet, tells bool) {
	switch r.Kind {
	case Converged:
		return true, true
	case GraphSwapped, Woken, Started, Finished, Blocked, Waiting:
		return false, true
	}
	return false, false
}

func (s *scope) init(x *Exchange) {
	*s = scope{x: x, asks: map[int]int64{}, hosts: map[string]calm{}, rest: shortRest}
}

// begin takes part, from now on.
func (s *scope) begin() {
	x := s.x
	x.watch(x.ctx, mesh.Below(mesh.QuietPrefix), s.change)
	x.watch(x.ctx, mesh.Key(convergedKey), s.decide)
}

// ask asks the run whether it has taken in all that others export, as far as that is
// known here.
func (s *scope) ask() {
	x := s.x
	if !x.opts.Together || x.in.revision == s.asked || x.in.changed || x.in.busy > 0 || x.fresh {
		return
	}
	s.asked = x.in.revision
	s.last--
	s.asks[s.last] = s.asked
	x.send(Update{Ask: s.last})
}

func (s *scope) answered(number int) {
	if revision, ok := s.asks[number]; ok {
		delete(s.asks, number)
		s.seen = max(s.seen, revision)
	}
}

// now is what this host has to say.
func (s *scope) now() calm {
	c := calm{Quiet: s.quiet && s.x.out.settled()}
	if len(s.x.in.collect) > 0 {
		c.Seen = s.seen
		c.Quiet = c.Quiet && s.seen > 0 && s.seen == s.x.in.revision
	}
	return c
}

// settle says what is new, and decides if that is due.
func (s *scope) settle(now time.Time) time.Time {
	s.ask()
	if !s.x.opts.Together || s.x.store == nil || s.decided.Load() {
		return time.Time{}
	}
	if now.Before(s.restsTo) {
		return s.restsTo
	}
	if state := s.now(); !s.writing && (s.first == 0 || state != s.said) {
		s.say(state)
	}
	if now.Before(s.again) {
		return s.again
	}
	s.propose()
	return time.Time{}
}

func (s *scope) say(state calm) {
	value, err := json.Marshal(state)
	if err != nil {
		panic(err) // it has nothing that could fail
	}
	s.writing = true
	s.write(mesh.Txn{Ops: []mesh.Op{{Key: mesh.QuietPrefix + s.x.opts.Host, Value: value, Bound: true}}}, func(revision int64, err error) {
		s.writing = false
		if err != nil {
			s.failed("nobody knows whether this host has converged", err)
			return
		}
		s.said, s.rest = state, shortRest
		if s.first == 0 {
			s.first = revision
			s.obey()
		}
	})
}

func (s *scope) write(t mesh.Txn, then func(int64, error)) {
	s.x.work.Go(func() {
		revision, err := s.x.store.Write(s.x.ctx, t)
		s.x.later(func() { then(revision, err) })
	})
}

func (s *scope) failed(what string, err error) {
	if s.x.ctx.Err() != nil {
		return
	}
	if s.rest == shortRest {
		s.x.opts.Log.Warn(what, "error", err, "next", "it is tried again")
	}
	s.restsTo = time.Now().Add(s.rest)
	s.rest = min(2*s.rest, longRest)
}

// change takes in what hosts say of themselves.
func (s *scope) change(c mesh.Change) {
	if c.Reset {
		clear(s.hosts)
	}
	for _, e := range c.Put {
		var state calm
		if err := json.Unmarshal(e.Value, &state); err != nil {
			s.x.opts.Log.Debug("unexpected value", "key", e.Key, "error", err)
		}
		s.hosts[strings.TrimPrefix(e.Key, mesh.QuietPrefix)] = state
	}
	for _, key := range c.Deleted {
		delete(s.hosts, strings.TrimPrefix(key, mesh.QuietPrefix))
	}
	s.revision, s.again = c.Revision, time.Time{}
}

// propose writes the decision, if all hosts are quiet and this is the one to do it.
func (s *scope) propose() {
	if s.deciding || s.writing || !s.said.Quiet || s.hosts[s.x.opts.Host] != s.said || s.now() != s.said {
		return
	}
	hosts := slices.Sorted(maps.Keys(s.hosts))
	if hosts[0] != s.x.opts.Host {
		return
	}
	conditions := []mesh.Condition{{Key: mesh.QuietPrefix, Below: true, Revision: s.revision}}
	var seen int64
	for _, state := range s.hosts {
		if !state.Quiet {
			return
		}
		if state.Seen > 0 && (seen == 0 || state.Seen < seen) {
			seen = state.Seen
		}
	}
	if seen > 0 {
		conditions = append(conditions, mesh.Condition{Key: mesh.ExportPrefix, Below: true, Revision: seen})
	}
	value, err := json.Marshal(decision{hosts})
	if err != nil {
		panic(err) // it has nothing that could fail
	}
	s.deciding = true
	s.write(mesh.Txn{If: conditions, Ops: []mesh.Op{mesh.Put(convergedKey, value)}}, func(revision int64, err error) {
		s.deciding = false
		switch {
		case err == nil:
			s.decide(mesh.Change{Put: []mesh.Entry{{Key: convergedKey, Value: value, Revision: revision}}})
		case errors.Is(err, mesh.ErrConflict):
			s.again = time.Now().Add(shortRest) // who has to take in something more says so in a moment
		default:
			s.failed("the mesh can't agree that it has converged", err)
		}
	})
}

// decide takes in a decision.
func (s *scope) decide(c mesh.Change) {
	for _, e := range c.Put {
		if e.Revision > s.newest.Revision {
			s.newest = e
		}
	}
	s.obey()
}

// obey ends the run if it was decided, since it takes part, that it has converged.
func (s *scope) obey() {
	var d decision
	if s.first == 0 || s.newest.Revision <= s.first || json.Unmarshal(s.newest.Value, &d) != nil || !slices.Contains(d.Hosts, s.x.opts.Host) {
		return
	}
	if s.decided.CompareAndSwap(false, true) && s.end != nil {
		s.end()
	}
}
