package packages_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sources/packages"
)

func ExampleNamed() {
	w := packages.Named("libc6:i386")
	fmt.Println(w.Source(), w)
	fmt.Println(packages.Any())
	fmt.Println(packages.Offers())
	// Output:
	// packages libc6
	// any package
	// package lists
}
