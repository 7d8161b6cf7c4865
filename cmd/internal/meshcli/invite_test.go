package meshcli_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/cmd/internal/meshcli"
	"github.com/mgmtproject/mgmt/pipeline/peer"
	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mesh runs the command line and returns what it has said.
func mesh(t *testing.T, args ...string) (out, err string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = meshcli.Run(t.Context(), meshcli.Program{In: strings.NewReader(""), Out: &stdout, Err: &stderr}, args)
	return stdout.String(), stderr.String(), code
}

// open runs the peer of a host until the test ends.
func open(t *testing.T, prefix, host, token string) *peer.Peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := peer.Open(ctx, peer.Options{Host: host, Dir: filepath.Join(prefix, "mesh", host), Join: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestAMeshBeginsWithInitAndGrowsByInvite(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	out, stderr, code := mesh(t, "init", "--prefix", first, "--hostname", "a")
	if code != 0 || !strings.Contains(out, "authority    sha256:") {
		t.Fatalf("%d: %s%s", code, out, stderr)
	}
	_, authority, _ := strings.Cut(strings.TrimSpace(out), "sha256:")
	if _, stderr, code := mesh(t, "init", "--prefix", first, "--hostname", "a"); code != 1 || !strings.Contains(stderr, "to begin anew, move the directory away") {
		t.Errorf("%d: %s", code, stderr)
	}
	if _, stderr, code := mesh(t, "invite", "--prefix", first); code != 1 || !strings.Contains(stderr, "knows no mesh") {
		t.Errorf("before the first run: %d: %s", code, stderr)
	}
	open(t, first, "a", "")
	var token string
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if out, stderr, code = mesh(t, "invite", "--prefix", first, "--host", "b", "--expires", "10m"); code == 0 {
			token = strings.TrimSpace(out)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d: %s", code, stderr)
		}
	}
	if strings.ContainsAny(token, " \n") || !strings.Contains(stderr, "host b can join with it, as an agent, once, until 20") || !strings.Contains(stderr, authority) {
		t.Errorf("token %q, %s", token, stderr)
	}
	b := open(t, second, "b", token)
	if b.Identity().Serves() || b.Identity().Fingerprint() != authority {
		t.Errorf("b is %+v", b.Identity())
	}
	if _, stderr, code := mesh(t, "invite", "--prefix", second); code != 1 || !strings.Contains(stderr, "this host can't admit others, since it was not invited with --serve") {
		t.Errorf("%d: %s", code, stderr)
	}
}

func TestInviteRefusesWhatMakesNoSense(t *testing.T) {
	for _, c := range []struct {
		name, want string
		args       []string
		code       int
	}{
		{"there was never a mesh", "has not been in a mesh here", nil, 1},
		{"an argument too many", "", []string{"web2"}, 2},
		{"a name that is none", "is no name for a host", []string{"--host", "a/b"}, 2},
		{"a duration that is none", "expires", []string{"--expires", "soon"}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, stderr, code := mesh(t, append([]string{"invite", "--prefix", t.TempDir()}, c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("%d: %s", code, stderr)
			}
		})
	}
	prefix := t.TempDir()
	if _, err := identity.Open(filepath.Join(prefix, "mesh", "a", "identity")); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := mesh(t, "init", "--prefix", prefix, "--hostname", "root"); code != 1 || !strings.Contains(stderr, "etcd's administrator") {
		t.Errorf("%d: %s", code, stderr)
	}
}
