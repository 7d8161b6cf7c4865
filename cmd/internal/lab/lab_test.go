package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/cmd/internal/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var a, b = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")

// two makes a network of two hosts.
func two(t *testing.T) (*lab.Network, *lab.Host, *lab.Host) {
	t.Helper()
	n, err := lab.NewNetwork()
	if errors.Is(err, lab.ErrImpossible) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	var hosts [2]*lab.Host
	for i, addr := range []netip.Addr{a, b} {
		if hosts[i], err = n.Host(fmt.Sprint("h", i), addr); err != nil {
			t.Fatal(err)
		}
	}
	return n, hosts[0], hosts[1]
}

// echo listens on a host and sends back what comes.
func echo(t *testing.T, h *lab.Host) string {
	t.Helper()
	l, err := h.Listen(t.Context(), "tcp", netip.AddrPortFrom(h.Addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// ping returns how long a line takes there and back.
func ping(t *testing.T, conn net.Conn) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	if err := conn.SetDeadline(began.Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(conn, "ping"); err != nil {
		return 0, err
	}
	_, err := bufio.NewReader(conn).ReadString('\n')
	return time.Since(began), err
}

func TestHostsReachEachOther(t *testing.T) {
	n, from, to := two(t)
	addr := echo(t, to)
	conn, err := from.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	took, err := ping(t, conn)
	if err != nil || took > 100*time.Millisecond {
		t.Fatal(took, err)
	}

	n.Set(a, b, lab.Link{Delay: 50 * time.Millisecond})
	if took, err = ping(t, conn); err != nil || took < 100*time.Millisecond {
		t.Errorf("with 50 ms each way it takes %v, %v", took, err)
	}

	n.Set(a, b, lab.Link{Cut: true})
	if took, err = ping(t, conn); err == nil {
		t.Errorf("through a cut link in %v", took)
	}

	n.Set(a, b, lab.Link{Loss: 0.05})
	_ = conn.Close()
	if conn, err = from.Dial(t.Context(), "tcp", addr); err != nil { // the other one still rests
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	go func() { _, _ = conn.Write([]byte(strings.Repeat("x", 1<<17))) }()
	if _, err := io.CopyN(io.Discard, conn, 1<<17); err != nil {
		t.Errorf("with one packet in twenty lost: %v after %v", err, time.Since(began))
	}
}

func TestPartsAreCutFromEachOtherOnly(t *testing.T) {
	n, from, to := two(t)
	addr := echo(t, to)
	reach := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		conn, err := from.Dial(ctx, "tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	n.Part([]netip.Addr{a}, []netip.Addr{b})
	if reach() {
		t.Error("reached over a partition")
	}
	n.Part([]netip.Addr{a, b})
	if !reach() {
		t.Error("not reached within a part")
	}
}

func TestAProcessIsPausedAndKilledWithAllThatItHasStarted(t *testing.T) {
	_, h, _ := two(t)
	cmd := exec.Command("sh", "-c", "sh -c 'while :; do echo tick; sleep 0.01; done' & wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	<-lines
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	quiet := time.After(300 * time.Millisecond)
	var late int
	for waiting := true; waiting; {
		select {
		case <-lines:
			late++
		case <-quiet:
			waiting = false
		}
	}
	if late > 10 {
		t.Errorf("%d lines after the pause", late)
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	<-lines
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	for range lines { // ends when no process has the pipe any more
	}
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Error(err)
	}
}
