package httpserver_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/mgmtproject/mgmt/sinks"
	httpserver "github.com/mgmtproject/mgmt/sinks/http_server"
	httpserverfile "github.com/mgmtproject/mgmt/sinks/http_server_file"
)

func Example() {
	var run sinks.Shared // by which the two find each other
	server, err := (&httpserver.Config{Address: "127.0.0.1:0"}).Build("web", sinks.Options{Shared: &run})
	if err != nil {
		panic(err)
	}
	defer server.(sinks.Closer).Close()
	text := "hello\n"
	file, err := (&httpserverfile.Config{Server: "web", Data: &text}).Build("/hello", sinks.Options{Shared: &run})
	if err != nil {
		panic(err)
	}

	ctx := context.Background()
	out, err := server.CheckApply(ctx, true)
	if err != nil {
		panic(err)
	}
	if _, err := file.CheckApply(ctx, true); err != nil {
		panic(err)
	}
	resp, err := http.Get(fmt.Sprintf("http://%s/hello", out.Values["address"]))
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(os.Stdout, resp.Body)
	http.DefaultClient.CloseIdleConnections()
	// Output: hello
}
