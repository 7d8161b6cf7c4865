package atomicfile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

func ExampleReplace() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	path := filepath.Join(dir, "motd")
	opts := atomicfile.Options{Meta: atomicfile.Meta{UID: -1, GID: -1, Mode: 0o600}}
	err = atomicfile.Replace(context.Background(), atomicfile.At(path), opts, func(t *atomicfile.Temp) error {
		_, err := fmt.Fprintln(t, "hello")
		return err
	})
	if err != nil {
		panic(err)
	}
	info, _ := os.Stat(path)
	text, _ := os.ReadFile(path)
	fmt.Printf("%v %s", info.Mode(), text)
	// Output: -rw------- hello
}
