package testrepo_test

import (
	"fmt"
	"testing"

	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sinks/sinktest/testrepo"
)

func Example() {
	test := func(t *testing.T) {
		needs.Systemd(t)
		a := testrepo.New(t, "/srv/packages")
		a.Add(testrepo.Package{Name: "hello", Files: map[string]string{"/etc/hello.conf": "hello\n"}})
		a.Publish()
		a.Run("apt-get", "-y", "install", "hello")
		fmt.Println(a.Version("hello"))
	}
	fmt.Printf("%T\n", test)
	// Output: func(*testing.T)
}
