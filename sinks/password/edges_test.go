package password_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks/password"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestEdges(t *testing.T) {
	for _, test := range []struct {
		name     string
		resource string
		cfg      *password.Config
		want     []string
	}{
		{"a password that is not saved has no place", "p", &password.Config{Length: 8}, nil},
		{"a password that is saved is a file", "p", &password.Config{Length: 8, Saved: true, Path: "/etc/db/password"}, []string{
			"provides file /etc/db/password",
			"needs dir above /etc/db/password, which holds it",
			"needs mount above /etc/db/password, on which it is",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, test.resource)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
