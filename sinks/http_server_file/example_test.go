package httpserverfile_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/http_server/site"
	httpserverfile "github.com/mgmtproject/mgmt/sinks/http_server_file"
)

func Example() {
	var run sinks.Shared
	site.Of(&run, "web").Open("") // an http_server does this

	text := "#!ipxe\n"
	cfg := &httpserverfile.Config{Server: "web", Filename: "/boot.ipxe", Data: &text}
	r, err := cfg.Build("what machines boot", sinks.Options{Shared: &run})
	if err != nil {
		panic(err)
	}
	for range 2 {
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, out.Changes, err)
	}
	w := httptest.NewRecorder()
	site.Of(&run, "web").ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/boot.ipxe", nil))
	fmt.Print(w.Body)
	// Output:
	// true [filename: (not served) -> /boot.ipxe from (the data)] <nil>
	// false [] <nil>
	// #!ipxe
}
