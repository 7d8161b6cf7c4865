package pkg_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/pkg"
)

func Example() {
	nginx, err := (&pkg.Config{State: "1.22.1-9", AllowDowngrade: true}).Build("nginx", sinks.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(nginx.Watches())

	_, err = (&pkg.Config{State: "latest"}).Build("nginx", sinks.Options{})
	fmt.Println(err)
	// Output:
	// [nginx package lists]
	// state: "latest" is none of installed, uninstalled and newest, and no version
}
