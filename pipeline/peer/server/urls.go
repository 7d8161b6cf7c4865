package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/mgmtproject/mgmt/pipeline/peer/internal/files"
)

// urls are where a server listens, and where others find it.
type urls struct {
	client, peer, advertiseClient, advertisePeer []string
}

// ports is what is kept of them in the directory of the server, for the next time: others
// know it by what was once free.
type ports struct {
	Client []string `json:"client"`
	Peer   []string `json:"peer"`
}

func portsFile(dir string) string { return filepath.Join(dir, "urls.json") }

func findURLs(o Options) (urls, error) {
	last, err := readPorts(o.Dir)
	if err != nil {
		return urls{}, err
	}
	u := urls{}
	if u.client, err = fixPorts(o.ClientURLs, o.TLS.CertFile != "", last.Client); err != nil {
		return urls{}, fmt.Errorf("listening for clients: %w", err)
	}
	if u.peer, err = fixPorts(o.PeerURLs, o.TLS.PeerCertFile != "", last.Peer); err != nil {
		return urls{}, fmt.Errorf("listening for other servers: %w", err)
	}
	u.advertiseClient, u.advertisePeer = o.AdvertiseClientURLs, o.AdvertisePeerURLs
	if len(u.advertiseClient) == 0 {
		u.advertiseClient = u.client
	}
	if len(u.advertisePeer) == 0 {
		u.advertisePeer = u.peer
	}
	return u, writePorts(o.Dir, ports{Client: u.client, Peer: u.peer})
}

func readPorts(dir string) (ports, error) {
	var p ports
	text, err := os.ReadFile(portsFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		return ports{}, fmt.Errorf("reading the ports of last time: %w", err)
	}
	return p, nil
}

func writePorts(dir string, p ports) error {
	text, err := json.Marshal(p)
	if err == nil {
		err = files.Replace(portsFile(dir), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping the ports for the next time: %w", err)
	}
	return nil
}

// fixPorts puts a port that is free in the place of each 0: that of last time if it can.
func fixPorts(want []string, secure bool, last []string) ([]string, error) {
	if len(want) == 0 {
		want = []string{"http://127.0.0.1:0"}
		if secure {
			want = []string{"https://127.0.0.1:0"}
		}
	}
	fixed := make([]string, len(want))
	for i, w := range want {
		u, err := url.Parse(strings.TrimSuffix(w, "/"))
		if err != nil {
			return nil, err
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" {
			return nil, fmt.Errorf("%q is no URL of a server, expected one like https://10.0.0.1:2379", w)
		}
		if u.Port() == "0" {
			if u.Host, err = freePort(u.Hostname(), last, i); err != nil {
				return nil, err
			}
		}
		fixed[i] = u.String()
	}
	return fixed, nil
}

// freePort finds a port of a host on which nobody listens.
func freePort(host string, last []string, i int) (string, error) {
	if i < len(last) {
		u, err := url.Parse(last[i])
		if err == nil && u.Hostname() == host && free(u.Host) {
			return u.Host, nil
		}
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// free tells whether one can listen there.
func free(address string) bool {
	l, err := net.Listen("tcp", address)
	return err == nil && l.Close() == nil
}
