package exec_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/exec"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	key := filepath.Join(dir, "key")
	r, err := (&exec.Config{
		Cmd:     "head -c 32 /dev/urandom >" + key,
		Shell:   "/bin/sh",
		Creates: key,
	}).Build("key", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for range 2 {
		out, err := r.CheckApply(context.Background(), true)
		fmt.Printf("%v %v %v\n", out.Changed, err, out.Values["exit"])
	}
	// Output:
	// true <nil> 0
	// false <nil> <nil>
}
