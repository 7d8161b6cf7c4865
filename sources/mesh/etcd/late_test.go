package etcd_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

// What was sent to a server that hangs is sent to another, and must not be done by the
// first when it goes on: something newer may be there by then.
func TestAWriteThatWasGivenUpIsNotMadeLater(t *testing.T) {
	t.Parallel()
	n := meshtest.Start(t)
	other := n.Store(t, "b")
	f := follow(t, other, mesh.Key("/x"))
	f.reset()
	for round := range 5 {
		proxies := []*meshtest.Proxy{n.Proxy(t), n.Proxy(t)}
		s := n.StoreThrough(t, "a", proxies...)
		for range 4 { // both are connected
			write(t, s, mesh.Put("/y", nil))
		}
		proxies[0].Hang()
		for i := range 4 {
			write(t, s, mesh.Put("/x", []byte(fmt.Sprint(round, i))))
		}
		write(t, other, mesh.Put("/x", []byte(fmt.Sprint(round, " end"))))
		proxies[0].Heal()
		for c := f.next(); string(c.Put[0].Value) != fmt.Sprint(round, " end"); c = f.next() {
			continue
		}
		select {
		case c := <-f.ch:
			t.Fatalf("afterwards comes %s", text(c))
		case <-time.After(300 * time.Millisecond):
		}
	}
}
