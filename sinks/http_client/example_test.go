package httpclient_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	httpclient "github.com/mgmtproject/mgmt/sinks/http_client"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello\n")
	}))
	defer server.Close()

	cfg := &httpclient.Config{
		File:   filepath.Join(dir, "hello"),
		URL:    server.URL,
		SHA256: "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
	}
	r, err := cfg.Build("hello", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for range 2 { // the second time without a request
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, err)
	}
	text, _ := os.ReadFile(cfg.File)
	fmt.Print(string(text))
	// Output:
	// true <nil>
	// false <nil>
	// hello
}
