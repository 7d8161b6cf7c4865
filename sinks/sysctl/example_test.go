package sysctl_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sysctl"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "forward.conf")

	value := "1"
	r, err := (&sysctl.Config{Value: &value, Persist: true, Path: conf}).Build("net.ipv4.ip_forward", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for range 2 {
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, out.Changes, err)
	}
	text, _ := os.ReadFile(conf)
	fmt.Print(string(text))
	// Output:
	// true [persist: "" -> net.ipv4.ip_forward = 1] <nil>
	// false [] <nil>
	// net.ipv4.ip_forward = 1
}
