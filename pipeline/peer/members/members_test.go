package members_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/members"
)

const grace = 10 * time.Second

// parse makes a View of a line such as "a:voter b:learner,ready c:free", the leader first.
// See flags for the words.
func parse(t *testing.T, line string) members.View {
	t.Helper()
	v := members.View{Ideal: 5, Grace: grace, Named: map[string]uint64{}}
	for _, word := range strings.Fields(line) {
		host, what, _ := strings.Cut(word, ":")
		if v.Leader == "" {
			v.Leader = host
		}
		is := func(s string) bool { return strings.Contains(","+what+",", ","+s+",") }
		if !is("gone") {
			v.Hosts = append(v.Hosts, members.Host{Name: host, Serves: !is("unwilling"), Leaving: is("leaving")})
		}
		if is("voter") || is("learner") {
			m := members.Member{
				ID: uint64(host[0]), Host: host, Learner: is("learner"), Ready: is("ready"),
				Up: !is("down") && !is("gone") && !is("lost"), Lost: is("lost"),
			}
			if is("gone") || is("dead") {
				m.Down, m.Up = grace, false
			}
			if is("down") {
				m.Down = 4 * time.Second
			}
			v.Members = append(v.Members, m)
			if !is("unnamed") {
				v.Named[host] = m.ID
			}
		}
		if is("removed") {
			v.Named[host] = uint64(host[0])
		}
	}
	return v
}

func TestNext(t *testing.T) {
	for _, tt := range []struct {
		name, view string
		ideal      int
		want       string
	}{
		{"a host alone is enough for itself", "a:voter", 5, "rest"},
		{"a second host doesn't serve: two voters are worse than one", "a:voter b:free", 5, "rest"},
		{"with a third host two learn", "a:voter b:free c:free", 5, "add b"},
		{"one that was added is told", "a:voter b:learner,unnamed c:free", 5, "name b"},
		{"one learner starts at a time", "a:voter b:learner,down c:free", 5, "rest 6s"},
		{"the second learner is added while the first one learns", "a:voter b:learner c:free", 5, "add c"},
		{"one that has caught up waits for the other", "a:voter b:learner,ready c:learner", 5, "rest"},
		{"both have caught up", "a:voter b:learner,ready c:learner,ready", 5, "promote b"},
		{"after one of the two the other follows", "a:voter b:voter c:learner,ready", 5, "promote c"},
		{"three hosts settle", "a:voter b:voter c:voter", 5, "rest"},
		{"a fourth host is spare", "a:voter b:voter c:voter d:free", 5, "rest"},
		{"five hosts are five voters", "a:voter b:voter c:voter d:free e:free", 5, "add d"},
		{"no more than two learn", "a:voter b:learner c:learner d:free e:free", 5, "rest"},
		{"no more than the ideal", "a:voter b:voter c:voter d:free e:free", 3, "rest"},
		{"an even ideal is the odd one below", "a:voter b:voter c:voter d:free e:free", 4, "rest"},
		{"an ideal of nothing is one", "a:voter b:voter c:voter", 0, "remove c"},
		{"a smaller ideal removes others than the leader", "c:voter a:voter b:voter", 1, "remove b"},
		{"a learner too many goes first", "a:voter b:voter c:voter d:learner,ready e:learner", 3, "remove e"},
		{"who doesn't want to serve isn't asked", "a:voter b:unwilling c:free", 5, "rest"},
		{"who leaves isn't asked", "a:voter b:leaving c:free", 5, "rest"},

		{"a server that is down is waited for", "a:voter b:voter c:voter,down d:free", 5, "rest 6s"},
		{"one that is down for long is removed if there is another", "a:voter b:voter c:voter,gone d:free", 5, "remove c"},
		{"then the other one learns", "a:voter b:voter d:free", 5, "add d"},
		{"and becomes the third", "a:voter b:voter d:learner,ready", 5, "promote d"},
		{"one that is down for long is kept if there is no other", "a:voter b:voter c:voter,gone", 5, "rest"},
		{"two of five that are down leave three", "a:voter b:voter c:voter d:voter,gone e:voter,gone", 5, "remove e"},
		{"two of five: the second", "a:voter b:voter c:voter d:voter,gone", 3, "remove d"},
		{"one of five that is down is kept", "a:voter b:voter c:voter d:voter e:voter,gone", 5, "rest"},
		{"one of five that is down goes if three will do", "a:voter b:voter c:voter d:voter e:voter,gone", 3, "remove e"},
		{"two of three that are down: nobody can decide", "a:voter b:voter,gone c:voter,gone d:free e:free", 5, "rest"},
		{"one that lost its data is replaced by itself", "a:voter b:voter c:voter,lost", 5, "remove c"},
		{"a server that can't work is replaced", "a:voter b:voter c:voter,dead,unwilling d:free", 5, "remove c"},
		{"a learner that died goes", "a:voter b:learner,ready c:learner,gone", 5, "remove c"},
		{"one that was removed is told", "a:voter c:free,removed", 5, "dismiss c"},

		{"the last one that leaves stays to the end", "a:voter,leaving", 5, "rest"},
		{"all leave: they keep what they have", "a:voter,leaving b:voter,leaving c:voter,leaving", 5, "rest"},
		{"all leave but an agent", "a:voter,leaving b:voter,leaving c:voter,leaving d:unwilling", 5, "rest"},
		{"one that leaves is replaced first", "a:voter b:voter c:voter,leaving d:free", 5, "add d"},
		{"its replacement is promoted at once", "a:voter b:voter c:voter,leaving d:learner,ready", 5, "promote d"},
		{"and then it goes", "a:voter b:voter c:voter,leaving d:voter", 5, "remove c"},
		{"one that leaves with nobody to replace it", "a:voter b:voter c:voter,leaving", 5, "remove c"},
		{"and the two that are left", "a:voter b:voter", 5, "remove b"},
		{"a leader that leaves alone finds another", "a:voter,leaving b:free", 5, "add b"},
		{"a leader that leaves promotes another", "a:voter,leaving b:learner,ready", 5, "promote b"},
		{"a leader that leaves lets another one lead", "a:voter,leaving b:voter", 5, "yield b"},
		{"and is removed by it", "b:voter a:voter,leaving", 5, "remove a"},
		{"one that leaves waits while another is down", "a:voter b:voter,leaving c:voter,down", 5, "rest 6s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := parse(t, tt.view)
			v.Ideal = tt.ideal
			if got := words(members.Next(v)); got != tt.want {
				t.Errorf("%s, ideal %d: got %q, want %q", tt.view, tt.ideal, got, tt.want)
			}
		})
	}
}

func words(s members.Step) string {
	w := string(s.Do)
	if s.Host != "" {
		w += " " + s.Host
	}
	if s.Wait != 0 {
		w += fmt.Sprintf(" %v", s.Wait)
	}
	return w
}

func ExampleNext() {
	v := members.View{
		Leader: "a",
		Ideal:  5,
		Grace:  10 * time.Second,
		Named:  map[string]uint64{"a": 1, "b": 2, "c": 3},
		Hosts:  []members.Host{{Name: "a", Serves: true}, {Name: "b", Serves: true}, {Name: "d", Serves: true}},
		Members: []members.Member{
			{ID: 1, Host: "a", Up: true},
			{ID: 2, Host: "b", Up: true},
			{ID: 3, Host: "c", Down: 11 * time.Second},
		},
	}
	step := members.Next(v)
	fmt.Println(step.Do, step.Host, "since", step.Why)
	// Output: remove c since it is down
}

func ExampleOdd() {
	fmt.Println(members.Odd(5), members.Odd(4), members.Odd(0))
	// Output: 5 3 1
}
