package dpkg_test

import (
	"fmt"
	"os"

	"github.com/mgmtproject/mgmt/sources/packages/dpkg"
)

func ExampleRead() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(dir+"/status", []byte(status), 0o644); err != nil {
		panic(err)
	}
	db, err := dpkg.Read(dir)
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"libx", "half", "nowhere"} {
		p, known := db.Package(name)
		fmt.Println(name, known, p.Usable(), p.Version)
	}
	// Output:
	// libx true true 1.0
	// half true false 1
	// nowhere false false
}
