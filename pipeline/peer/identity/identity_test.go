package identity_test

import (
	"crypto/tls"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
)

func TestInitMakesWhatTheFirstHostNeeds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mesh", "a", "identity")
	id, err := identity.Init(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	if !id.Secured() || !id.Serves() || id.Host() != "a" || len(id.Fingerprint()) != 64 || id.Check("a") != nil {
		t.Errorf("%+v", id)
	}
	if err := id.Check("b"); err == nil || !strings.Contains(err.Error(), `is for host "a", not for "b"`) {
		t.Errorf("it is good for b: %v", err)
	}
	modes := map[string]fs.FileMode{
		".": 0o700, "age.key": 0o600, "ca.key": 0o600, "host.pem": 0o600, "ca.crt": 0o644, "revoked.crl": 0o644,
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(modes)-1 {
		t.Errorf("%v, %v", entries, err)
	}
	for name, want := range modes {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	again, err := identity.Open(dir)
	if err != nil || again.Recipient() != id.Recipient() || again.Fingerprint() != id.Fingerprint() {
		t.Errorf("it is another one later: %v", err)
	}
	if _, err := identity.Init(dir, "a"); err == nil || !strings.Contains(err.Error(), "has a certificate of host") {
		t.Errorf("it was made anew: %v", err)
	}
}

func TestAnIdentityThatCantBeTrustedIsNotUsed(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(dir string) error
		want  string
	}{
		{"others can read the certificate's key", func(dir string) error { return os.Chmod(filepath.Join(dir, "host.pem"), 0o640) }, "host.pem has mode 0640"},
		{"others can read the key for secrets", func(dir string) error { return os.Chmod(filepath.Join(dir, "age.key"), 0o604) }, "age.key has mode 0604"},
		{"the certificate was cut off", func(dir string) error { return os.Truncate(filepath.Join(dir, "host.pem"), 300) }, "host.pem holds no certificate with its key"},
		{"the certificate of the authority is gone", func(dir string) error { return os.Remove(filepath.Join(dir, "ca.crt")) }, "no such file"},
		{"the key for secrets is empty", func(dir string) error { return os.Truncate(filepath.Join(dir, "age.key"), 0) }, "holds no key of age"},
		{"the authority is another", func(dir string) error {
			other := filepath.Join(filepath.Dir(dir), "other")
			if _, err := identity.Init(other, "a"); err != nil {
				return err
			}
			return os.Rename(filepath.Join(other, "ca.crt"), filepath.Join(dir, "ca.crt"))
		}, "not from the authority of this mesh"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "identity")
			if _, err := identity.Init(dir, "a"); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := identity.Open(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestNothingGoesOverANetworkInPlainText(t *testing.T) {
	for _, c := range []struct {
		name              string
		url               string
		secured, insecure bool
		want              string
	}{
		{"on the loopback it may", "http://127.0.0.1:2379", false, false, ""},
		{"on the loopback of IPv6 it may", "http://[::1]:2379", false, false, ""},
		{"on the loopback by name it may", "http://localhost:2379", false, false, ""},
		{"on a socket it may", "unix:///run/x", false, false, ""},
		{"on a network it may not", "http://192.0.2.1:2379", false, false, "won't listen on http://192.0.2.1:2379 without certificates"},
		{"on all addresses it may not", "http://0.0.0.0:2379", false, false, "without certificates"},
		{"on all addresses of IPv6 it may not", "http://[::]:2379", false, false, "without certificates"},
		{"at a name that may mean anything it may not", "http://localhost.example:2379", false, false, "without certificates"},
		{"on a network it may if the user insists", "http://192.0.2.1:2379", false, true, ""},
		{"on a network it may with certificates", "https://192.0.2.1:2379", true, false, ""},
		{"on a network it may not in plain text with certificates", "http://192.0.2.1:2379", true, false, "so use https"},
		{"without certificates it can't do TLS", "https://192.0.2.1:2379", false, true, "this host has no certificate"},
		{"what is no URL it can't", "192.0.2.1", false, false, "is for"},
		{"what is of another sort it can't", "ftp://192.0.2.1", true, true, "expected http or https"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := identity.Allow("listen on", []string{"http://127.0.0.1:1", c.url}, c.secured, c.insecure)
			if c.want == "" && err != nil {
				t.Error(err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestASealedValueIsForItsRecipientsAlone(t *testing.T) {
	var ids []*identity.Identity
	for range 3 {
		id, err := identity.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, plain := range []string{"", "x", strings.Repeat("secret", 100_000)} {
		sealed, err := identity.Seal([]string{ids[0].Recipient(), ids[1].Recipient()}, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		if len(plain) > 10 && strings.Contains(string(sealed), plain) {
			t.Error("it can be read")
		}
		for _, id := range ids[:2] {
			if got, err := id.Open(sealed); err != nil || string(got) != plain {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
		if _, err := ids[2].Open(sealed); err == nil || err.Error() != identity.ErrNotForUs.Error() {
			t.Errorf("another can open it: %v", err)
		}
		sealed[len(sealed)-1]++
		if _, err := ids[0].Open(sealed); err == nil || !strings.Contains(err.Error(), "not as it was sealed") {
			t.Errorf("it was changed, and nobody has noticed: %v", err)
		}
	}
	for _, to := range [][]string{nil, {"age1nonsense"}} {
		if _, err := identity.Seal(to, nil); err == nil {
			t.Errorf("sealed for %v", to)
		}
	}
}

func TestAHostWithoutACertificateSpeaksPlainly(t *testing.T) {
	id, err := identity.Open(filepath.Join(t.TempDir(), "identity"))
	if err != nil {
		t.Fatal(err)
	}
	if id.Secured() || !id.Serves() || id.Host() != "" || id.Fingerprint() != "" || id.ClientTLS() != (*tls.Config)(nil) || id.Check("any") != nil {
		t.Errorf("%+v", id)
	}
	if _, ok := id.ServerTLS(); ok {
		t.Error("it can serve with TLS")
	}
	if id.Recipient() == "" {
		t.Error("nobody can seal for it")
	}
}
