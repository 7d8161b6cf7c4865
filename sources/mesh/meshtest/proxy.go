package meshtest

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/mgmtproject/mgmt/sources/mesh/etcd"
)

// Proxy is a way to a node that can be disturbed.
type Proxy struct {
	// Endpoint is where clients begin.
	Endpoint string

	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	cut   bool
	flow  chan struct{} // closed while bytes flow
}

// Proxy returns a new way to the node, which ends with the test.
func (n *Node) Proxy(t testing.TB) *Proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "mesh") //nolint:usetesting // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	p, err := newProxy(filepath.Join(dir, "socket"), filepath.Join(n.dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return p
}

// newProxy listens at one socket for the other.
func newProxy(at, to string) (*Proxy, error) {
	l, err := net.Listen("unix", at)
	if err != nil {
		return nil, err
	}
	p := &Proxy{Endpoint: "unix://" + at, listener: l, conns: make(map[net.Conn]bool), flow: make(chan struct{})}
	close(p.flow)
	p.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.carry(in, to) })
		}
	})
	return p, nil
}

// close ends the proxy, and all connections.
func (p *Proxy) close() {
	_ = p.listener.Close() // and with it the file
	p.Cut()
	p.wg.Wait()
}

// carry copies between in and the node until either end closes.
func (p *Proxy) carry(in net.Conn, path string) {
	defer in.Close()
	out, err := net.Dial("unix", path)
	if err != nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	if p.cut {
		p.mu.Unlock()
		return
	}
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	var wg sync.WaitGroup
	pump := func(to, from net.Conn) {
		_, _ = io.Copy(writer{p, to}, from)
		in.Close()
		out.Close()
	}
	wg.Go(func() { pump(in, out) })
	wg.Go(func() { pump(out, in) })
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, in)
	delete(p.conns, out)
}

// writer waits until bytes flow.
type writer struct {
	p  *Proxy
	to net.Conn
}

func (w writer) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	flow := w.p.flow
	w.p.mu.Unlock()
	<-flow
	return w.to.Write(b)
}

// Cut ends all connections, and refuses new ones until Heal, as when a host goes down.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		c.Close()
	}
	p.open()
}

// Hang lets connections be and carries nothing until Heal, as when a host is stopped.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open()
	p.flow = make(chan struct{})
}

// Heal undoes Cut and Hang. What was held back by Hang comes through.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
	p.open()
}

// open lets bytes flow.
func (p *Proxy) open() {
	select {
	case <-p.flow:
	default:
		close(p.flow)
	}
}

// StoreThrough returns what the named host sees through proxies, whichever of them it finds to
// work. It is closed when the test ends.
func (n *Node) StoreThrough(t testing.TB, host string, proxies ...*Proxy) *etcd.Store {
	t.Helper()
	endpoints := make([]string, len(proxies))
	for i, p := range proxies {
		endpoints[i] = p.Endpoint
	}
	return n.store(t, host, endpoints)
}

// client returns a client that is closed when the test ends.
func client(t testing.TB, endpoints []string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(etcd.Config(endpoints, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it says that it was cancelled
	return c
}
