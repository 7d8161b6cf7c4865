// Package lab puts hosts on a network that tests can break. Each host is a network
// namespace with an address of its own; between them is a switch in this process, which
// can delay, drop and cut what they send each other. It is for tests of meshes of real
// processes, on kernels without netem, and needs root.
package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrImpossible says that networks can't be made here: no root, or no /dev/net/tun.
var ErrImpossible = errors.New("a network of namespaces can't be made here")

// queue is how many packets may be under way from one host to another: what comes on top
// is dropped, as a switch does.
const queue = 4096

// Link is how packets go from one host to another, in one direction.
type Link struct {
	// Delay is the time that each packet takes.
	Delay time.Duration

	// Loss is the share of packets that are lost, from 0 to 1.
	Loss float64

	// Cut loses all.
	Cut bool
}

// Network is a switch with the hosts that are plugged into it.
type Network struct {
	mu    sync.Mutex
	ports map[netip.Addr]*port
	links map[way]*link
	wg    sync.WaitGroup
}

// way is a direction between two hosts.
type way struct{ from, to netip.Addr }

type link struct {
	Link
	under chan packet // nil while there is no delay
}

type packet struct {
	due  time.Time
	data []byte
}

type port struct {
	tun, ns *os.File
}

// NewNetwork makes a network without hosts. The error is ErrImpossible where that is the
// reason.
func NewNetwork() (*Network, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: needs root", ErrImpossible)
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrImpossible, err)
	}
	return &Network{ports: map[netip.Addr]*port{}, links: map[way]*link{}}, nil
}

// Close gives the network up.
func (n *Network) Close() error {
	n.mu.Lock()
	var errs []error
	for _, p := range n.ports {
		errs = append(errs, p.tun.Close(), p.ns.Close())
	}
	for _, l := range n.links {
		if l.under != nil {
			close(l.under)
			l.under = nil
		}
	}
	n.ports = map[netip.Addr]*port{}
	n.mu.Unlock()
	n.wg.Wait()
	return errors.Join(errs...)
}

// plug adds a host with an address of a /24 network. The file is its namespace, and stays
// the network's.
func (n *Network) plug(addr netip.Addr) (*os.File, error) {
	var tun, ns *os.File
	err := inNewNamespace(func() error {
		var err error
		if ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if tun, err = openTUN("tun0"); err != nil {
			return err
		}
		return errors.Join(
			ip("link set dev lo up"),
			ip("address add dev tun0 "+netip.PrefixFrom(addr, 24).String()),
			ip("link set dev tun0 up"))
	})
	if err != nil {
		for _, f := range []*os.File{tun, ns} {
			if f != nil {
				err = errors.Join(err, f.Close())
			}
		}
		return nil, err
	}
	p := &port{tun: tun, ns: ns}
	n.mu.Lock()
	n.ports[addr] = p
	n.mu.Unlock()
	n.wg.Go(func() { n.receive(addr, p) })
	return ns, nil
}

// Set says how packets go between two hosts from now on, in both directions.
func (n *Network) Set(a, b netip.Addr, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set(way{a, b}, l)
	n.set(way{b, a}, l)
}

// SetOneWay does so for what from sends to to.
func (n *Network) SetOneWay(from, to netip.Addr, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set(way{from, to}, l)
}

// SetAll says how packets go between all hosts that there are.
func (n *Network) SetAll(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for a := range n.ports {
		for b := range n.ports {
			if a != b {
				n.set(way{a, b}, l)
			}
		}
	}
}

// Part cuts what leads from hosts of one group to those of another, and restores what is
// within each.
func (n *Network) Part(groups ...[]netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	group := map[netip.Addr]int{}
	for i, g := range groups {
		for _, a := range g {
			group[a] = i
		}
	}
	for a := range n.ports {
		for b := range n.ports {
			if a != b {
				n.set(way{a, b}, Link{Cut: group[a] != group[b]})
			}
		}
	}
}

// set is called with mu held.
func (n *Network) set(w way, l Link) {
	now := n.links[w]
	if now == nil {
		now = &link{}
		n.links[w] = now
	}
	now.Link = l
	if l.Delay > 0 && now.under == nil {
		under := make(chan packet, queue)
		now.under = under
		n.wg.Go(func() { n.carry(w.to, under) })
	}
	if l.Delay == 0 && now.under != nil {
		close(now.under) // what is under way arrives
		now.under = nil
	}
}

// receive takes what a host sends, until the network is closed.
func (n *Network) receive(from netip.Addr, p *port) {
	buf := make([]byte, 65536)
	for {
		size, err := p.tun.Read(buf)
		if err != nil {
			return
		}
		if size >= 20 && buf[0]>>4 == 4 {
			n.forward(from, netip.AddrFrom4([4]byte(buf[16:20])), buf[:size])
		}
	}
}

// forward sends a packet on its way, or drops it.
func (n *Network) forward(from, to netip.Addr, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.links[way{from, to}]; l != nil {
		if l.Cut || l.Loss > 0 && rand.Float64() < l.Loss {
			return
		}
		if l.under != nil {
			select {
			case l.under <- packet{time.Now().Add(l.Delay), append([]byte(nil), data...)}:
			default:
			}
			return
		}
	}
	n.deliver(to, data)
}

// deliver hands a packet to its host; mu is held, so that a write never meets a closed
// port. A full receive queue drops it.
func (n *Network) deliver(to netip.Addr, data []byte) {
	if p := n.ports[to]; p != nil {
		_, _ = p.tun.Write(data)
	}
}

// carry delivers delayed packets when they are due.
func (n *Network) carry(to netip.Addr, under <-chan packet) {
	for p := range under {
		<-time.After(time.Until(p.due))
		n.mu.Lock()
		n.deliver(to, p.data)
		n.mu.Unlock()
	}
}

// inNewNamespace calls f on a thread in a network namespace of its own.
func inNewNamespace(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this function
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("%w: %w", ErrImpossible, os.NewSyscallError("unshare", err))
			return
		}
		done <- f()
	}()
	return <-done
}

// inNamespace calls f on a thread in the namespace.
func inNamespace(ns *os.File, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// openTUN makes a network interface whose other end is the file.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("TUNSETIFF", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

func ip(args string) error {
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, strings.TrimSpace(string(out)))
	}
	return nil
}
