package net

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernel is an interface as the kernel has it.
type kernel struct {
	socket *nl.NetlinkSocket // for lists
	link   netlink.Link
	name   string
	index  int
	up     bool
}

// open looks up the interface called name.
func open(name string) (*kernel, error) {
	found, err := netlink.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, fmt.Errorf("there is no network interface %s, only %s: something else has to make it, and then it is looked at again at once", name, others())
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the network interface %s: %w", name, err)
	}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("asking the kernel about the network interface %s: %w", name, err)
	}
	// Then the kernel itself leaves out what belongs to other interfaces. One before 4.20
	// lists everything.
	_ = unix.SetsockoptInt(socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	attrs := found.Attrs()
	return &kernel{socket: socket, link: found, name: name, index: attrs.Index, up: attrs.RawFlags&unix.IFF_UP != 0}, nil
}

// others lists the interfaces that there are.
func others() string {
	const most = 10
	found, err := net.Interfaces()
	if err != nil || len(found) == 0 {
		return "none at all"
	}
	names := make([]string, 0, most)
	for _, i := range found[:min(len(found), most)] {
		names = append(names, i.Name)
	}
	if len(found) > most {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}

func (k *kernel) close() { k.socket.Close() }

// failed says what could not be done, and why.
func (k *kernel) failed(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: only root, with the capability CAP_NET_ADMIN, may: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// set makes the interface go up or down.
func (k *kernel) set(up bool) error {
	if up {
		return k.failed(netlink.LinkSetUp(k.link), "setting %s up", k.name)
	}
	return k.failed(netlink.LinkSetDown(k.link), "setting %s down", k.name)
}

// dump asks for all of a sort that belongs to the interface.
func (k *kernel) dump(question int, answer uint16, about ...nl.NetlinkRequestData) ([][]byte, error) {
	const attempts = 10 // when it changes while it is listed
	for try := 1; ; try++ {
		req := nl.NewNetlinkRequest(question, unix.NLM_F_DUMP)
		req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: k.socket}}
		for _, a := range about {
			req.AddData(a)
		}
		found, err := req.Execute(unix.NETLINK_ROUTE, answer)
		if !errors.Is(err, nl.ErrDumpInterrupted) || try == attempts {
			return found, err
		}
	}
}

// addrs returns all addresses, and in the kernel's order those that count: that are for
// good, and of use beyond the link.
func (k *kernel) addrs() (all map[netip.Prefix]bool, counting []netip.Prefix, err error) {
	about := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	about.Index = uint32(k.index)
	found, err := k.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, about)
	if err != nil {
		return nil, nil, k.failed(err, "listing the addresses of %s", k.name)
	}
	all = make(map[netip.Prefix]bool, len(found))
	for _, data := range found {
		msg := nl.DeserializeIfAddrmsg(data)
		attrs, err := nl.ParseRouteAttr(data[unix.SizeofIfAddrmsg:])
		if err != nil || int(msg.Index) != k.index {
			continue
		}
		var local, address netip.Addr // the same but on a link between two
		flags := uint32(msg.Flags)
		for _, a := range attrs {
			switch a.Attr.Type {
			case unix.IFA_LOCAL:
				local, _ = netip.AddrFromSlice(a.Value)
			case unix.IFA_ADDRESS:
				address, _ = netip.AddrFromSlice(a.Value)
			case unix.IFA_FLAGS:
				flags = nl.NativeEndian().Uint32(a.Value)
			}
		}
		if !local.IsValid() {
			local = address
		}
		prefix := netip.PrefixFrom(local, int(msg.Prefixlen))
		all[prefix] = true
		if flags&unix.IFA_F_PERMANENT != 0 && msg.Scope < unix.RT_SCOPE_LINK {
			counting = append(counting, prefix)
		}
	}
	return all, counting, nil
}

// address is a in the words of the library.
func address(a netip.Prefix) *netlink.Addr {
	ip := a.Addr()
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(a.Bits(), ip.BitLen())}}
}

// add adds an address. Somebody else may have done so.
func (k *kernel) add(a netip.Prefix) error {
	err := netlink.AddrAdd(k.link, address(a))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return k.failed(err, "adding the address %s to %s", a, k.name)
}

// remove removes an address, which may be gone with another one.
func (k *kernel) remove(a netip.Prefix) error {
	err := netlink.AddrDel(k.link, address(a))
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return k.failed(err, "removing the address %s from %s", a, k.name)
}

// forwards is the file in which the kernel has whether the interface forwards.
func (k *kernel) forwards() string { return "/proc/sys/net/ipv4/conf/" + k.name + "/forwarding" }

func (k *kernel) forwarding() (bool, error) {
	text, err := os.ReadFile(k.forwards())
	return strings.TrimSpace(string(text)) == "1", err
}

func (k *kernel) forward(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	f, err := os.OpenFile(k.forwards(), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
