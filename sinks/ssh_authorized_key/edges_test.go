package sshauthorizedkey_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks/sinktest"
	sshauthorizedkey "github.com/mgmtproject/mgmt/sinks/ssh_authorized_key"
)

func TestEdges(t *testing.T) {
	for _, test := range []struct {
		name     string
		resource string
		cfg      *sshauthorizedkey.Config
		want     []string
	}{
		{"a key comes after its user", "k", &sshauthorizedkey.Config{User: "nobody-of-this-name", Content: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDGJ3JLqd4+xVGbl3Oj7CsGRJtm2WahK8Arab6WDZlt7"}, []string{
			"needs user nobody-of-this-name, whose key it is",
		}},
		{"a key in the file of a user who exists comes after its directories", "k", &sshauthorizedkey.Config{User: "0", Content: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDGJ3JLqd4+xVGbl3Oj7CsGRJtm2WahK8Arab6WDZlt7"}, []string{
			"needs file /root/.ssh/authorized_keys, its file",
			"needs owned /root/.ssh/authorized_keys, which brings its file",
			"needs dir above /root/.ssh/authorized_keys, which holds it",
			"needs mount above /root/.ssh/authorized_keys, on which it is",
		}},
		{"a key that is absent from a file needs no directory", "k", &sshauthorizedkey.Config{File: "/srv/keys", State: "absent", Content: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDGJ3JLqd4+xVGbl3Oj7CsGRJtm2WahK8Arab6WDZlt7"}, []string{
			"provides edits /srv/keys",
			"needs file /srv/keys, its file",
			"needs owned /srv/keys, which brings its file",
			"needs mount above /srv/keys, on which it is",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, test.resource)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
