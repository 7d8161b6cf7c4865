package site_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/http_server/site"
)

func Example() {
	var run sinks.Shared
	there := site.Of(&run, "web").Put("/hello.txt", site.Text("hello")) // before there is a server
	end := site.Of(&run, "web").Open("")
	defer end()

	w := httptest.NewRecorder()
	site.Of(&run, "web").ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/hello.txt", nil))
	fmt.Println(there, w.Code, w.Body, w.Header().Get("Content-Type"))
	// Output: false 200 hello text/plain; charset=utf-8
}
