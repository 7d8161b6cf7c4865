package server_test

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

// slowLink listens for who wants to go to address, and takes its time to carry each byte
// there, and back.
func slowLink(t *testing.T, address func() string, delay time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", address())
			if err != nil {
				_ = from.Close()
				continue
			}
			mu.Lock()
			open = append(open, from, to)
			mu.Unlock()
			all.Go(func() { carry(to, from, delay) })
			all.Go(func() { carry(from, to, delay) })
		}
	})
	return l.Addr().String()
}

// carry copies what comes from a connection to another after a delay.
func carry(to, from net.Conn, delay time.Duration) {
	type piece struct {
		bytes []byte
		at    time.Time
	}
	pieces := make(chan piece, 10_000)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				pieces <- piece{b[:n], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.at))
		if _, err := to.Write(p.bytes); err != nil {
			_ = from.Close()
		}
	}
	_ = to.Close()
}

func TestServersFarFromEachOtherKeepTheirLeader(t *testing.T) {
	const delay = 200 * time.Millisecond
	var addresses [3]string
	var links [3]string
	for i := range links {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = l.Addr().String()
		_ = l.Close()
		links[i] = "http://" + slowLink(t, func() string { return addresses[i] }, delay)
	}
	var servers []*server.Server
	for i, name := range []string{"a", "b", "c"} {
		o := server.Options{Name: name, PeerURLs: []string{"http://" + addresses[i]}, AdvertisePeerURLs: []string{links[i]}}
		if i > 0 {
			o = addAt(t, o, servers[0], links[i])
		}
		servers = append(servers, start(t, o))
	}
	promote(t, servers[1], servers[0])
	promote(t, servers[2], servers[0])
	term := func() uint64 {
		return server.Survey(t.Context(), remote(t, servers[0]), servers[0].ClientURLs())[0].Term
	}
	begin, before := time.Now(), term()
	for n := range 10 {
		put(t, servers[n%3], "x", fmt.Sprint(n))
	}
	t.Log("10 writes took", time.Since(begin))
	if after := term(); after > before+1 { // one may be the fault of a busy machine
		t.Errorf("there were %d elections", after-before)
	}
}
