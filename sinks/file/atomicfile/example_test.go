package atomicfile_test

import (
	"bytes"
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

func ExampleEdit() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	hosts := atomicfile.At(filepath.Join(dir, "hosts"))
	add := func(text []byte) ([]byte, bool) {
		const printer = "192.0.2.1 printer\n"
		return append(text, printer...), !bytes.Contains(text, []byte(printer))
	}
	for range 2 {
		edited, err := atomicfile.Edit(context.Background(), hosts, atomicfile.Options{Meta: atomicfile.Keep}, add)
		fmt.Println(edited, err)
	}
	_, text, _ := hosts.ReadText()
	fmt.Print(string(text))
	// Output:
	// true <nil>
	// false <nil>
	// 192.0.2.1 printer
}
