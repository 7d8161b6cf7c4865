package schedule

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// decisionPrefix is followed by the escaped name of a role.
const decisionPrefix = mesh.SharedPrefix + "schedule/"

func decisionKey(role string) string { return decisionPrefix + url.PathEscape(role) }

func offerKey(host, role string) string { return mesh.RolePrefix + host + "/" + url.PathEscape(role) }

// view is what the mesh says of a role.
type view struct {
	decision decision
	revision int64 // of the decision; 0 if there is none
	offers   map[string]offer
	roles    map[string]int // by host: how many other roles it has, if that matters
}

// look reads the decision before the offers: whoever decides by older offers than the last
// one did then finds that there is a newer decision.
func (s *schedule) look(ctx context.Context) (view, error) {
	v := view{offers: map[string]offer{}, roles: map[string]int{}}
	now, there, err := s.store.Get(ctx, decisionKey(s.role))
	if err != nil {
		return v, err
	}
	if there {
		v.revision, v.decision = now.Revision, read[decision](now)
	}
	list, err := s.store.List(ctx, mesh.RolePrefix)
	if err != nil {
		return v, err
	}
	for _, e := range list.Entries {
		host, role, ok := strings.Cut(strings.TrimPrefix(e.Key, mesh.RolePrefix), "/")
		if !ok || role != url.PathEscape(s.role) {
			continue
		}
		v.offers[host] = read[offer](e)
	}
	if strategy, _ := agreed(v.offers); strategy == leastLoaded || s.offer != nil && s.offer.Strategy == leastLoaded {
		err = s.count(ctx, v.roles)
	}
	return v, err
}

// count counts the other roles of each host.
func (s *schedule) count(ctx context.Context, roles map[string]int) error {
	list, err := s.store.List(ctx, decisionPrefix)
	if err != nil {
		return err
	}
	for _, e := range list.Entries {
		if e.Key == decisionKey(s.role) {
			continue
		}
		for _, host := range read[decision](e).Hosts {
			roles[host]++
		}
	}
	return nil
}

// read returns what an entry holds. What no schedule has written is the same as nothing: so
// a decision that can't be read is made anew.
func read[T any](e mesh.Entry) (value T) {
	if err := json.Unmarshal(e.Value, &value); err != nil {
		var nothing T
		return nothing
	}
	return value
}
