package line_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks/line"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestEdges(t *testing.T) {
	for _, test := range []struct {
		name     string
		resource string
		cfg      *line.Config
		want     []string
	}{
		{"a line comes after its file", "l", &line.Config{File: "/etc/hosts", Content: "x"}, []string{
			"provides edits /etc/hosts",
			"needs file /etc/hosts, its file",
			"needs owned /etc/hosts, which brings its file",
			"needs dir above /etc/hosts, which holds it",
			"needs mount above /etc/hosts, on which it is",
		}},
		{"a line that is absent needs no directory", "l", &line.Config{File: "/etc/hosts", Content: "x", State: "absent"}, []string{
			"provides edits /etc/hosts",
			"needs file /etc/hosts, its file",
			"needs owned /etc/hosts, which brings its file",
			"needs mount above /etc/hosts, on which it is",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, test.resource)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
