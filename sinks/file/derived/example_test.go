package derived_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks/file/derived"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	f := &derived.File{Path: filepath.Join(dir, "hello")}
	look := func() (derived.Want, error) {
		return derived.Want{Summary: "a greeting", Write: func(w io.Writer) error {
			_, err := io.WriteString(w, "hello\n")
			return err
		}}, nil
	}
	for range 2 {
		out, err := f.CheckApply(context.Background(), true, look)
		fmt.Println(out.Changed, out.Changes, err)
	}
	// Output:
	// true [content: absent -> a greeting] <nil>
	// false [] <nil>
}
