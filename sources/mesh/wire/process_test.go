package wire_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/wire"
)

// peerVariable makes this program the peer of an agent, at file descriptor 3.
const peerVariable = "MESH_TEST_PEER"

func servePeer() {
	conn, err := net.FileConn(os.NewFile(3, "agent"))
	if err == nil {
		err = wire.Serve(context.Background(), conn, echo{})
	}
	fmt.Println("ended with", err)
}

// spawn starts a peer in a process of its own.
func spawn(t testing.TB) (*wire.Client, *exec.Cmd, *strings.Builder) {
	t.Helper()
	agent, peer := pair(t)
	file, err := peer.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), peerVariable+"=1")
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	file.Close()
	peer.Close()
	far := wire.Dial(agent, nil)
	t.Cleanup(func() { far.Close(); _ = cmd.Wait() })
	return far, cmd, &out
}

func TestAPeerInAProcessThatIsKilled(t *testing.T) {
	far, cmd, _ := spawn(t)
	if _, ok, err := far.Get(t.Context(), "x"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	within(t, "the end of the connection", func() { <-far.Done() })
	if _, _, err := far.Get(t.Context(), "x"); !errors.Is(err, mesh.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestAPeerInAProcessEndsWithItsAgent(t *testing.T) {
	far, cmd, out := spawn(t)
	if far.Host() != "echo" {
		t.Fatal(far.Host())
	}
	far.Close()
	within(t, "the end of the peer", func() { _ = cmd.Wait() })
	if out.String() != "ended with <nil>\n" {
		t.Errorf("the peer says %q", out)
	}
}
