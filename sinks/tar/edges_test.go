package tar_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/tar"
)

func TestEdges(t *testing.T) {
	for _, test := range []struct {
		name     string
		resource string
		cfg      *tar.Config
		want     []string
	}{
		{"an archive comes after all that is in its inputs", "/srv/x.tar", &tar.Config{Inputs: []string{"/srv/in/"}}, []string{
			"provides file /srv/x.tar",
			"needs dir above /srv/x.tar, which holds it",
			"needs mount above /srv/x.tar, on which it is",
			"needs file /srv/in, one of its inputs",
			"needs owned /srv/in, which brings a file that it uses",
			"needs edits /srv/in, which changes a file that it uses",
			"needs dir above /srv/in, which holds a file that it uses",
			"needs mount above /srv/in, on which a file is that it uses",
			"needs dir /srv/in, one of its inputs",
			"needs mount /srv/in, on which a file is that it uses",
			"needs dir below /srv/in, which is in a directory that it uses",
			"needs file below /srv/in, which is in a directory that it uses",
			"needs edits below /srv/in, which is in a directory that it uses",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, test.resource)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
