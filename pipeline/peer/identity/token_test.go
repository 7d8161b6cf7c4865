package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// change makes another token of one.
func change(t *testing.T, text string, how func(*identity.Token)) string {
	t.Helper()
	token, err := identity.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	how(&token)
	if text, err = token.Text(); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestATokenThatIsNoGoodLetsNobodyIn(t *testing.T) {
	n := begin(t, nil)
	n.join(t, "taken", identity.InviteOptions{})
	used := n.invite(t, identity.InviteOptions{})
	if _, err := identity.Join(t.Context(), t.TempDir(), "early", used); err != nil {
		t.Fatal(err)
	}
	expired := n.invite(t, identity.InviteOptions{Life: time.Second})
	for end := time.Now().Add(1100 * time.Millisecond); time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	good := n.invite(t, identity.InviteOptions{})
	for _, c := range []struct {
		name, host, token, want, logged string
	}{
		{"it was used", "late", used, `the token was used, at .* by host "early" from 127.0.0.1`, "token was used"},
		{"it has expired", "late", expired, "the token has expired, at ", "token has expired"},
		{"its secret is another", "late", change(t, good, func(k *identity.Token) { k.Secret[0]++ }), "nobody has given out that token", "nobody has given out"},
		{"nobody knows it", "late", change(t, good, func(k *identity.Token) { k.ID = "0123456789abcdef" }), "nobody has given out that token", "token=0123456789abcdef"},
		{"it is for another host", "late", n.invite(t, identity.InviteOptions{Host: "other"}), `the token is for host \"other\", not for \"late\"`, "is for host"},
		{"the name is taken", "taken", good, `there is a host "taken" in the mesh`, "host=taken"},
		{"it is for another mesh", "late", change(t, good, func(k *identity.Token) { k.Fingerprint[0]++ }), "whoever answers there is not of the mesh that the token is for", "refused a connection of a host that wants to join"},
		{"the host is called as etcd's administrator", "root", good, "a host can't be called \"root\"", ""},
		{"the host's name is no name", "a/b", good, "is no name for a host", ""},
		{"it was cut off", "late", good[:len(good)-3], "the token is damaged", ""},
		{"it is none", "late", "hunter2", "it is no token", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := identity.Join(t.Context(), filepath.Join(t.TempDir(), "identity"), c.host, c.token)
			want := strings.ReplaceAll(c.want, `\"`, `"`)
			before, after, _ := strings.Cut(want, ".*")
			if err == nil || !strings.Contains(err.Error(), before) || !strings.Contains(err.Error(), after) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if c.logged != "" {
				n.log.wait(t, "WARN", c.logged)
			}
		})
	}
	if _, err := identity.Join(t.Context(), filepath.Join(t.TempDir(), "identity"), "late", good); err != nil {
		t.Errorf("the token that nobody has used is no good any more: %v", err)
	}
}

func TestATokenLetsOneHostInHoweverManyAskAtOnceAndWhomeverTheyAsk(t *testing.T) {
	n := begin(t, nil)
	other, err := identity.Register(t.Context(), identity.RegistrarOptions{
		Identity: n.a.id, Store: n.a.store, Client: n.a.client, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	text := n.invite(t, identity.InviteOptions{})
	var mu sync.Mutex
	var in []string
	var wg sync.WaitGroup
	for k := range 8 {
		wg.Go(func() {
			token := change(t, text, func(k2 *identity.Token) {
				k2.URLs = []string{n.registrar.URL(), other.URL()}[k%2 : k%2+1]
			})
			name := fmt.Sprintf("h%d", k)
			_, err := identity.Join(t.Context(), filepath.Join(t.TempDir(), "identity"), name, token)
			if err != nil && !errors.Is(err, identity.ErrNotAdmitted) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				in = append(in, name)
			}
		})
	}
	wg.Wait()
	if len(in) != 1 {
		t.Errorf("%v were let in, want one", in)
	}
}

func TestANameIsGivenOnceHoweverManyAskAtOnce(t *testing.T) {
	n := begin(t, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for range 4 {
		token := n.invite(t, identity.InviteOptions{})
		wg.Go(func() {
			_, err := identity.Join(t.Context(), filepath.Join(t.TempDir(), "identity"), "same", token)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				in++
			} else if !strings.Contains(err.Error(), `there is a host "same"`) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("%d hosts have the same name", in)
	}
}

func TestAHostWhoseAnswerGotLostJoinsWithTheSameToken(t *testing.T) {
	n := begin(t, nil)
	token := n.invite(t, identity.InviteOptions{})
	dir := filepath.Join(t.TempDir(), "identity")
	cut := cutOff(t, strings.TrimPrefix(n.registrar.URL(), "https://"))
	_, err := identity.Join(t.Context(), dir, "b", change(t, token, func(k *identity.Token) { k.URLs = []string{"https://" + cut} }))
	if !errors.Is(err, mesh.ErrUnreachable) {
		t.Fatalf("the answer has come: %v", err)
	}
	n.log.wait(t, "let a host in", "host=b")
	id, err := identity.Join(t.Context(), dir, "b", token)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t, n.connect(t, dir, id), mesh.AlivePrefix+"b"); err != nil {
		t.Error(err)
	}
	if again, err := identity.Join(t.Context(), dir, "b", token); err != nil || again.Host() != "b" {
		t.Errorf("a host that has joined can't be started with its old token: %v", err)
	}
	if _, err := identity.Join(t.Context(), dir, "c", token); err == nil || !strings.Contains(err.Error(), `is for host "b", not for "c"`) {
		t.Errorf("it can become another: %v", err)
	}
}

// cutOff is a proxy that lets requests through, and nothing back once the client has
// greeted: so the server does as it is asked, and the client never learns of it.
func cutOff(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				return
			}
			var greeted, asked atomic.Bool
			wg.Go(func() {
				defer out.Close()
				pass(in, out, func() bool { asked.Store(greeted.Load()); return true })
			})
			wg.Go(func() {
				defer in.Close()
				pass(out, in, func() bool { greeted.Store(true); return !asked.Load() })
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// pass carries what comes from one connection to another, as far as it may.
func pass(from, to net.Conn, may func() bool) {
	buf := make([]byte, 1<<16)
	for {
		k, err := from.Read(buf)
		if err != nil {
			return
		}
		if may() {
			_, _ = to.Write(buf[:k])
		}
	}
}

func TestAHostThatIsInvitedAgainReplacesTheOldOne(t *testing.T) {
	n := begin(t, nil)
	old := n.join(t, "b", identity.InviteOptions{Serve: true})
	if err := put(t, old, mesh.SettingPrefix+"x"); err != nil {
		t.Fatal(err)
	}
	b := n.join(t, "b", identity.InviteOptions{Host: "b"})
	if err := put(t, b, mesh.AlivePrefix+"b"); err != nil {
		t.Error(err)
	}
	if err := put(t, b, mesh.SettingPrefix+"x"); !errors.Is(err, mesh.ErrRefused) {
		t.Errorf("it still may do what only servers may: %v", err)
	}
	n.log.wait(t, "let a host in", "host=b", "again=true")
	config := old.id.ClientTLS()
	config.NextProtos = []string{"h2"}
	n.log.wait(t, "closed a connection to the mesh", "host=b")
	knock(t, n.server.ClientURLs(), config)
	n.log.wait(t, "refused a connection to the mesh", "the certificate was revoked")
}

func TestAHostThatServesInvitesOthers(t *testing.T) {
	n := begin(t, nil)
	b := n.join(t, "b", identity.InviteOptions{Serve: true})
	if !b.id.Serves() {
		t.Fatal("b may not serve")
	}
	if _, ok := b.id.ServerTLS(); !ok {
		t.Error("b has not what it needs to serve")
	}
	r, err := identity.Register(t.Context(), identity.RegistrarOptions{Identity: b.id, Store: b.store, Client: b.client, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.registrar.Close(); err != nil {
		t.Fatal(err)
	}
	token, err := identity.Invite(t.Context(), b.store, b.id, identity.InviteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(token.URLs) != 1 || token.URLs[0] != r.URL() {
		t.Errorf("the token leads to %v, want %s alone", token.URLs, r.URL())
	}
	text, err := token.Text()
	if err != nil {
		t.Fatal(err)
	}
	c, err := identity.Join(t.Context(), filepath.Join(t.TempDir(), "identity"), "c", text)
	if err != nil || c.Fingerprint() != n.a.id.Fingerprint() {
		t.Errorf("%v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := identity.Invite(t.Context(), b.store, b.id, identity.InviteOptions{}); err == nil || !strings.Contains(err.Error(), "no host is there that could admit another") {
		t.Errorf("a token leads nowhere: %v", err)
	}
	if _, err := identity.Register(t.Context(), identity.RegistrarOptions{Identity: c}); err == nil || !strings.Contains(err.Error(), "not invited with --serve") {
		t.Errorf("a host that may not serve lets others in: %v", err)
	}
}

func TestSecretsCantBeGuessedFromTheDatabase(t *testing.T) {
	n := begin(t, nil)
	token, err := identity.ParseToken(n.invite(t, identity.InviteOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	b := n.join(t, "b", identity.InviteOptions{Serve: true})
	list, err := n.a.store.List(t.Context(), mesh.Root)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := json.Marshal(token.Secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Entries {
		if strings.Contains(string(e.Value), strings.Trim(string(secret), `"`)) || strings.Contains(string(e.Value), "PRIVATE KEY") {
			t.Errorf("%s holds a secret: %s", e.Key, e.Value)
		}
	}
	_ = b
}

func TestWhoGuessesIsSlowedDown(t *testing.T) {
	n := begin(t, nil)
	good := n.invite(t, identity.InviteOptions{})
	bad := change(t, good, func(k *identity.Token) { k.Secret[0]++ })
	dir := filepath.Join(t.TempDir(), "identity")
	for k := range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := identity.Join(ctx, dir, "b", bad)
		cancel()
		if errors.Is(err, mesh.ErrUnreachable) && strings.Contains(err.Error(), "refused too much from this address") {
			t.Logf("after %d guesses", k)
			return
		}
		if !errors.Is(err, identity.ErrNotAdmitted) {
			t.Fatal(err)
		}
	}
	t.Error("it can guess on")
}
