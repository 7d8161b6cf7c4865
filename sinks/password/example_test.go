package password_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/password"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	cfg := &password.Config{Length: 32, Saved: true, Path: filepath.Join(dir, "database")}
	r, err := cfg.Build("database", sinks.Options{})
	if err != nil {
		panic(err)
	}
	var words []any
	for range 2 {
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, out.Changes, err)
		words = append(words, out.Values["password"])
	}
	fmt.Println(words[0] == words[1])
	// Output:
	// true [password: absent -> (32 characters)] <nil>
	// false [] <nil>
	// true
}
