package schedule

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var strategies = []string{rendezvous, roundRobin, leastLoaded, alphabetical}

func offersOf(strategy string, most int, hosts ...string) map[string]offer {
	offers := map[string]offer{}
	for _, host := range hosts {
		offers[host] = offer{Strategy: strategy, Max: most}
	}
	return offers
}

func TestChoose(t *testing.T) {
	load := offersOf(leastLoaded, 1, "a", "b", "c")
	load["a"] = offer{Strategy: leastLoaded, Max: 1, Load: 0.5}
	mixed := offersOf(alphabetical, 1, "b", "c", "d")
	mixed["d"] = offer{Strategy: roundRobin, Max: 2}
	for _, tt := range []struct {
		name   string
		before decision
		offers map[string]offer
		roles  map[string]int
		want   string
	}{
		{"nobody offers itself", decision{Hosts: []string{"a"}, Last: "a"}, nil, nil, "[] a"},
		{"the first of the alphabet", decision{}, offersOf(alphabetical, 1, "b", "a"), nil, "[a] a"},
		{"who has the role keeps it", decision{Hosts: []string{"b"}, Last: "b"}, offersOf(alphabetical, 1, "b", "a"), nil, "[b] b"},
		{"who is gone is replaced, and the others stay", decision{Hosts: []string{"c", "x", "b"}, Last: "b"}, offersOf(alphabetical, 3, "a", "b", "c", "d"), nil, "[c b a] a"},
		{"who came last goes first", decision{Hosts: []string{"c", "a", "b"}, Last: "b"}, offersOf(alphabetical, 2, "a", "b", "c"), nil, "[c a] b"},
		{"one after the other", decision{Last: "b"}, offersOf(roundRobin, 2, "a", "b", "c"), nil, "[c a] a"},
		{"one after the other, also after one that is gone", decision{Hosts: []string{"b"}, Last: "b"}, offersOf(roundRobin, 1, "a", "c"), nil, "[c] c"},
		{"the fewest other roles", decision{}, offersOf(leastLoaded, 1, "a", "b", "c"), map[string]int{"a": 1, "c": 2}, "[b] b"},
		{"the load comes before the roles", decision{}, load, map[string]int{"b": 3, "c": 2}, "[c] c"},
		{"of two strategies that of the first host, and the larger max", decision{}, mixed, nil, "[b c] c"},
	} {
		d := choose("role", tt.before, tt.offers, tt.roles)
		if got := fmt.Sprintf("%v %s", d.Hosts, d.Last); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestChooseKeepsItsPromises holds the strategies to what makes them useful, while hosts
// come and go.
func TestChooseKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		strategy := rapid.SampledFrom(strategies).Draw(t, "strategy")
		most := rapid.IntRange(1, 5).Draw(t, "max")
		offers, roles := map[string]offer{}, map[string]int{}
		var d decision
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			host := fmt.Sprintf("h%d", rapid.IntRange(0, 9).Draw(t, "host"))
			if _, there := offers[host]; there {
				delete(offers, host)
			} else {
				offers[host] = offer{Strategy: strategy, Max: most, Load: float64(rapid.IntRange(0, 2).Draw(t, "load"))}
				roles[host] = rapid.IntRange(0, 2).Draw(t, "roles")
			}
			before := d
			d = choose("role", before, offers, roles)
			promised(t, before, d, offers, most)
			if again := choose("role", d, maps.Clone(offers), roles); !again.equal(d) {
				t.Fatalf("%v is decided again, as %v", d, again)
			}
			if other := choose("role", before, maps.Clone(offers), maps.Clone(roles)); !other.equal(d) {
				t.Fatalf("one host decides %v, another %v", d, other)
			}
		}
	})
}

// promised checks one decision, after one host has come or gone.
func promised(t *rapid.T, before, after decision, offers map[string]offer, most int) {
	if want := min(most, len(offers)); len(after.Hosts) != want {
		t.Fatalf("%d offer themselves for %d places, and %v are chosen", len(offers), most, after.Hosts)
	}
	fresh := 0
	for i, host := range after.Hosts {
		if _, ok := offers[host]; !ok || slices.Contains(after.Hosts[:i], host) {
			t.Fatalf("%v has %s, which does not offer itself or is there twice", after.Hosts, host)
		}
		if !slices.Contains(before.Hosts, host) {
			fresh++
		}
	}
	if fresh > 1 {
		t.Fatalf("one host has come or gone, and %d are new: %v, %v", fresh, before.Hosts, after.Hosts)
	}
	for _, host := range before.Hosts {
		if _, ok := offers[host]; ok && !slices.Contains(after.Hosts, host) {
			t.Fatalf("%s has lost the role: %v, %v", host, before.Hosts, after.Hosts)
		}
	}
}

// TestRendezvousSpreadsAndStays chooses anew for many roles, without a history: each host
// has its share, and a host that goes takes only its own roles with it.
func TestRendezvousSpreadsAndStays(t *testing.T) {
	const hosts, roles = 10, 2000
	var names []string
	for i := range hosts {
		names = append(names, fmt.Sprintf("host%d", i))
	}
	all, fewer := offersOf(rendezvous, 1, names...), offersOf(rendezvous, 1, names[1:]...)
	share := map[string]int{}
	for i := range roles {
		role := fmt.Sprintf("role %d", i)
		one, two := choose(role, decision{}, all, nil).Hosts[0], choose(role, decision{}, fewer, nil).Hosts[0]
		share[one]++
		if one != two && one != names[0] {
			t.Errorf("%s moves from %s to %s since %s has gone", role, one, two, names[0])
		}
	}
	for _, name := range names {
		if n := share[name]; n < roles/hosts*3/4 || n > roles/hosts*5/4 {
			t.Errorf("%s has %d of %d roles", name, n, roles)
		}
	}
}

// TestLeastLoadedLevels gives out many roles, one after the other.
func TestLeastLoadedLevels(t *testing.T) {
	roles := map[string]int{}
	for i := range 31 {
		d := choose(fmt.Sprint(i), decision{}, offersOf(leastLoaded, 1, "a", "b", "c", "d", "e"), roles)
		roles[d.Hosts[0]]++
	}
	for host, n := range roles {
		if n < 6 || n > 7 {
			t.Errorf("%s has %d of 31 roles", host, n)
		}
	}
}
