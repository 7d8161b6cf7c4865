package line_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/line"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	hosts := filepath.Join(dir, "hosts")
	os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644)

	r, err := (&line.Config{File: hosts, Content: "192.0.2.1 printer"}).Build("printer", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for range 2 {
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, out.Changes, err)
	}
	text, _ := os.ReadFile(hosts)
	fmt.Print(string(text))
	// Output:
	// true [content: "" -> 192.0.2.1 printer] <nil>
	// false [] <nil>
	// 127.0.0.1 localhost
	// 192.0.2.1 printer
}
