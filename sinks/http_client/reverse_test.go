package httpclient_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	httpclient "github.com/mgmtproject/mgmt/sinks/http_client"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestUndone(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("content")) }))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	d := t.TempDir()
	f := d + "/f"
	if err := os.WriteFile(f, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	sinktest.Run(t, httpclient.Spec,
		sinktest.Case{Name: "a file that was not there", Resource: f, State: sinktest.Files(d), Params: params{"url": s.URL},
			Disturb: func() error { return os.Remove(f) }, Undone: sinktest.Contents(f)},
		sinktest.Case{Name: "a file that shall not be there", Resource: "x", State: sinktest.Files(d), Params: params{"file": f, "state": "absent"},
			Disturb: func() error { return os.WriteFile(f, nil, 0o644) }},
	)
	if cfg, err := (&httpclient.Config{File: f}).Reverse(map[string]string{"content": "(5 bytes)"}); err == nil {
		t.Errorf("another file before is undone by %v", cfg)
	}
}
