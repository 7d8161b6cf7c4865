package identity_test

import (
	"testing"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

func TestAHostThatWasInvitedReadsTheMeshAndWritesItsOwn(t *testing.T) {
	n := begin(t, nil)
	b := n.join(t, "b", identity.InviteOptions{})
	if b.id.Serves() || !b.id.Secured() || b.id.Host() != "b" || b.id.Fingerprint() != n.a.id.Fingerprint() {
		t.Errorf("b is not who it should be: %+v", b.id)
	}
	if err := put(t, n.a, mesh.ExportKey("a", "file", "/etc/motd")); err != nil {
		t.Fatal(err)
	}
	list, err := b.store.List(t.Context(), mesh.ExportPrefix)
	if err != nil || len(list.Entries) != 1 {
		t.Errorf("b sees %v, %v", list, err)
	}
	for _, key := range []string{
		mesh.AlivePrefix + "b", mesh.HostPrefix + "b", mesh.QuietPrefix + "b", mesh.ExportKey("b", "file", "x"),
		mesh.HoldPrefix + "b/s", mesh.RolePrefix + "b/r", mesh.KVPrefix + "k",
	} {
		if err := put(t, b, key); err != nil {
			t.Errorf("b can't write %s: %v", key, err)
		}
	}
	n.log.wait(t, "let a host in", "host=b", "serve=false")
}
