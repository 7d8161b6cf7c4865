// Package net manages a network interface: whether it is up, its addresses, the default
// route through it, and whether it forwards.
package net

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/netlink"
)

// Spec is the kind "net".
var Spec = sinks.Spec{Kind: "net", New: func() sinks.Config { return &Config{State: up} }}

// Config is the desired state of a network interface, whose name is that of the resource.
//
// It is changed in the running kernel and in no file, and kept so by the kernel's own
// reports. An interface that does not exist is an error, which passes when it appears:
// nothing is made. What a resource does not mention is left alone.
type Config struct {
	// State is "up" or "down". Up does not mean that there is a carrier.
	State string `param:"state" oneof:"up down"`

	// Addrs are the addresses with the length of their prefix, such as 192.0.2.1/24 and
	// 2001:db8::1/64: these and no others, unless it is not given. Addresses that are
	// valid on this link only, and those that were given for a time, by DHCP or a router,
	// don't count and stay.
	Addrs []string `param:"addrs"`

	// Gateway is the address of the router for all that has no other route. For no such
	// route through this interface it is "none", or "0.0.0.0" for version 4 and "::" for
	// version 6 alone. A route that came by DHCP or from a router does not count and stays.
	Gateway string `param:"gateway"`

	// IPForward says whether packets of version 4 that come in here, and are for others,
	// are forwarded.
	IPForward *bool `param:"ip_forward"`
}

const (
	up   = "up"
	down = "down"
	none = "none"
)

// link is a resource of this kind.
type link struct {
	name    string
	up      bool
	addrs   []netip.Prefix // the first one of a network is its primary address
	managed bool           // the addresses are
	gateway netip.Addr
	route   bool // the default route is managed
	forward *bool
}

// Build implements sinks.Config.
func (c *Config) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	const longest = 15 // IFNAMSIZ in linux/if.h, less its end
	l := &link{name: name, up: c.State != down, managed: c.Addrs != nil, route: c.Gateway != "", forward: c.IPForward}
	switch {
	case name == "" || len(name) > longest || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\x00"):
		return nil, fmt.Errorf("%q is not the name of a network interface, such as eth0", name)
	case c.State != "" && c.State != up && c.State != down:
		return nil, &sinks.ParamError{Param: "state", Err: fmt.Errorf("%q is neither up nor down", c.State)}
	}
	seen := make(map[netip.Prefix]bool, len(c.Addrs))
	for _, text := range c.Addrs {
		addr, err := netip.ParsePrefix(text)
		if err != nil || addr.Addr().Is4In6() {
			return nil, &sinks.ParamError{Param: "addrs", Err: fmt.Errorf("%q is not an address with the length of its prefix, such as 192.0.2.1/24", text)}
		}
		if !seen[addr] {
			seen[addr] = true
			l.addrs = append(l.addrs, addr)
		}
	}
	if c.Gateway != "" && c.Gateway != none {
		gateway, err := netip.ParseAddr(c.Gateway)
		if err != nil || gateway.Is4In6() || gateway.Zone() != "" {
			return nil, &sinks.ParamError{Param: "gateway", Err: fmt.Errorf("%q is neither an address, such as 192.0.2.1, nor none", c.Gateway)}
		}
		if !l.up && !gateway.IsUnspecified() {
			return nil, &sinks.ParamError{Param: "gateway", Err: errors.New("there is no route through an interface that is down")}
		}
		l.gateway = gateway
	}
	return l, nil
}

// Owns implements sinks.Owner.
func (l *link) Owns() []string { return []string{"network interface " + l.name} }

// Watches implements sinks.Resource.
func (l *link) Watches() []sources.Watch {
	watches := []sources.Watch{netlink.Link(l.name)}
	if l.managed {
		watches = append(watches, netlink.Addrs(l.name))
	}
	if l.route {
		watches = append(watches, netlink.Routes(l.name))
	}
	if l.forward != nil {
		watches = append(watches, netlink.Forwarding(l.name))
	}
	return watches
}

var _ sinks.Owner = (*link)(nil)

// CheckApply implements sinks.Resource.
func (l *link) CheckApply(ctx context.Context, apply bool) (out sinks.Outcome, err error) {
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	k, err := open(l.name)
	if err != nil {
		return out, err
	}
	defer k.close()
	for _, step := range []func(*kernel, bool) (*sinks.Change, error){l.state, l.addresses, l.defaultRoute, l.forwarding} {
		change, err := step(k, apply)
		if change != nil {
			out.Changes = append(out.Changes, *change)
			out.Changed = true
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// state sees to it that the interface is up or down.
func (l *link) state(k *kernel, apply bool) (*sinks.Change, error) {
	if k.up == l.up {
		return nil, nil
	}
	change := &sinks.Change{Field: "state", From: word(k.up), To: word(l.up)}
	if apply {
		if err := k.set(l.up); err != nil {
			return nil, err
		}
	}
	return change, nil
}

func word(isUp bool) string {
	if isUp {
		return up
	}
	return down
}

// addresses adds and removes addresses. Removing comes first, since with an address the
// kernel may remove others of its network.
func (l *link) addresses(k *kernel, apply bool) (*sinks.Change, error) {
	if !l.managed {
		return nil, nil
	}
	all, counting, err := k.addrs()
	if err != nil {
		return nil, err
	}
	wanted := make(map[netip.Prefix]bool, len(l.addrs))
	for _, a := range l.addrs {
		wanted[a] = true
	}
	surplus := slices.DeleteFunc(slices.Clone(counting), func(a netip.Prefix) bool { return wanted[a] })
	if len(surplus) == 0 && len(l.missing(all)) == 0 {
		return nil, nil
	}
	change := &sinks.Change{Field: "addrs", From: list(counting), To: list(l.addrs)}
	if !apply {
		return change, nil
	}
	for _, a := range surplus {
		if err := k.remove(a); err != nil {
			return nil, err
		}
	}
	if len(surplus) > 0 {
		if all, _, err = k.addrs(); err != nil {
			return change, err
		}
	}
	for _, a := range l.missing(all) {
		if err := k.add(a); err != nil {
			return nil, err
		}
	}
	return change, nil
}

// missing returns which addresses are not among those that there are.
func (l *link) missing(all map[netip.Prefix]bool) []netip.Prefix {
	var missing []netip.Prefix
	for _, a := range l.addrs {
		if !all[a] {
			missing = append(missing, a)
		}
	}
	return missing
}

func list(addrs []netip.Prefix) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, " ")
}

// defaultRoute sees to the route for all that has no other.
func (l *link) defaultRoute(k *kernel, apply bool) (*sinks.Change, error) {
	if !l.route {
		return nil, nil
	}
	found, err := k.defaults(l.gateway)
	if err != nil {
		return nil, err
	}
	wanted := l.gateway.IsValid() && !l.gateway.IsUnspecified()
	right := wanted && slices.ContainsFunc(found, func(r route) bool { return r.gateway == l.gateway })
	if right && len(found) == 1 || !wanted && len(found) == 0 {
		return nil, nil
	}
	change := &sinks.Change{Field: "gateway", From: none, To: none}
	if len(found) > 0 {
		change.From = strings.Trim(fmt.Sprint(found), "[]")
	}
	if wanted {
		change.To = l.gateway.String()
	}
	if !apply {
		return change, nil
	}
	switch {
	case right || !wanted:
	case len(found) > 0:
		err, found = k.replaceDefault(found[0], l.gateway), found[1:]
	default:
		err = k.addDefault(l.gateway)
	}
	for _, r := range found {
		if err == nil && r.gateway != l.gateway {
			err = k.removeDefault(r)
		}
	}
	if err != nil {
		return nil, err
	}
	return change, nil
}

// forwarding sees to what happens to packets for others.
func (l *link) forwarding(k *kernel, apply bool) (*sinks.Change, error) {
	if l.forward == nil {
		return nil, nil
	}
	now, err := k.forwarding()
	if err != nil || now == *l.forward {
		return nil, err
	}
	change := &sinks.Change{Field: "ip_forward", From: fmt.Sprint(now), To: fmt.Sprint(*l.forward)}
	if apply {
		if err := k.forward(*l.forward); err != nil {
			return nil, err
		}
	}
	return change, nil
}
