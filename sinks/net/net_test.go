package net_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/net"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/private"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/netlink"
)

func TestMain(m *testing.M) { private.Main(m) }

type params = map[string]any

// run runs lines of the program ip.
func run(lines ...string) error {
	for _, line := range lines {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// ip is run, or skips the test where there is none.
func ip(t testing.TB, lines ...string) {
	t.Helper()
	private.Need(t)
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the program ip, Debian package iproute2")
	}
	if err := run(lines...); err != nil {
		t.Fatal(err)
	}
}

// pair makes a link mg0, whose other end is up.
func pair(t testing.TB) {
	t.Helper()
	ip(t, "link add mg0 type veth peer name mg1", "link set mg1 up")
	t.Cleanup(func() { ip(t, "link del mg0") })
}

func TestEdges(t *testing.T) {
	if got := sinktest.Edges(t, &net.Config{State: "up"}, "eth0"); !slices.Equal(got, []string{"provides link eth0"}) {
		t.Errorf("got %q", got)
	}
}

// state tells all of mg0.
func state() (string, error) {
	text := ""
	for _, line := range []string{"-o addr show dev mg0", "-4 route", "-6 route", "-o link show dev mg0"} {
		out, err := exec.Command("ip", strings.Fields(line)...).Output()
		if err != nil {
			return "", err
		}
		for word := range strings.FieldsSeq(string(out)) {
			switch word {
			case "tentative", "state", "UP", "DOWN", "LOWERLAYERDOWN", "linkdown", "qlen", "1000":
				// What the kernel does in its own time.
			default:
				text += word + " "
			}
		}
		text += "\n"
	}
	forwards, err := os.ReadFile("/proc/sys/net/ipv4/conf/mg0/forwarding")
	// The carrier, and what the link itself needs, come and go some time after up and down.
	keep := text[:0]
	for line := range strings.Lines(text) {
		if i := strings.Index(line, "<"); i >= 0 {
			flags, rest, _ := strings.Cut(line[i+1:], ">")
			up := strings.Contains(","+flags+",", ",UP,")
			line = fmt.Sprint(line[:i], up, rest)
		}
		keep += line
	}
	return keep + string(forwards), err
}

// undone is what is told of mg0 that is put back: neither who has made a route, nor its
// metric and the like.
func undone() (string, error) {
	text, err := state()
	for _, detail := range []string{"proto static ", "metric 7 ", "brd 192.0.2.255 ", "secondary "} {
		text = strings.ReplaceAll(text, detail, "")
	}
	words := strings.Fields(text)
	slices.Sort(words)
	return strings.Join(words, " "), err
}

func TestConformance(t *testing.T) {
	pair(t)
	for _, name := range []string{"mg0", "mg1"} { // no addresses by itself, at times of its own
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte("1"), 0); err != nil {
			t.Skip("needs a kernel with IPv6:", err)
		}
	}
	does := func(lines ...string) func() error { return func() error { return run(lines...) } }
	for _, c := range []sinktest.Case{
		{Name: "it is set down", Params: params{}, Disturb: does("link set mg0 down")},
		{Name: "it is set up", Params: params{"state": "down"}, Disturb: does("link set mg0 up")},
		{Name: "an address is removed", Params: params{"addrs": []any{"192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"}},
			Disturb: does("addr del 192.0.2.2/24 dev mg0", "addr del 2001:db8::1/64 dev mg0")},
		{Name: "an address is removed, and another one with it", Params: params{"addrs": []any{"192.0.2.1/24", "192.0.2.2/24"}},
			Disturb: does("addr flush dev mg0", "addr add 192.0.2.3/24 dev mg0", "addr add 192.0.2.1/24 dev mg0")},
		{Name: "an address is added", Params: params{"addrs": []any{"192.0.2.1/24"}},
			Disturb: does("addr add 198.51.100.1/32 dev mg0", "addr add 2001:db8::2/64 dev mg0")},
		{Name: "it shall have no address", Params: params{"addrs": []any{}}, Disturb: does("addr add 198.51.100.1/32 dev mg0")},
		{Name: "the default route is removed", Params: params{"addrs": "192.0.2.1/24", "gateway": "192.0.2.254"},
			Disturb: does("route del default")},
		{Name: "the default route leads elsewhere", Params: params{"addrs": "192.0.2.1/24", "gateway": "192.0.2.254"},
			Disturb: does("route replace default via 192.0.2.7")},
		{Name: "there is a second default route", Params: params{"addrs": "192.0.2.1/24", "gateway": "192.0.2.254"},
			Disturb: does("route add default via 192.0.2.7 metric 7")},
		{Name: "there shall be no default route", Params: params{"addrs": "192.0.2.1/24", "gateway": "none"},
			Disturb: does("route add default via 192.0.2.7 metric 7")},
		{Name: "a default route of version 6", Params: params{"addrs": "2001:db8::1/64", "gateway": "2001:db8::fe"},
			Disturb: does("-6 route del default")},
		{Name: "a default route of version 6 that leads elsewhere", Params: params{"addrs": "2001:db8::1/64", "gateway": "2001:db8::fe"},
			Disturb: does("-6 route del default", "-6 route add default via 2001:db8::7 metric 7")},
		{Name: "it forwards", Params: params{"ip_forward": true},
			Disturb: func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/mg0/forwarding", []byte("0"), 0) }},
		{Name: "it does not forward", Params: params{"ip_forward": false},
			Disturb: func() error {
				return errors.Join(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
			}},
		{Name: "all at once", Params: params{"addrs": []any{"192.0.2.1/24"}, "gateway": "192.0.2.254", "ip_forward": true},
			Disturb: does("link set mg0 down", "addr flush dev mg0")},
	} {
		c.Resource, c.State, c.Undone = "mg0", state, undone
		switch c.Name {
		case "there is a second default route", // and two are not one gateway
			"an address is removed, and another one with it": // so it is another that comes first
			c.Undone = nil
		}
		sinktest.Run(t, net.Spec, c)
	}
}

func apply(t testing.TB, r sinks.Resource) (sinks.Outcome, error) {
	t.Helper()
	return r.CheckApply(t.Context(), true)
}

// TestWhatOthersGive leaves alone what came by DHCP or from a router, and what is of use on
// the link alone.
func TestWhatOthersGive(t *testing.T) {
	pair(t)
	ip(t, "link set mg0 up", "addr add 192.0.2.9/24 dev mg0 valid_lft 1000 preferred_lft 1000", "addr add 169.254.0.1/16 dev mg0 scope link",
		"route add default via 192.0.2.254 proto dhcp metric 100", "addr add 203.0.113.1/24 dev mg0")
	r := sinktest.Build(t, net.Spec, "mg0", params{"addrs": []any{"192.0.2.1/24"}, "gateway": "none"})
	if out, err := apply(t, r); err != nil || fmt.Sprint(out.Changes) != "[addrs: 203.0.113.1/24 -> 192.0.2.1/24]" {
		t.Errorf("%+v, %v", out, err)
	}
	now, err := state()
	for _, want := range []string{"192.0.2.9/24", "169.254.0.1/16", "default via 192.0.2.254 dev mg0 proto dhcp"} {
		if err != nil || !strings.Contains(now, want) {
			t.Errorf("%s is gone: %s, %v", want, now, err)
		}
	}
}

func TestRefused(t *testing.T) {
	pair(t)
	ip(t, "link set mg0 up", "addr add 192.0.2.1/24 dev mg0")
	for _, test := range []struct {
		name, resource string
		params         params
		want           string
	}{
		{"an interface that is not there", "mg7", params{}, "there is no network interface mg7, only lo, mg1, mg0: something else has to make it"},
		{"a gateway that is in no network", "mg0", params{"gateway": "203.0.113.1"}, "203.0.113.1: it can't be reached through mg0: give the interface an address"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := apply(t, sinktest.Build(t, net.Spec, test.resource, test.params)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v, want %q", err, test.want)
			}
		})
	}
	t.Run("a default route through another interface", func(t *testing.T) {
		ip(t, "addr add 198.51.100.1/24 dev mg1", "route add default via 198.51.100.254")
		_, err := apply(t, sinktest.Build(t, net.Spec, "mg0", params{"gateway": "192.0.2.254"}))
		if err == nil || !strings.Contains(err.Error(), "there is one by way of 198.51.100.254 through mg1 already") {
			t.Errorf("it says %v", err)
		}
		if now, _ := state(); !strings.Contains(now, "default via 198.51.100.254") {
			t.Errorf("the route of the other interface is gone: %s", now)
		}
	})
}

// TestItAppears has the interface be made after it was asked for.
func TestItAppears(t *testing.T) {
	private.Need(t)
	r := sinktest.Build(t, net.Spec, "mg0", params{"addrs": []any{"192.0.2.1/24"}})
	if _, err := apply(t, r); err == nil {
		t.Fatal("it is there already")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	src := netlink.New()
	for _, w := range r.Watches() {
		if err := src.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	pair(t)
	err := src.Events().Subscribe(ctx, func(sources.Event) bool { return false })
	if err != nil {
		t.Fatalf("no event says that it has appeared: %v", err)
	}
	if out, err := apply(t, r); err != nil || !out.Changed {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestManyAddresses has an interface with 500 addresses, and 500 interfaces with one.
func TestMany(t *testing.T) {
	const n = 500
	pair(t)
	var addrs []any
	for i := range n {
		addrs = append(addrs, fmt.Sprintf("10.0.%d.%d/16", i/250, i%250+1))
	}
	r := sinktest.Build(t, net.Spec, "mg0", params{"addrs": addrs})
	for _, changed := range []bool{true, false} {
		start := time.Now()
		if out, err := apply(t, r); err != nil || out.Changed != changed {
			t.Fatalf("%v, %v; want Changed to be %v", out.Changed, err, changed)
		}
		t.Logf("an interface with %d addresses, Changed %v: %v", n, changed, time.Since(start))
	}
	var lines strings.Builder
	for i := 0; i < n; i += 2 {
		fmt.Fprintf(&lines, "link add d%d group 7 type veth peer name d%d\n", i, i+1)
	}
	batch := exec.Command("ip", "-batch", "-")
	batch.Stdin = strings.NewReader(lines.String())
	if out, err := batch.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer ip(t, "link del group 7")
	var members []sinks.Resource
	for i := range n {
		members = append(members, sinktest.Build(t, net.Spec, fmt.Sprint("d", i), params{"addrs": []any{fmt.Sprintf("10.%d.%d.1/24", i/250+1, i%250)}}))
	}
	for _, changed := range []bool{true, false} {
		start := time.Now()
		for i, r := range members {
			if out, err := apply(t, r); err != nil || out.Changed != changed {
				t.Fatalf("d%d: %+v, %v; want Changed to be %v", i, out, err, changed)
			}
		}
		t.Logf("%d interfaces with an address, Changed %v: %v", n, changed, time.Since(start))
	}
}

func TestInvalid(t *testing.T) {
	for _, test := range []struct {
		name   string
		params params
		want   string
	}{
		{"", nil, "not the name of a network interface"},
		{"eth0/1", nil, "not the name of a network interface"},
		{"aninterfacecalledlong", nil, "not the name of a network interface"},
		{"..", nil, "not the name of a network interface"},
		{"eth0", params{"state": "sideways"}, "sideways"},
		{"eth0", params{"addrs": "192.0.2.1"}, `addrs: "192.0.2.1" is not an address with the length`},
		{"eth0", params{"addrs": "::ffff:192.0.2.1/120"}, "is not an address with the length"},
		{"eth0", params{"gateway": "router"}, `gateway: "router" is neither an address`},
		{"eth0", params{"gateway": "192.0.2.1", "state": "down"}, "gateway: there is no route through"},
	} {
		sinktest.Invalid(t, net.Spec, test.name, test.params, test.want)
	}
}
