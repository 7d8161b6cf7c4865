package members_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
)

// world is a mesh as it really is: what hosts do and what etcd would say to a step.
type world struct {
	hosts  map[string]*host
	ids    map[string]uint64 // members by host
	named  map[string]uint64
	nextID uint64
	ideal  int
	leader string
	log    []string
}

type host struct {
	there, serves, leaving bool
	voter, learner         bool
	up, ready, lost        bool
	down                   time.Duration
}

func (h *host) member() bool { return h.voter || h.learner }

func newWorld(ideal int) *world {
	return &world{hosts: map[string]*host{}, ids: map[string]uint64{}, named: map[string]uint64{}, ideal: ideal}
}

func (w *world) put(name string, h host) {
	w.hosts[name] = &h
	if h.member() {
		w.nextID++
		w.ids[name] = w.nextID
		w.named[name] = w.nextID
	}
}

func (w *world) view() members.View {
	v := members.View{Named: maps.Clone(w.named), Leader: w.leader, Ideal: w.ideal, Grace: grace}
	for name, h := range w.hosts {
		if h.there {
			v.Hosts = append(v.Hosts, members.Host{Name: name, Serves: h.serves, Leaving: h.leaving})
		}
		if h.member() {
			v.Members = append(v.Members, members.Member{
				ID: w.ids[name], Host: name, Learner: h.learner, Ready: h.ready, Up: h.up, Down: h.down, Lost: h.lost,
			})
		}
	}
	return v
}

func (w *world) count(of func(*host) bool) int {
	n := 0
	for _, h := range w.hosts {
		if of(h) {
			n++
		}
	}
	return n
}

func (w *world) voters() int   { return w.count(func(h *host) bool { return h.voter }) }
func (w *world) up() int       { return w.count(func(h *host) bool { return h.voter && h.up }) }
func (w *world) decides() bool { return w.up() >= w.voters()/2+1 }

// elect makes one of the voters that are up the leader, as etcd may do at any time.
func (w *world) elect(choose func([]string) string) {
	var can []string
	for name, h := range w.hosts {
		if h.voter && h.up {
			can = append(can, name)
		}
	}
	slices.Sort(can)
	w.leader = choose(can)
}

// apply makes a step, and says what is wrong with it.
func (w *world) apply(s members.Step) error {
	w.log = append(w.log, words(s))
	h := w.hosts[s.Host]
	switch s.Do {
	case members.Add:
		if h.member() || !h.there || !h.serves || h.leaving {
			return fmt.Errorf("%s can't become a member", s.Host)
		}
		if w.count(func(h *host) bool { return h.learner }) >= 2 {
			return fmt.Errorf("a third learner")
		}
		h.learner, h.up, h.ready, h.lost, h.down = true, false, false, false, 0
		w.nextID++
		w.ids[s.Host] = w.nextID
	case members.Name:
		w.named[s.Host] = s.Member
	case members.Dismiss:
		delete(w.named, s.Host)
	case members.Promote:
		if !h.learner || !h.ready || !h.up || h.leaving {
			return fmt.Errorf("%s is no learner that could be a voter", s.Host)
		}
		h.learner, h.voter = false, true
	case members.Remove:
		if !h.member() || w.ids[s.Host] != s.Member {
			return fmt.Errorf("%s is no member", s.Host)
		}
		h.learner, h.voter, h.up, h.ready, h.lost, h.down = false, false, false, false, false, 0
	case members.Yield:
		if n := w.hosts[s.Host]; !n.voter || !n.up || n.leaving || s.Host == w.leader {
			return fmt.Errorf("%s can't lead", s.Host)
		}
		w.leader = s.Host
	default:
		return fmt.Errorf("no such verb")
	}
	if !w.decides() {
		return fmt.Errorf("%d of %d voters are up after it", w.up(), w.voters())
	}
	return nil
}

// progress lets come to pass what is on its way: learners start and catch up, and what is
// down is so for longer. It reports whether there was anything.
func (w *world) progress() bool {
	any := false
	for name, h := range w.hosts {
		if h.member() && !h.up && !h.lost && h.down < grace {
			any = true
			if h.learner && h.there && w.named[name] == w.ids[name] && h.down == 0 {
				h.up = true
			} else {
				h.down = grace
			}
		} else if h.learner && h.up && !h.ready {
			h.ready, any = true, true
		}
	}
	return any
}

// settle does what Next says until there is nothing to do and nothing on its way.
func (w *world) settle() error {
	for range 100 {
		if !w.decides() {
			return nil // nothing can be done
		}
		if h := w.hosts[w.leader]; h == nil || !h.voter || !h.up {
			w.elect(func(can []string) string { return can[0] })
		}
		s := members.Next(w.view())
		if s.Do == members.Rest {
			if !w.progress() {
				return w.settled()
			}
			continue
		}
		if err := w.apply(s); err != nil {
			return fmt.Errorf("%s: %w", words(s), err)
		}
	}
	return fmt.Errorf("it doesn't come to rest")
}

// settled says what is wrong with where it came to rest, by counting alone.
func (w *world) settled() error {
	if !w.decides() {
		return nil
	}
	can := w.count(func(h *host) bool { return h.there && h.serves && !h.leaving && (!h.voter || h.up) })
	good := w.count(func(h *host) bool { return h.voter && h.up && h.there && h.serves && !h.leaving })
	switch voters := w.voters(); {
	case can == 0:
		return nil // all leave
	case w.count(func(h *host) bool { return h.learner }) > 0:
		return fmt.Errorf("a learner is left")
	case !maps.Equal(w.named, w.memberIDs()):
		return fmt.Errorf("hosts were told %v, but are %v", w.named, w.memberIDs())
	case voters%2 == 0:
		return fmt.Errorf("%d voters", voters)
	case voters > members.Odd(w.ideal):
		return fmt.Errorf("%d voters, but %d are ideal", voters, w.ideal)
	case good == voters && voters == min(members.Odd(w.ideal), members.Odd(can)):
		return nil
	case good == can && voters == can+1: // a dead one keeps its place
		return nil
	default:
		return fmt.Errorf("%d voters, %d of them good, but %d hosts could serve and %d are ideal", voters, good, can, w.ideal)
	}
}

func (w *world) memberIDs() map[string]uint64 {
	ids := map[string]uint64{}
	for name, h := range w.hosts {
		if h.member() {
			ids[name] = w.ids[name]
		}
	}
	return ids
}

func (w *world) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(w.hosts)) {
		fmt.Fprintf(&b, "%s%+v ", name, *w.hosts[name])
	}
	return fmt.Sprintf("%s ideal %d, leader %s, steps: %s", b.String(), w.ideal, w.leader, strings.Join(w.log, ", "))
}

// kinds are all that a host can be, as far as Next can see.
var kinds = []host{
	{}, // not there
	{there: true, serves: true},
	{there: true},
	{there: true, serves: true, leaving: true},
	{there: true, serves: true, voter: true, up: true},
	{there: true, serves: true, voter: true},
	{there: true, serves: true, voter: true, down: grace},
	{there: true, serves: true, voter: true, up: true, leaving: true},
	{there: true, voter: true, up: true},
	{there: true, serves: true, voter: true, lost: true},
	{voter: true, down: time.Second},
	{voter: true, down: grace},
	{there: true, serves: true, learner: true, up: true, ready: true},
	{there: true, serves: true, learner: true, up: true},
	{there: true, serves: true, learner: true},
	{there: true, serves: true, learner: true, up: true, leaving: true},
	{learner: true, down: grace},
}

// All meshes of up to five hosts, whatever each of them is and whoever leads, come to rest
// where they should, and no step on the way leaves too few voters.
func TestEverySituationSettles(t *testing.T) {
	situations := 0
	var each func(kind int, chosen []int)
	each = func(kind int, chosen []int) {
		if len(chosen) == 5 {
			situations += settleAll(t, chosen)
			return
		}
		for k := kind; k < len(kinds); k++ {
			each(k, append(slices.Clip(chosen), k))
		}
	}
	each(0, nil)
	t.Logf("%d situations", situations)
	if situations < 25_000 {
		t.Errorf("only %d situations were looked at", situations)
	}
}

func settleAll(t *testing.T, chosen []int) int {
	n := 0
	for _, ideal := range []int{1, 3, 5} {
		for lead := range chosen {
			w := newWorld(ideal)
			for i, k := range chosen {
				w.put(string(rune('a'+i)), kinds[k])
			}
			w.leader = string(rune('a' + lead))
			if h := w.hosts[w.leader]; !h.voter || !h.up || !w.decides() ||
				w.count(func(h *host) bool { return h.learner }) > 2 {
				continue
			}
			n++
			start := w.String()
			if err := w.settle(); err != nil {
				t.Fatalf("%v\nfrom %s\nto   %s", err, start, w)
			}
		}
	}
	return n
}

// Hosts come, die, return and leave between the steps, leaders change, and learners take
// their time: no step ever leaves too few voters, and when it gets quiet all settles.
func TestAnyHistorySettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(rapid.IntRange(0, 7).Draw(t, "ideal"))
		w.put("a", host{there: true, serves: true, voter: true, up: true})
		for range rapid.IntRange(1, 60).Draw(t, "moves") {
			w.happen(t)
			if !w.decides() {
				continue
			}
			w.elect(func(can []string) string { return rapid.SampledFrom(can).Draw(t, "leader") })
			if s := members.Next(w.view()); s.Do != members.Rest {
				if err := w.apply(s); err != nil {
					t.Fatalf("%s: %v\n%s", words(s), err, w)
				}
			}
		}
		if err := w.settle(); err != nil {
			t.Fatalf("%v\n%s", err, w)
		}
	})
}

func (w *world) happen(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"}).Draw(t, "host")
	h := w.hosts[name]
	if h == nil {
		w.put(name, host{there: true, serves: rapid.IntRange(0, 5).Draw(t, "willing") > 0})
		return
	}
	what := rapid.SampledFrom([]string{"dies", "returns", "returns", "leaves", "empty", "progress", "progress", "progress", "ideal"}).Draw(t, "what")
	w.log = append(w.log, name+" "+what)
	switch what {
	case "dies":
		h.there, h.up, h.down = false, false, max(h.down, 1)
	case "returns": // with its data
		h.there, h.leaving = true, false
		h.up, h.down = h.member() && !h.lost, 0
	case "leaves":
		h.leaving = h.there
	case "empty": // it comes back without its data
		h.there, h.leaving, h.up, h.lost = true, false, false, h.voter || h.ready
	case "progress":
		w.progress()
	case "ideal":
		w.ideal = rapid.IntRange(0, 7).Draw(t, "ideal")
	}
}
