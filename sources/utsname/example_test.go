package utsname_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sources/utsname"
)

func ExampleNodename() {
	w := utsname.Nodename()
	fmt.Println(w.Source(), w)
	// Output: utsname nodename
}
