package peer_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/pipeline/peer"
)

// asHost is the variable that makes this program one host of a mesh, in place of the tests.
const asHost = "PEER_TEST_HOST"

func TestMain(m *testing.M) {
	if text := os.Getenv(asHost); text != "" {
		os.Exit(beHost(text))
	}
	code := m.Run()
	leak := goleak.Find()
	// Some connections of etcd between servers notice only after seconds that they are over.
	for end := time.Now().Add(15 * time.Second); leak != nil && time.Now().Before(end); leak = goleak.Find() {
		time.Sleep(100 * time.Millisecond)
	}
	if code == 0 && leak != nil {
		fmt.Fprintln(os.Stderr, leak)
		code = 1
	}
	os.Exit(code)
}

// beHost opens a peer, says so, and closes it when its standard input ends.
func beHost(text string) int {
	var o peer.Options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level()}))
	p, err := peer.Open(context.Background(), o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := p.Close(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// process is a host in a process of its own.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	opens chan time.Duration
	ended chan struct{}
}

// spawn starts a host in a process of its own and returns at once.
func (w *town) spawn(host string, seeds ...string) *process {
	w.t.Helper()
	o := w.options(peer.Options{Host: host, Seeds: seeds})
	o.Log = nil
	text, err := json.Marshal(o)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asHost+"="+string(text))
	cmd.Stderr = lines{w.t, host}
	if _, err := cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	p := &process{t: w.t, cmd: cmd, opens: make(chan time.Duration, 1), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			if strings.TrimSpace(s.Text()) == "open" {
				p.opens <- time.Since(began)
			}
		}
		_ = cmd.Wait() // it may have been killed
	}()
	w.t.Cleanup(p.kill)
	return p
}

// open waits until the host is in the mesh.
func (p *process) open() time.Duration {
	p.t.Helper()
	select {
	case d := <-p.opens:
		return d
	case <-p.ended:
		p.t.Fatal("a host has ended")
	case <-time.After(40 * time.Second):
		p.t.Fatal("a host doesn't find the mesh")
	}
	return 0
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the host without giving it a moment.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // it may have ended already
	_ = p.cmd.Process.Kill()
	<-p.ended
}
