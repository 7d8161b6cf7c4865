// Package netlink observes network interfaces, their addresses and routes through the
// multicast groups of one netlink socket.
//
// The kernel puts its messages into the socket's buffer in the moment of the change. If
// the buffer is full it drops some and says so, and then everything that is watched is
// suspect: that is an event without a watch.
package netlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// Name is the name of the source.
const Name = "netlink"

// What a watch is about.
type sort uint8

const (
	links sort = iota
	addrs
	routes
	forwarding
	sorts
)

var sortNames = [sorts]string{"link", "addresses of", "routes through", "forwarding of"}

// groups are the multicast groups of a sort; see rtnetlink(7).
var groups = [sorts][]int{
	links:      {unix.RTNLGRP_LINK},
	addrs:      {unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR},
	routes:     {unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE},
	forwarding: {unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF},
}

// watch is what is watched of the interface called name.
type watch struct {
	sort sort
	name string
}

// Link watches the network interface of that name, which need not exist: it appears or
// vanishes, goes up or down, is renamed or otherwise changed.
func Link(name string) sources.Watch { return watch{links, name} }

// Addrs watches the addresses of the interface. It also fires when the interface appears,
// vanishes or is renamed.
func Addrs(name string) sources.Watch { return watch{addrs, name} }

// Routes watches the routes that lead through the interface, but for those of the table
// local. It also fires when the interface is changed, since the kernel does not report
// the routes that go with it.
func Routes(name string) sources.Watch { return watch{routes, name} }

// Forwarding watches whether packets that come in through the interface are forwarded. It
// also fires when the interface appears, vanishes or is renamed.
func Forwarding(name string) sources.Watch { return watch{forwarding, name} }

// Source implements sources.Watch.
func (watch) Source() string { return Name }

// String is what is watched: "addresses of eth0".
func (w watch) String() string { return sortNames[w.sort] + " " + w.name }

// Source serves the watches of this package. After the subscription of Events has ended
// it has forgotten them and can be used anew.
type Source struct {
	opened chan struct{} // holds one item when there is a socket to read from

	mu      sync.Mutex
	socket  *nl.NetlinkSocket // nil while nothing is watched
	joined  [sorts]bool
	names   map[int]string // of interfaces, by index
	counts  map[watch]int
	serving bool
	flushes map[uint32]chan struct{} // closed when the answer with that number has come
}

var (
	_ sources.Source  = (*Source)(nil)
	_ sources.Flusher = (*Source)(nil)
)

// New returns a source that has nothing open until the first Add.
func New() *Source {
	return &Source{opened: make(chan struct{}, 1), counts: map[watch]int{}, flushes: map[uint32]chan struct{}{}}
}

// Name implements sources.Source.
func (s *Source) Name() string { return Name }

// Add implements sources.Source. It fails for a watch that is not one of this package, and
// if the kernel gives no socket.
func (s *Source) Add(w sources.Watch) error {
	own, ok := w.(watch)
	if !ok {
		return fmt.Errorf("%T is not a watch of the source %s", w, Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.join(own.sort); err != nil {
		s.closeIdle()
		return fmt.Errorf("asking the kernel to report on the network: %w", err)
	}
	s.counts[own]++
	return nil
}

// Remove implements sources.Source.
func (s *Source) Remove(w sources.Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own, _ := w.(watch)
	if s.counts[own] > 1 {
		s.counts[own]--
	} else {
		delete(s.counts, own)
	}
	s.closeIdle()
}

// closeIdle closes the socket when nobody needs it.
func (s *Source) closeIdle() {
	if s.socket == nil || s.serving || len(s.counts) > 0 {
		return
	}
	s.close()
}

func (s *Source) close() {
	s.socket.Close()
	s.socket, s.names, s.joined = nil, nil, [sorts]bool{}
}

// drop closes socket if it is still in use.
func (s *Source) drop(socket *nl.NetlinkSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.socket == socket {
		s.close()
	}
}

// receiveBuffer holds some thousand messages.
const receiveBuffer = 4 << 20

// open opens the socket, and reads the names of the interfaces when it has begun to
// report on them.
func (s *Source) open() error {
	if s.socket != nil {
		return nil
	}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	// Root may have more than the limit. The memory is used only when messages queue.
	if unix.SetsockoptInt(socket.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(socket.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	s.socket = socket
	if err := s.join(links); err != nil {
		return err
	}
	if err := s.readNames(); err != nil {
		return err
	}
	select {
	case s.opened <- struct{}{}:
	default:
	}
	return nil
}

// join has the kernel report on what.
func (s *Source) join(what sort) error {
	if err := s.open(); err != nil || s.joined[what] {
		return err
	}
	for _, g := range groups[what] {
		// A kernel without IPv6 has its groups all the same.
		if err := unix.SetsockoptInt(s.socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	s.joined[what] = true
	return nil
}

// readNames reads which interfaces there are.
func (s *Source) readNames() error {
	found, err := net.Interfaces()
	if err != nil {
		return err
	}
	s.names = make(map[int]string, len(found))
	for _, i := range found {
		s.names[i.Index] = i.Name
	}
	return nil
}

// Events implements sources.Source. The events come on the goroutine of the subscriber,
// which reads from the kernel itself: if it is slow, they wait in the socket.
func (s *Source) Events() streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		s.mu.Lock()
		if s.serving {
			s.mu.Unlock()
			return errors.New("the events of the netlink source are already subscribed to")
		}
		s.serving = true
		s.mu.Unlock()
		defer s.forget()
		for {
			s.mu.Lock()
			socket := s.socket
			s.mu.Unlock()
			if socket == nil {
				select {
				case <-s.opened:
					continue
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			more, err := s.serve(ctx, socket, emit)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil || !more {
				return err
			}
		}
	})
}

// forget closes everything when the subscription has ended.
func (s *Source) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = false
	clear(s.counts)
	s.closeIdle()
	for seq, done := range s.flushes {
		delete(s.flushes, seq)
		close(done)
	}
	select {
	case <-s.opened:
	default:
	}
}

// serve reads from socket until it fails, ctx is done or nobody wants any more.
func (s *Source) serve(ctx context.Context, socket *nl.NetlinkSocket, emit func(sources.Event) bool) (more bool, err error) {
	defer context.AfterFunc(ctx, func() { s.drop(socket) })() // which wakes the reader
	for {
		messages, from, err := socket.Receive()
		var events []sources.Event
		var answered []chan struct{}
		s.mu.Lock()
		switch {
		case ctx.Err() != nil:
			s.mu.Unlock()
			return false, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			events = append(events, sources.Event{Source: Name, What: "overflow"})
			if err = s.resume(err); err != nil {
				s.mu.Unlock()
				return false, err
			}
		case from.Pid == nl.PidKernel:
			events, answered = s.take(messages)
		}
		again := s.socket != socket
		s.mu.Unlock()
		for _, e := range events {
			if !emit(e) {
				return false, nil
			}
		}
		for _, done := range answered {
			close(done)
		}
		if again {
			return true, nil
		}
	}
}

// resume goes on after an error of reading. When the buffer was full, the answer to a
// flush may be among what was dropped, so it is asked for again. What else may fail is
// mended by a new socket.
func (s *Source) resume(err error) error {
	if errors.Is(err, unix.ENOBUFS) {
		drain(s.socket)
	} else {
		joined := s.joined
		s.close()
		for what, wanted := range joined {
			if !wanted {
				continue
			}
			if err := s.join(sort(what)); err != nil {
				return fmt.Errorf("asking the kernel to report on the network again: %w", err)
			}
		}
	}
	if err := s.readNames(); err != nil {
		return err
	}
	waiting := s.flushes
	s.flushes = map[uint32]chan struct{}{}
	for _, done := range waiting {
		if err := s.ask(done); err != nil {
			return err
		}
	}
	return nil
}

// drain drops what is in the buffer. Once something did not fit, the kernel drops
// everything until the buffer is empty, and does not say so again.
func drain(socket *nl.NetlinkSocket) {
	var b [1]byte
	for {
		_, _, err := unix.Recvfrom(socket.GetFd(), b[:], unix.MSG_DONTWAIT)
		if err != nil && err != unix.EINTR && err != unix.ENOBUFS {
			return
		}
	}
}

// Flush implements sources.Flusher: the answer to a question that asks for nothing comes
// behind all messages that were in the buffer.
func (s *Source) Flush(ctx context.Context) error {
	s.mu.Lock()
	if s.socket == nil {
		s.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	err := s.ask(done)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ask sends a question whose answer closes done.
func (s *Source) ask(done chan struct{}) error {
	req := nl.NewNetlinkRequest(unix.NLMSG_NOOP, unix.NLM_F_ACK)
	if err := s.socket.Send(req); err != nil {
		return fmt.Errorf("asking for an answer through netlink: %w", err)
	}
	s.flushes[req.Seq] = done
	return nil
}
