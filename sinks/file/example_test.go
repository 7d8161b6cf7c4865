package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	motd, err := (&file.Config{Content: new("hello\n"), Mode: "0644"}).Build(filepath.Join(dir, "motd"), sinks.Options{})
	if err != nil {
		panic(err)
	}
	for range 2 {
		out, err := motd.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, out.Changes, err)
	}
	// Output:
	// true [state: absent -> exists content: "" -> "hello\n"] <nil>
	// false [] <nil>
}

// A tree has what its source has, and nothing else.
func Example_tree() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	os.MkdirAll(filepath.Join(dir, "templates/sub"), 0o755)
	os.WriteFile(filepath.Join(dir, "templates/sub/a"), []byte("a\n"), 0o644)
	os.Mkdir(filepath.Join(dir, "site"), 0o755)
	os.WriteFile(filepath.Join(dir, "site/old"), []byte("b\n"), 0o644)

	site, err := (&file.Config{Source: filepath.Join(dir, "templates"), Recurse: true, Purge: true}).Build(filepath.Join(dir, "site")+"/", sinks.Options{})
	if err != nil {
		panic(err)
	}
	out, err := site.CheckApply(context.Background(), false) // only looks
	if err != nil {
		panic(err)
	}
	for _, c := range out.Changes {
		fmt.Println(c)
	}
	// Output:
	// state of sub: absent -> directory
	// state of sub/a: absent -> file
	// content of sub/a: "" -> "a\n"
	// purge of old: file -> absent
}
