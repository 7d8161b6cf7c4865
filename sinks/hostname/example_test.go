package hostname_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/hostname"
)

// What can't be a name is refused before anything is touched, with the parameter.
func Example() {
	_, err := (&hostname.Config{StaticHostname: "db_1"}).Build("this host", sinks.Options{})
	fmt.Println(err)

	r, err := (&hostname.Config{StaticHostname: "db-1", PrettyHostname: "Database, rack 7"}).Build("this host", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for _, w := range r.Watches() {
		fmt.Println(w.Source(), w)
	}
	// Output:
	// static_hostname: "db_1" can't be one: there may be only letters from a to z, digits, hyphens and dots in it
	// systemd org.freedesktop.hostname1 /org/freedesktop/hostname1
	// inotify /etc/hostname
	// inotify /etc/machine-info
}
