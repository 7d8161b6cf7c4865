package netlink_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	library "github.com/vishvananda/netlink"

	"github.com/mgmtproject/mgmt/sinks/sinktest/private"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/netlink"
)

func TestMain(m *testing.M) { private.Main(m) }

// patience bounds every wait of a test.
const patience = 20 * time.Second

// ip runs the program of that name, or skips the test where there is none.
func ip(t testing.TB, args string) {
	t.Helper()
	private.Need(t)
	program, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("needs the program ip, Debian package iproute2")
	}
	if out, err := exec.Command(program, strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// observer subscribes to a source and keeps its events.
type observer struct {
	t   testing.TB
	src *netlink.Source

	mu   sync.Mutex
	got  []sources.Event
	hold sync.Mutex // held to keep the consumer waiting
}

func observe(t testing.TB) *observer {
	o := &observer{t: t, src: netlink.New()}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- o.src.Events().Subscribe(ctx, func(e sources.Event) bool {
			o.hold.Lock()
			defer o.hold.Unlock()
			o.mu.Lock()
			defer o.mu.Unlock()
			o.got = append(o.got, e)
			return true
		})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Events ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("Events does not end")
		}
	})
	return o
}

func (o *observer) add(watches ...sources.Watch) {
	o.t.Helper()
	for _, w := range watches {
		if err := o.src.Add(w); err != nil {
			o.t.Fatalf("Add(%v): %v", w, err)
		}
	}
}

// events returns what has come since the last call.
func (o *observer) events() []sources.Event {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := o.src.Flush(ctx); err != nil {
		o.t.Fatalf("Flush: %v", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	got := o.got
	o.got = nil
	return got
}

// fire checks which watches have fired since the last look, whatever has happened to each.
func (o *observer) fire(after string, want ...sources.Watch) {
	o.t.Helper()
	got := o.events()
	for _, w := range want {
		if !slices.ContainsFunc(got, func(e sources.Event) bool { return e.Watch == w }) {
			o.t.Errorf("%s: %v did not fire, only %v", after, w, got)
		}
	}
	for _, e := range got {
		if !slices.Contains(want, e.Watch) {
			o.t.Errorf("%s: %v fired, want only %v", after, e, want)
		}
	}
}

// fires is fire for what the kernel does later: it waits until all have fired, and for what
// follows.
func (o *observer) fires(after string, want ...sources.Watch) {
	o.t.Helper()
	fired := make(map[sources.Watch]bool)
	for end := time.Now().Add(patience); len(fired) < len(want); {
		for _, e := range o.events() {
			if !slices.Contains(want, e.Watch) {
				o.t.Errorf("%s: %v fired, want only %v", after, e, want)
			}
			fired[e.Watch] = true
		}
		if time.Now().After(end) {
			o.t.Fatalf("%s: only %v have fired, want %v", after, fired, want)
		}
		time.Sleep(time.Millisecond)
	}
	o.quiet()
}

// quiet waits until what happens by itself has happened: the kernel is in no hurry to
// finish the set-up of a link.
func (o *observer) quiet() {
	o.t.Helper()
	for end := time.Now().Add(patience); ; {
		time.Sleep(20 * time.Millisecond)
		if len(o.events()) == 0 {
			return
		}
		if time.Now().After(end) {
			o.t.Fatal("the events don't cease")
		}
	}
}

func TestWatches(t *testing.T) {
	ip(t, "link add other0 type veth peer name other1")
	defer ip(t, "link del other0")
	ip(t, "link set other0 up")
	link, adr, route, fwd := netlink.Link("mg0"), netlink.Addrs("mg0"), netlink.Routes("mg0"), netlink.Forwarding("mg0")
	all := []sources.Watch{link, adr, route, fwd}
	o := observe(t)
	o.add(all...)
	o.fire("adding")

	ip(t, "link add mg0 type veth peer name mg1")
	o.fire("the link is made", all...)
	ip(t, "link set mg0 up")
	ip(t, "link set mg1 up")
	o.quiet()
	ip(t, "addr add 192.0.2.1/24 dev mg0")
	o.fire("an address and the route that comes with it", adr, route)
	ip(t, "addr add 2001:db8::1/128 dev mg0 nodad")
	// The kernel looks for duplicates first, even if it need not, when it finds the time.
	o.fires("an address of version 6", adr, route)
	ip(t, "addr add 198.51.100.1/24 dev other0")
	o.fire("an address of another link")
	ip(t, "route add 203.0.113.0/24 via 192.0.2.9")
	o.fire("a route", route)
	ip(t, "route add 203.0.113.0/25 nexthop via 192.0.2.8 dev mg0 nexthop via 198.51.100.8 dev other0")
	o.fire("a route with two ways", route)
	ip(t, "route del 203.0.113.0/24 via 192.0.2.9")
	o.fire("a route less", route)
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/mg0/forwarding", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	o.fire("it forwards", fwd)
	for _, value := range []string{"1", "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/forwarding", []byte(value), 0); err != nil {
			t.Fatal(err)
		}
		o.fire("all forward: "+value, fwd)
	}
	ip(t, "addr del 192.0.2.1/24 dev mg0")
	if got := o.events(); !slices.ContainsFunc(got, func(e sources.Event) bool { return e.Watch == adr && e.What == "delete" }) {
		t.Errorf("an address less: %v", got)
	}
	ip(t, "link set mg0 mtu 1400")
	o.fire("another size of packets", link, route)
	ip(t, "link set mg0 down")
	o.quiet()
	ip(t, "link set mg0 name away")
	o.fire("it is called otherwise", all...)
	ip(t, "addr add 192.0.2.1/24 dev away")
	o.fire("an address of what was called so")
	ip(t, "link set away name mg0")
	o.fire("it is called as before", all...)
	for _, w := range []sources.Watch{adr, route, fwd} {
		o.src.Remove(w)
	}
	ip(t, "link set mg0 up")
	o.fire("the watches that are left", link)
	o.quiet()
	ip(t, "link del mg1")
	if got := o.events(); len(got) == 0 || got[len(got)-1].What != "delete" {
		t.Errorf("it has vanished: %v", got)
	}
}

func TestALinkThatWasThereBefore(t *testing.T) {
	ip(t, "link add mg0 type veth peer name mg1")
	defer ip(t, "link del mg0")
	o := observe(t)
	o.add(netlink.Addrs("mg0"), netlink.Addrs("mg0"))
	ip(t, "addr add 192.0.2.1/24 dev mg0")
	o.fire("an address", netlink.Addrs("mg0"))
	o.src.Remove(netlink.Addrs("mg0"))
	ip(t, "addr add 192.0.2.2/24 dev mg0")
	o.fire("an address, watched twice and once no longer", netlink.Addrs("mg0"))
}

func TestAPortOfABridge(t *testing.T) {
	ip(t, "link add mg0 type veth peer name mg1")
	defer ip(t, "link del mg0")
	ip(t, "link add br0 type bridge")
	defer ip(t, "link del br0")
	ip(t, "link set mg0 master br0")
	o := observe(t)
	o.add(netlink.Link("mg0"), netlink.Addrs("mg0"))
	ip(t, "link set mg0 nomaster")
	o.fire("it leaves the bridge", netlink.Link("mg0"))
	ip(t, "addr add 192.0.2.1/24 dev mg0")
	o.fire("it is still there", netlink.Addrs("mg0"))
}

// TestOverflow has more happen than the socket holds.
func TestOverflow(t *testing.T) {
	ip(t, "link add mg0 type veth peer name mg1")
	defer ip(t, "link del mg0")
	o := observe(t)
	w := netlink.Addrs("mg0")
	o.add(w)
	o.hold.Lock()
	link, err := library.LinkByName("mg0")
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := library.ParseAddr("192.0.2.1/24")
	for range 6000 {
		if err := errors.Join(library.AddrAdd(link, addr), library.AddrDel(link, addr)); err != nil {
			t.Fatal(err)
		}
	}
	flushed := make(chan error, 1)
	go func() { flushed <- o.src.Flush(t.Context()) }()
	o.hold.Unlock()
	select {
	case err := <-flushed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Flush across an overflow does not return")
	}
	if got := o.events(); !slices.ContainsFunc(got, func(e sources.Event) bool { return e.Watch == nil && e.What == "overflow" && e.Err == nil }) {
		t.Errorf("no event among %d says that the socket has overflown", len(got))
	}
	ip(t, "addr add 192.0.2.2/24 dev mg0")
	o.fire("after the overflow", w)
}

// TestNothingIsOpen has the source close what it has opened.
func TestNothingIsOpen(t *testing.T) {
	count := func() (n int) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, "socket:") {
				n++
			}
		}
		return n
	}
	before := count()
	src := netlink.New()
	if err := src.Add(netlink.Link("lo")); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != before+1 {
		t.Errorf("%d sockets are open with a watch, %d without", n, before)
	}
	src.Remove(netlink.Link("lo"))
	if n := count(); n != before {
		t.Errorf("%d sockets are open in the end, %d before", n, before)
	}
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		if err := src.Add(netlink.Link("lo")); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- src.Events().Subscribe(ctx, func(sources.Event) bool { return true }) }()
		if err := src.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Events ended with %v", err)
		}
		if n := count(); n != before {
			t.Errorf("%d sockets are open after the subscription, %d before", n, before)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	src := netlink.New()
	if err := src.Add(sources.Interval{Every: time.Second}); err == nil || !strings.Contains(err.Error(), "sources.Interval is not a watch of the source netlink") {
		t.Errorf("it says %v", err)
	}
}

// TestForgedMessages has another process send what only the kernel should.
func TestForgedMessages(t *testing.T) {
	private.Need(t)
	o := observe(t)
	o.add(netlink.Link("lo"))
	forger, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer forger.Close()
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = 1
	req.AddData(info)
	for pid := os.Getpid(); pid < os.Getpid()+3; pid++ {
		_ = unix.Sendto(forger.GetFd(), req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: uint32(pid)})
	}
	o.fire("a forged message")
}

// BenchmarkLatency measures the time from a change until its event is emitted, with a
// thousand watches.
func BenchmarkLatency(b *testing.B) {
	ip(b, "link add mg0 type veth peer name mg1")
	defer ip(b, "link del mg0")
	src := netlink.New()
	for i := range 1000 {
		if err := src.Add(netlink.Addrs(fmt.Sprint("none", i))); err != nil {
			b.Fatal(err)
		}
	}
	if err := src.Add(netlink.Addrs("mg0")); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	came, ended := make(chan time.Time, 16), make(chan error, 1)
	go func() {
		ended <- src.Events().Subscribe(ctx, func(sources.Event) bool { came <- time.Now(); return true })
	}()
	defer func() { cancel(); <-ended }()
	link, err := library.LinkByName("mg0")
	if err != nil {
		b.Fatal(err)
	}
	addr, _ := library.ParseAddr("192.0.2.1/24")
	var took []time.Duration
	for b.Loop() {
		for _, change := range []func(library.Link, *library.Addr) error{library.AddrAdd, library.AddrDel} {
			start := time.Now()
			if err := change(link, addr); err != nil {
				b.Fatal(err)
			}
			took = append(took, (<-came).Sub(start))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "µs-median")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "µs-p99")
}
