package peer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
)

// Ports below those that the system gives away by itself, so that nobody else is given one
// of ours while our server is down.
const (
	firstPort = 22000
	lastPort  = 32000
)

// addresses are where a server of this host listens and where others find it.
type addresses struct {
	client, peer, advertiseClient, advertisePeer []string
}

// choose decides on all addresses, and refuses those that are not safe.
func (p *Peer) choose() error {
	secured := p.id.Secured()
	last := p.notes.get()
	var a addresses
	var err error
	if a.client, err = listen(p.o.ClientURLs, last.ClientURLs, secured); err != nil {
		return fmt.Errorf("listening for clients: %w", err)
	}
	if a.peer, err = listen(p.o.ServerURLs, last.PeerURLs, secured); err != nil {
		return fmt.Errorf("listening for other servers: %w", err)
	}
	a.advertiseClient = advertised(p.o.AdvertiseClientURLs, a.client, secured)
	a.advertisePeer = advertised(p.o.AdvertiseServerURLs, a.peer, secured)
	if !p.o.NoServer {
		if err := reachable(slices.Concat(a.advertiseClient, a.advertisePeer)); err != nil {
			return err
		}
		if err := identity.Allow("listen on", slices.Concat(a.client, a.peer), secured, p.o.Insecure); err != nil {
			return err
		}
	}
	p.node = newNode(p, a)
	return p.notes.change(func(r *remembered) {
		r.ClientURLs, r.PeerURLs = a.client, a.peer
	})
}

// listen gives each address a port: the one that it says, that of last time, or a free one.
func listen(want, last []string, secured bool) ([]string, error) {
	if len(want) == 0 {
		want = []string{"127.0.0.1:0"}
	}
	urls := withScheme(want, secured)
	for i, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		if u.Port() != "0" && u.Port() != "" {
			continue
		}
		if i < len(last) {
			if old, err := url.Parse(last[i]); err == nil && old.Hostname() == u.Hostname() && free(old.Host) {
				urls[i] = u.Scheme + "://" + old.Host
				continue
			}
		}
		if u.Host, err = freePort(u.Hostname()); err != nil {
			return nil, err
		}
		urls[i] = u.String()
	}
	return urls, nil
}

// advertised is what others are told, by default where the server listens.
func advertised(want, listens []string, secured bool) []string {
	if len(want) > 0 {
		return withScheme(want, secured)
	}
	return listens
}

// reachable refuses addresses to listen on that nobody can dial.
func reachable(advertised []string) error {
	for _, text := range advertised {
		u, err := url.Parse(text)
		if err != nil {
			return err
		}
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsUnspecified() {
			return fmt.Errorf("other hosts can't reach %s: give the address of this host with --advertise-client-urls and --advertise-server-urls", text)
		}
	}
	return nil
}

// withScheme makes URLs of addresses.
func withScheme(addresses []string, secured bool) []string {
	scheme := "http://"
	if secured {
		scheme = "https://"
	}
	urls := make([]string, 0, len(addresses))
	for _, a := range addresses {
		if !strings.Contains(a, "://") {
			a = scheme + a
		}
		urls = append(urls, strings.TrimSuffix(a, "/"))
	}
	return urls
}

// freePort finds a port of a host on which nobody listens.
func freePort(host string) (string, error) {
	for range 200 {
		port := firstPort + rand.N(lastPort-firstPort)
		address := net.JoinHostPort(host, strconv.Itoa(port))
		if l, err := net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// free tells whether one can listen there. It asks for a moment longer: whoever has been
// killed there may not be gone yet.
func free(address string) bool {
	for range 20 {
		if l, err := net.Listen("tcp", address); err == nil {
			return l.Close() == nil
		}
		pause(context.Background(), 10*time.Millisecond)
	}
	return false
}
