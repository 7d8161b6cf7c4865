package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Network is a switch that hosts are plugged into. It and the links are in network
// namespaces that only this process holds: nothing of it is seen on this machine, or
// is left when the process ends.
type Network struct {
	ns *os.File // of the bridge

	mu    sync.Mutex // guards links
	links int
}

// NewNetwork makes a network without hosts. It needs the program ip of iproute2.
func NewNetwork(ctx context.Context) (*Network, error) {
	ns, err := newNetNS()
	if err != nil {
		return nil, impossible(err)
	}
	n := &Network{ns: ns}
	if err := ip(ctx, ns, "link add name br0 up type bridge"); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Close gives the network up, after the last of its hosts has ended.
func (n *Network) Close() error { return n.ns.Close() }

// plug makes a network namespace with the link host0 and the address.
func (n *Network) plug(ctx context.Context, address string) (*os.File, error) {
	ns, err := newNetNS()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.links++
	port := fmt.Sprintf("port%d", n.links)
	n.mu.Unlock()
	for _, step := range []struct {
		ns   *os.File
		args string
	}{
		{n.ns, "link add name " + port + " type veth peer name host0 netns " + nsPath(ns)},
		{n.ns, "link set dev " + port + " up master br0"},
		{ns, "address add dev host0 " + address},
		{ns, "link set dev host0 up"},
		{ns, "link set dev lo up"},
	} {
		if err := ip(ctx, step.ns, step.args); err != nil {
			return nil, errors.Join(err, ns.Close())
		}
	}
	return ns, nil
}

// newNetNS returns a new network namespace, which lasts until the file is closed and
// no process is in it.
func newNetNS() (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this function
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{nil, os.NewSyscallError("unshare", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		made <- result{f, err}
	}()
	r := <-made
	return r.f, r.err
}

// nsPath is a path that other processes find the namespace by.
func nsPath(ns *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()) }

func ip(ctx context.Context, ns *os.File, args string) error {
	out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + nsPath(ns), "ip"}, strings.Fields(args)...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, strings.TrimSpace(string(out)))
	}
	return nil
}
