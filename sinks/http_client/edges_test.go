package httpclient_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	httpclient "github.com/mgmtproject/mgmt/sinks/http_client"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestEdges(t *testing.T) {
	for _, test := range []struct {
		name     string
		resource string
		cfg      *httpclient.Config
		want     []string
	}{
		{"a download is a file", "/srv/x", &httpclient.Config{URL: "https://example.org/x"}, []string{
			"provides file /srv/x",
			"needs dir above /srv/x, which holds it",
			"needs mount above /srv/x, on which it is",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, test.resource)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
