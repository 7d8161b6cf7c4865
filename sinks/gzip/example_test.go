package gzip_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/gzip"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	page := filepath.Join(dir, "index.html")
	os.WriteFile(page, []byte("<p>hello</p>\n"), 0o644)

	r, err := (&gzip.Config{Input: page, Level: 9}).Build(page+".gz", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for range 2 {
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, out.Changes, err)
	}
	// Output:
	// true [content: absent -> 13 bytes, compressed] <nil>
	// false [] <nil>
}
