package tar_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/tar"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"b", "a"} {
		os.WriteFile(filepath.Join(dir, name), []byte("text\n"), 0o644)
	}

	cfg := &tar.Config{Inputs: []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}}
	r, err := cfg.Build(filepath.Join(dir, "both.tar"), sinks.Options{})
	if err != nil {
		panic(err)
	}
	for range 2 {
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, out.Changes, err)
	}
	// Output:
	// true [content: absent -> 2 members] <nil>
	// false [] <nil>
}
