package schedule

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
)

// The strategies.
const (
	rendezvous   = "rendezvous"
	roundRobin   = "roundrobin"
	leastLoaded  = "leastloaded"
	alphabetical = "alphabetical"
)

// offer is how a host offers itself for a role, as it stands in the mesh.
type offer struct {
	Strategy string  `json:"strategy"`
	Max      int     `json:"max"`
	Load     float64 `json:"load,omitempty"`
}

// decision is who has a role, as it stands in the mesh.
type decision struct {
	Hosts []string `json:"hosts"`

	// Last is the host that was chosen last.
	Last string `json:"last,omitempty"`
}

func (d decision) equal(o decision) bool { return d.Last == o.Last && slices.Equal(d.Hosts, o.Hosts) }

// choose decides who has a role from now on, of the hosts that offer themselves. Roles
// counts how many other roles each host has. Whoever has the role keeps it. It is the
// same on every host that sees the same.
func choose(role string, before decision, offers map[string]offer, roles map[string]int) decision {
	strategy, most := agreed(offers)
	after := decision{Last: before.Last}
	free := maps.Clone(offers)
	for _, host := range before.Hosts {
		if _, ok := free[host]; ok {
			after.Hosts = append(after.Hosts, host)
			delete(free, host)
		}
	}
	if len(after.Hosts) > most { // those that came last go first
		after.Hosts = after.Hosts[:most]
	}
	better := order(strategy, role, offers, roles)
	for len(after.Hosts) < most && len(free) > 0 {
		hosts := slices.Sorted(maps.Keys(free))
		var next string
		if strategy == roundRobin {
			next = following(hosts, after.Last)
		} else {
			next = slices.MinFunc(hosts, better)
		}
		delete(free, next)
		after.Hosts, after.Last = append(after.Hosts, next), next
	}
	return after
}

// agreed is what holds where hosts ask for different things: the strategy of the first
// by name, and the largest max. An offer that can't be read asks for nothing.
func agreed(offers map[string]offer) (strategy string, most int) {
	first := ""
	for host, o := range offers {
		most = max(most, o.Max)
		if o.Max > 0 && (first == "" || host < first) {
			first, strategy = host, o.Strategy
		}
	}
	return strategy, most
}

// order compares hosts by how well they suit a role, the better one first. No two are
// equal.
func order(strategy, role string, offers map[string]offer, roles map[string]int) func(a, b string) int {
	switch strategy {
	case alphabetical:
		return strings.Compare
	case leastLoaded:
		return func(a, b string) int {
			return cmp.Or(cmp.Compare(offers[a].Load, offers[b].Load), cmp.Compare(roles[a], roles[b]), byWeight(role, a, b))
		}
	}
	return func(a, b string) int { return byWeight(role, a, b) }
}

// byWeight compares hosts by highest random weight (D. Thaler, C. Ravishankar: A
// name-based mapping scheme for rendezvous, 1996).
func byWeight(role, a, b string) int {
	return cmp.Or(cmp.Compare(weight(role, b), weight(role, a)), strings.Compare(a, b))
}

func weight(role, host string) uint64 {
	sum := sha256.Sum256([]byte(role + "\x00" + host))
	return binary.BigEndian.Uint64(sum[:])
}

// following is the first of the hosts, which are in order, behind last, or else the first.
func following(hosts []string, last string) string {
	for _, host := range hosts {
		if host > last {
			return host
		}
	}
	return hosts[0]
}
