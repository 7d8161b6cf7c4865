package identity

import (
	"fmt"
	"net/netip"
	"net/url"
)

// Allow says whether a host may listen on addresses, or dial them. Without certificates
// that is its loopback alone, unless the user has said that it may be insecure; with them
// nothing goes over a network without TLS. What is "listen on" or "dial".
func Allow(what string, urls []string, secured, insecure bool) error {
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" && u.Path == "" {
			return fmt.Errorf("%q is no URL, expected one such as https://192.0.2.1:2379", text)
		}
		switch {
		case u.Scheme == "unix" || u.Scheme == "unixs":
		case u.Scheme != "http" && u.Scheme != "https":
			return fmt.Errorf("the URL %s is for %q, expected http or https", text, u.Scheme)
		case u.Scheme == "https" && !secured:
			return fmt.Errorf("can't %s %s: this host has no certificate; make a mesh with \"mgmt mesh init\", or join one with a token of \"mgmt mesh invite\"", what, text)
		case u.Scheme == "https" || insecure || loopback(u.Hostname()):
		case secured:
			return fmt.Errorf("won't %s %s: this mesh has certificates, so use https", what, text)
		default:
			return fmt.Errorf("won't %s %s without certificates, since anybody on that network could read and change all: make some with \"mgmt mesh init\" on the first host and join with a token of \"mgmt mesh invite\", or give --insecure", what, text)
		}
	}
	return nil
}

// loopback says whether a host is surely this one. Names other than localhost may come to
// mean anything.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
