package graphfile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mgmtproject/mgmt/sources/graphfile"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

func ExampleObserve() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "graph.yaml")
	save := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			fmt.Println(err)
		}
	}
	save("graph: one\n")

	for text, err := range graphfile.Observe(path, inotify.New(inotify.Options{})).Seq(context.Background()) {
		if err != nil || text.Err != nil {
			fmt.Println(err, text.Err)
			break
		}
		fmt.Print(string(text.Data))
		if string(text.Data) == "graph: two\n" {
			break
		}
		save("graph: two\n")
	}
	// Output:
	// graph: one
	// graph: two
}

func ExampleRead() {
	for text := range graphfile.Read(strings.NewReader("graph: hello\n"), "standard input").Seq(context.Background()) {
		fmt.Printf("%s: %s", text.Name, text.Data)
		break // it would wait for a cancel
	}
	// Output: standard input: graph: hello
}
