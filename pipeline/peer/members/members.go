// Package members decides which hosts of a mesh run a server, one change at a time. Next
// looks at what is there and says what to do; it keeps nothing, starts nothing and knows no
// etcd, so that each of its decisions can be tested by itself. The records that hosts leave
// for each other in the mesh, so that somebody can decide, are here too.
package members

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// DefaultIdeal is how many voters a mesh has when there are hosts enough.
const DefaultIdeal = 5

// maxLearners is how many learn at the same time: two, so that the number of voters goes
// from one odd number to the next with no wait in between.
const maxLearners = 2

// View is what the leader knows when it decides.
type View struct {
	// Members are the servers that the mesh counts on.
	Members []Member

	// Hosts are those that are there now.
	Hosts []Host

	// Named says which member each host has been asked to run.
	Named map[string]uint64

	// Leader is the name of the host that decides.
	Leader string

	// Ideal is how many voters there should be. An even number stands for the odd one below.
	Ideal int

	// Grace is how long a server may be down before another one takes its place.
	Grace time.Duration
}

// Member is a server that the mesh counts on.
type Member struct {
	ID      uint64
	Host    string
	Learner bool

	// Ready says that a learner has caught up.
	Ready bool

	// Up says that the server works as far as can be told, and Down is otherwise for how
	// long it hasn't.
	Up   bool
	Down time.Duration

	// Lost says that its host is there, but without its data: it can't come back.
	Lost bool
}

// Host is a host that is there.
type Host struct {
	Name string

	// Serves says that it would run a server, and Leaving that it is on its way out.
	Serves  bool
	Leaving bool
}

// Verb is what a Step does.
type Verb string

// The verbs of a Step, and what it names beside Why.
const (
	Rest    Verb = "rest"    // nothing: look again when something changes, or after Wait if it isn't 0
	Add     Verb = "add"     // Host: make it a learner
	Name    Verb = "name"    // Host, Member: tell it that it is a member
	Promote Verb = "promote" // Host, Member: make the learner a voter
	Remove  Verb = "remove"  // Host, Member: count on it no more
	Dismiss Verb = "dismiss" // Host, Member: tell it that it is no member
	Yield   Verb = "yield"   // let another host lead, since this one leaves
)

// Step is the one thing to do now.
type Step struct {
	Do     Verb
	Host   string
	Member uint64
	Why    string // in words, for the log
	Wait   time.Duration
}

// Next says what to do in v. Done again and again it leads from any situation in which the
// voters can decide to one with an odd number of voters: the ideal one, or the largest that
// the hosts allow. It never takes a step that leaves too few servers up to decide, and asks
// for one change at a time. A voter that is down with nobody to replace it is kept, as long
// as its place makes the number odd: it may come back with its data.
func Next(v View) Step {
	s := sort(v)
	if !safe(s.voters, s.up) {
		return Step{Do: Rest, Wait: s.nextLook(), Why: "too few servers are up to decide anything"}
	}
	for _, rule := range []func(*situation) (Step, bool){
		(*situation).tell, (*situation).dropLearner, (*situation).dropDead,
		(*situation).yield, (*situation).promote, (*situation).add, (*situation).dropVoter,
	} {
		if step, ok := rule(&s); ok {
			return step
		}
	}
	return Step{Do: Rest, Wait: s.nextLook(), Why: "all is as it should be"}
}

// Odd is the number of voters that ideal stands for.
func Odd(ideal int) int { return max(1, ideal-(ideal+1)%2) }

// situation is a View, sorted.
type situation struct {
	View
	hosts    map[string]Host
	staying  []Member // voters that are up, or down for less than Grace
	dead     []Member // voters that are down for longer
	leaving  []Member // voters whose host leaves, or will not serve any more
	learners []Member // that may become voters
	useless  []Member // learners that may not
	free     []string // hosts that could become members
	voters   int
	up       int // voters
	want     int // voters
}

func sort(v View) situation {
	s := situation{View: v, hosts: map[string]Host{}}
	for _, h := range v.Hosts {
		s.hosts[h.Name] = h
	}
	v.Members = slices.SortedFunc(slices.Values(v.Members), func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID))
	})
	taken := map[string]bool{}
	for _, m := range v.Members {
		taken[m.Host] = taken[m.Host] || !m.Lost
		s.place(m)
	}
	for _, h := range v.Hosts {
		if h.Serves && !h.Leaving && !taken[h.Name] {
			s.free = append(s.free, h.Name)
		}
	}
	slices.Sort(s.free)
	s.want = s.size()
	return s
}

func (s *situation) place(m Member) {
	h, there := s.hosts[m.Host]
	dead := s.isDead(m)
	leaves := there && (h.Leaving || !h.Serves)
	if !m.Learner {
		s.voters++
		if m.Up {
			s.up++
		}
	}
	switch {
	case m.Learner && (dead || leaves):
		s.useless = append(s.useless, m)
	case m.Learner:
		s.learners = append(s.learners, m)
	case dead:
		s.dead = append(s.dead, m)
	case leaves:
		s.leaving = append(s.leaving, m)
	default:
		s.staying = append(s.staying, m)
	}
}

func (s *situation) isDead(m Member) bool { return !m.Up && (m.Lost || m.Down >= s.Grace) }

// size is the number of voters to aim at.
func (s *situation) size() int {
	ideal := Odd(s.Ideal)
	spare := len(s.learners) + len(s.free)
	have := len(s.staying) + spare
	if spare == 0 && len(s.dead) > 0 && have > 0 && have < ideal && have%2 == 0 {
		return have + 1 // a dead one keeps its place
	}
	return min(ideal, Odd(have))
}

// tell lets hosts know of members that were added or removed.
func (s *situation) tell() (Step, bool) {
	ids := map[uint64]bool{}
	for _, m := range s.Members {
		ids[m.ID] = true
		if _, there := s.hosts[m.Host]; there && !m.Lost && s.Named[m.Host] != m.ID {
			return Step{Do: Name, Host: m.Host, Member: m.ID, Why: "it doesn't know yet"}, true
		}
	}
	for _, host := range slices.Sorted(maps.Keys(s.Named)) {
		if id := s.Named[host]; !ids[id] {
			return Step{Do: Dismiss, Host: host, Member: id, Why: "it was removed"}, true
		}
	}
	return Step{}, false
}

// dropLearner removes a learner that will not be a voter. Nobody counts on it, so that this
// is always safe.
func (s *situation) dropLearner() (Step, bool) {
	if len(s.useless) > 0 {
		why := "its host leaves"
		if s.isDead(s.useless[0]) {
			why = "it is down"
		}
		return remove(s.useless[0], why), true
	}
	if len(s.learners) > max(0, s.want-len(s.staying)) {
		m := slices.MinFunc(s.learners, func(a, b Member) int {
			return cmp.Or(first(!a.Ready, !b.Ready), first(!a.Up, !b.Up), cmp.Compare(b.Host, a.Host))
		})
		return remove(m, "there are voters enough"), true
	}
	return Step{}, false
}

// dropDead removes a voter that is down for too long, unless its place is kept for it. That
// comes before a replacement is added: etcd adds nobody while too many are down.
func (s *situation) dropDead() (Step, bool) {
	kept := 0
	if s.want > len(s.staying)+len(s.learners)+len(s.free) {
		kept = 1
	}
	if len(s.dead) <= kept || !safe(s.voters-1, s.up) || s.allLeave() {
		return Step{}, false
	}
	return remove(s.dead[len(s.dead)-1], "it is down"), true
}

// allLeave says that nobody is left who could serve. Then all keep what they have, so that
// it is there when they come back.
func (s *situation) allLeave() bool { return len(s.staying)+len(s.learners)+len(s.free) == 0 }

// yield hands over to a host that stays, as soon as one runs a voter.
func (s *situation) yield() (Step, bool) {
	h, there := s.hosts[s.Leader]
	if !there || !h.Leaving && h.Serves {
		return Step{}, false
	}
	for _, m := range s.staying {
		if m.Up && m.Host != s.Leader {
			return Step{Do: Yield, Host: m.Host, Why: "the leader leaves"}, true
		}
	}
	return Step{}, false
}

// promote makes a learner a voter, if the number of voters gets odd by it, can get odd by
// the next one at once, or by the removal of one that leaves.
func (s *situation) promote() (Step, bool) {
	var ready []Member
	for _, m := range s.learners {
		if m.Ready && m.Up {
			ready = append(ready, m)
		}
	}
	if len(ready) == 0 || len(s.staying) >= s.want {
		return Step{}, false
	}
	if s.voters%2 == 1 && len(ready) < 2 && len(s.leaving) == 0 {
		return Step{}, false
	}
	return Step{Do: Promote, Host: ready[0].Host, Member: ready[0].ID, Why: "it has caught up"}, true
}

// add makes one more host learn. Two that start at the same time would wait for each other.
func (s *situation) add() (Step, bool) {
	missing := min(s.want-len(s.staying), maxLearners) - len(s.learners)
	if missing <= 0 || len(s.free) == 0 {
		return Step{}, false
	}
	for _, m := range s.learners {
		if !m.Up {
			return Step{}, false
		}
	}
	return Step{Do: Add, Host: s.free[0], Why: "there are too few voters"}, true
}

// dropVoter removes a voter that works, because it leaves or because there are too many.
func (s *situation) dropVoter() (Step, bool) {
	if len(s.staying) < s.want && len(s.learners)+len(s.free) > 0 || s.allLeave() {
		return Step{}, false // its replacement comes first
	}
	why, of := "its host leaves", s.leaving
	if len(of) == 0 {
		if s.voters <= s.want {
			return Step{}, false
		}
		why, of = "there are voters enough", s.staying
	}
	m := slices.MinFunc(of, func(a, b Member) int {
		return cmp.Or(first(!a.Up, !b.Up), first(a.Host != s.Leader, b.Host != s.Leader), cmp.Compare(b.Host, a.Host))
	})
	left := s.up
	if m.Up {
		left--
	}
	if !safe(s.voters-1, left) {
		return Step{}, false
	}
	return remove(m, why), true
}

// safe says whether up of that many voters can decide.
func safe(voters, up int) bool { return voters > 0 && up >= voters/2+1 }

// nextLook is when the first that is down has been so for long enough.
func (s *situation) nextLook() time.Duration {
	var wait time.Duration
	for _, m := range s.Members {
		if left := s.Grace - m.Down; !m.Up && left > 0 && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}

func remove(m Member, why string) Step {
	return Step{Do: Remove, Host: m.Host, Member: m.ID, Why: why}
}

// first orders those for which it is true before the others.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}
