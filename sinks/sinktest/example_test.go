package sinktest_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func ExampleFiles() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	state := sinktest.Files(dir)
	before, _ := state()
	os.WriteFile(filepath.Join(dir, "new"), nil, 0o644)
	after, _ := state()
	fmt.Println(before == after)
	// Output: false
}

func ExampleContents() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "file")
	os.WriteFile(path, []byte("text"), 0o644)

	state := sinktest.Contents(path)
	before, _ := state()
	os.Remove(path)
	os.WriteFile(path, []byte("text"), 0o644) // another file, with nothing else in it
	after, _ := state()
	fmt.Println(before == after)
	// Output: true
}
