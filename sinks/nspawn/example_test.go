package nspawn_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/nspawn"
)

func Example() {
	r, err := (&nspawn.Config{State: "running"}).Build("web", sinks.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(r.(sinks.Owner).Owns())
	fmt.Println(r.(sinks.Provider).Provides())
	fmt.Println(r.Watches()[0])
	_, err = (&nspawn.Config{State: "running"}).Build("my_web", sinks.Options{})
	fmt.Println(err)
	// Output:
	// [unit systemd-nspawn@web.service]
	// [{unit systemd-nspawn@web.service}]
	// systemd-nspawn@web.service
	// "my_web" is not the name of a container: letters, digits, - and . only, as in a host name, up to 64 of them
}
