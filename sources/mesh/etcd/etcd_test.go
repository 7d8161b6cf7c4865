package etcd_test

import (
	"errors"
	"testing"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

func TestWhatIsWrittenIsSeenByOthers(t *testing.T) {
	n := meshtest.Start(t)
	a, b := n.Store(t, "a"), n.Store(t, "b")
	rev, err := a.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{mesh.Put("/mgmt/x", []byte("1"))}})
	if err != nil {
		t.Fatal(err)
	}
	e, ok, err := b.Get(t.Context(), "/mgmt/x")
	if err != nil || !ok || string(e.Value) != "1" || e.Revision != rev || e.Created != rev || e.Bound {
		t.Errorf("got %+v, %v, %v", e, ok, err)
	}
	if _, err := b.Write(t.Context(), mesh.Txn{If: []mesh.Condition{{Key: "/mgmt/x"}}, Ops: []mesh.Op{mesh.Put("/mgmt/x", nil)}}); !errors.Is(err, mesh.ErrConflict) {
		t.Errorf("got %v, want a conflict", err)
	}
}
