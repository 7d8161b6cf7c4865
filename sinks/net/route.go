package net

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// route is a default route through the interface.
type route struct {
	gateway netip.Addr // not valid if there is none
	metric  int
	v6      bool
}

// String is where the route leads to.
func (r route) String() string {
	if !r.gateway.IsValid() {
		return onLink
	}
	return r.gateway.String()
}

// onLink stands for a default route without a router.
const onLink = "link"

// defaults returns the default routes through the interface, of the family of gateway, or
// of both if that is not valid.
func (k *kernel) defaults(gateway netip.Addr) ([]route, error) {
	families := []int{unix.AF_INET, unix.AF_INET6}
	if gateway.IsValid() {
		families = families[:1]
		if gateway.Is6() {
			families[0] = unix.AF_INET6
		}
	}
	var routes []route
	for _, family := range families {
		about := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family), Table: unix.RT_TABLE_MAIN}}
		index := make([]byte, 4)
		nl.NativeEndian().PutUint32(index, uint32(k.index))
		found, err := k.dump(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, about, nl.NewRtAttr(unix.RTA_OIF, index))
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
			continue // a kernel without that family, or without a table yet
		}
		if err != nil {
			return nil, k.failed(err, "listing the routes through %s", k.name)
		}
		for _, data := range found {
			if r, ok := k.parse(data); ok {
				routes = append(routes, r)
			}
		}
	}
	return routes, nil
}

// parse reads a route, and says whether it is one that counts.
func (k *kernel) parse(data []byte) (route, bool) {
	msg := nl.DeserializeRtMsg(data)
	byOthers := msg.Protocol == unix.RTPROT_KERNEL || msg.Protocol == unix.RTPROT_RA || msg.Protocol == unix.RTPROT_DHCP
	if msg.Dst_len != 0 || msg.Table != unix.RT_TABLE_MAIN || msg.Type != unix.RTN_UNICAST || msg.Flags&unix.RTM_F_CLONED != 0 || byOthers {
		return route{}, false
	}
	attrs, err := nl.ParseRouteAttr(data[unix.SizeofRtMsg:])
	if err != nil {
		return route{}, false
	}
	r, through := route{v6: msg.Family == unix.AF_INET6}, 0
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.RTA_OIF:
			through = int(nl.NativeEndian().Uint32(a.Value))
		case unix.RTA_GATEWAY:
			r.gateway, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_PRIORITY:
			r.metric = int(nl.NativeEndian().Uint32(a.Value))
		}
	}
	return r, through == k.index
}

// default6 is the metric that the kernel gives a route of version 6 by itself.
const default6 = 1024

// to is the default route by way of gateway in the words of the library.
func (k *kernel) to(gateway netip.Addr, metric int) *netlink.Route {
	return &netlink.Route{LinkIndex: k.index, Gw: gateway.AsSlice(), Priority: metric, Protocol: unix.RTPROT_STATIC}
}

// addDefault adds the default route.
func (k *kernel) addDefault(gateway netip.Addr) error {
	err := netlink.RouteAdd(k.to(gateway, 0))
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding the default route by way of %s: there is one%s already: remove it, or give neither a gateway: %w", gateway, k.rival(gateway), err)
	}
	return k.unreachable(err, gateway)
}

// replaceDefault puts a route by way of gateway in place of another one, at once.
func (k *kernel) replaceDefault(old route, gateway netip.Addr) error {
	return k.unreachable(netlink.RouteReplace(k.to(gateway, old.metric)), gateway)
}

func (k *kernel) unreachable(err error, gateway netip.Addr) error {
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return fmt.Errorf("adding the default route by way of %s: it can't be reached through %s: give the interface an address in the same network: %w", gateway, k.name, err)
	}
	return k.failed(err, "adding the default route by way of %s", gateway)
}

// removeDefault removes a default route.
func (k *kernel) removeDefault(old route) error {
	r := k.to(old.gateway, old.metric)
	r.Protocol = 0 // of any
	r.Dst = &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if old.v6 {
		r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	err := netlink.RouteDel(r)
	if errors.Is(err, unix.ESRCH) {
		return nil // gone already
	}
	return k.failed(err, "removing the default route by way of %s", old)
}

// rival says where the default route leads that is in the way.
func (k *kernel) rival(gateway netip.Addr) string {
	family, metric := netlink.FAMILY_V4, 0
	if gateway.Is6() {
		family, metric = netlink.FAMILY_V6, default6
	}
	found, err := netlink.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_DST)
	if err != nil {
		return ""
	}
	for _, r := range found {
		if r.Priority != metric {
			continue
		}
		text := ""
		if r.Gw != nil {
			text = " by way of " + r.Gw.String()
		}
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			text += " through " + l.Attrs().Name
		}
		return text
	}
	return ""
}
