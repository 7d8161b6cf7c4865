package cli_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mgmtproject/mgmt/cmd/internal/instance"
)

func TestAPlanKnowsWhatTheLastRunHasCollected(t *testing.T) {
	prefix := t.TempDir()
	graph := write(t, "graph.yaml", "graph: g\nresources: {noop: [{name: own}]}\ncollect: [{kind: noop}]\n")
	place, err := instance.At(prefix, graph)
	if err != nil {
		t.Fatal(err)
	}
	dir := place.For("here").Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	kept := `{"version": 1, "host": "here", "collected": [{"key": "/mgmt/export/there/noop/theirs", "value": "eyJ2IjoxfQ==", "revision": 7, "created": 7}]}`
	if err := os.WriteFile(filepath.Join(dir, "exchange.json"), []byte(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := mgmt(t, "", "plan", graph, "--prefix", prefix, "--hostname", "here"); out.code != 0 || out.stdout != "2 right\n" {
		t.Errorf("%+v", out)
	}
	if out := mgmt(t, "", "plan", graph, "--prefix", prefix, "--hostname", "elsewhere"); out.code != 0 || out.stdout != "1 right\n" {
		t.Errorf("another host knows it, too: %+v", out)
	}
	out := mgmt(t, "", "explain", graph, "noop[theirs]", "--prefix", prefix, "--hostname", "here")
	out.expect(t, 0)
	if want := "noop[theirs]  (exported by there)\n"; out.stdout[:min(len(out.stdout), len(want))] != want {
		t.Errorf("explained as %s", out.stdout)
	}
}
