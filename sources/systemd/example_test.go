package systemd_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/systemd"
)

// Watches are plain values: equal ones are the same.
func ExampleUnit() {
	for _, w := range []sources.Watch{
		systemd.Unit("nginx.service"),
		systemd.UserUnit("syncthing.service"),
		systemd.Object("org.freedesktop.hostname1", "/org/freedesktop/hostname1"),
	} {
		fmt.Println(w.Source(), w)
	}
	fmt.Println(systemd.Unit("a.service") == systemd.Unit("a.service"))
	// Output:
	// systemd nginx.service
	// systemd syncthing.service (user)
	// systemd org.freedesktop.hostname1 /org/freedesktop/hostname1
	// true
}
