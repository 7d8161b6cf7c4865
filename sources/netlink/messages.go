package netlink

import (
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources"
)

// The payload of the messages about configuration; see linux/netconf.h.
const (
	sizeofNetconf  = 4 // struct netconfmsg, padded
	netconfIfindex = 1
	netconfAll     = -1
)

// take turns messages of the kernel into events, and returns who waits for the answers
// that are among them.
func (s *Source) take(messages []syscall.NetlinkMessage) (events []sources.Event, answered []chan struct{}) {
	fire := func(what sort, name, happened string) {
		if w := (watch{what, name}); s.counts[w] > 0 {
			events = append(events, sources.Event{Source: Name, Watch: w, What: happened})
		}
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.NLMSG_ERROR:
			if done, ok := s.flushes[m.Header.Seq]; ok {
				delete(s.flushes, m.Header.Seq)
				answered = append(answered, done)
			}
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			s.link(m, fire)
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			if len(m.Data) >= unix.SizeofIfAddrmsg {
				fire(addrs, s.names[int(nl.DeserializeIfAddrmsg(m.Data).Index)], happened(m, unix.RTM_NEWADDR))
			}
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			for _, index := range throughs(m.Data) {
				fire(routes, s.names[index], happened(m, unix.RTM_NEWROUTE))
			}
		case unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF:
			s.netconf(m, fire)
		}
	}
	return events, answered
}

func happened(m syscall.NetlinkMessage, added uint16) string {
	if m.Header.Type == added {
		return "change"
	}
	return "delete"
}

// link takes a message about an interface, by its old name and its new one.
func (s *Source) link(m syscall.NetlinkMessage, fire func(what sort, name, happened string)) {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return
	}
	info := nl.DeserializeIfInfomsg(m.Data)
	index, was := int(info.Index), s.names[int(info.Index)]
	name := was
	attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_IFNAME {
			name = unix.ByteSliceToString(a.Value)
		}
	}
	if err != nil || name == "" {
		return
	}
	what := "change"
	// A bridge that loses a port says that the link to it is gone.
	gone := m.Header.Type == unix.RTM_DELLINK && info.Family != unix.AF_BRIDGE
	switch {
	case gone:
		what = "delete"
		delete(s.names, index)
	case was == "":
		what = "create"
		s.names[index] = name
	case was != name:
		what = "rename"
		s.names[index] = name
	}
	for each := range sorts {
		if each == links || each == routes || what != "change" {
			fire(each, name, what)
			if was != "" && was != name {
				fire(each, was, what)
			}
		}
	}
}

// throughs returns the interfaces that a route leads through.
func throughs(data []byte) []int {
	if len(data) < unix.SizeofRtMsg {
		return nil
	}
	msg := nl.DeserializeRtMsg(data)
	if msg.Table == unix.RT_TABLE_LOCAL || msg.Flags&unix.RTM_F_CLONED != 0 {
		return nil
	}
	attrs, err := nl.ParseRouteAttr(data[unix.SizeofRtMsg:])
	if err != nil {
		return nil
	}
	var indexes []int
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.RTA_OIF && len(a.Value) >= 4:
			indexes = append(indexes, int(nl.NativeEndian().Uint32(a.Value)))
		case a.Attr.Type == unix.RTA_MULTIPATH:
			for hops := a.Value; len(hops) >= unix.SizeofRtNexthop; {
				hop := nl.DeserializeRtNexthop(hops)
				indexes = append(indexes, int(hop.Ifindex))
				size := int(hop.RtNexthop.Len+unix.RTA_ALIGNTO-1) &^ (unix.RTA_ALIGNTO - 1)
				if size < unix.SizeofRtNexthop || size > len(hops) {
					break
				}
				hops = hops[size:]
			}
		}
	}
	return indexes
}

// netconf takes a message about forwarding and the like.
func (s *Source) netconf(m syscall.NetlinkMessage, fire func(what sort, name, happened string)) {
	if len(m.Data) < sizeofNetconf {
		return
	}
	attrs, err := nl.ParseRouteAttr(m.Data[sizeofNetconf:])
	if err != nil {
		return
	}
	for _, a := range attrs {
		if a.Attr.Type != netconfIfindex || len(a.Value) < 4 {
			continue
		}
		if index := int(int32(nl.NativeEndian().Uint32(a.Value))); index != netconfAll {
			fire(forwarding, s.names[index], "change")
			continue
		}
		for w := range s.counts {
			if w.sort == forwarding {
				fire(forwarding, w.name, "change")
			}
		}
	}
}
