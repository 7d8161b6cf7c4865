package identity_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
)

// BenchmarkJoin lets hosts into a mesh of one server that has others already: etcd looks at
// the rights of all for each that are given.
func BenchmarkJoin(b *testing.B) {
	n := begin(b, nil)
	k := 0
	for b.Loop() {
		token := n.invite(b, identity.InviteOptions{})
		if _, err := identity.Join(b.Context(), filepath.Join(b.TempDir(), "identity"), fmt.Sprintf("h%d", k), token); err != nil {
			b.Fatal(err)
		}
		k++
	}
}

func BenchmarkSeal(b *testing.B) {
	id, err := identity.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	plain := make([]byte, 1024)
	for b.Loop() {
		sealed, err := identity.Seal([]string{id.Recipient()}, plain)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := id.Open(sealed); err != nil {
			b.Fatal(err)
		}
	}
}
