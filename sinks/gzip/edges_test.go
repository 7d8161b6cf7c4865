package gzip_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks/gzip"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestEdges(t *testing.T) {
	for _, test := range []struct {
		name     string
		resource string
		cfg      *gzip.Config
		want     []string
	}{
		{"a compressed text needs its place only", "/srv/x.gz", &gzip.Config{Content: new("text")}, []string{
			"provides file /srv/x.gz",
			"needs dir above /srv/x.gz, which holds it",
			"needs mount above /srv/x.gz, on which it is",
		}},
		{"a compressed file comes after its input", "/srv/x.gz", &gzip.Config{Input: "/srv/in/x"}, []string{
			"provides file /srv/x.gz",
			"needs dir above /srv/x.gz, which holds it",
			"needs mount above /srv/x.gz, on which it is",
			"needs file /srv/in/x, its input",
			"needs owned /srv/in/x, which brings a file that it uses",
			"needs edits /srv/in/x, which changes a file that it uses",
			"needs dir above /srv/in/x, which holds a file that it uses",
			"needs mount above /srv/in/x, on which a file is that it uses",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, test.resource)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
