package net_test

import (
	"context"
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/net"
)

func Example() {
	r, err := (&net.Config{State: "up", Addrs: []string{"192.0.2.1/24"}, Gateway: "192.0.2.254"}).Build("nothing0", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for _, w := range r.Watches() {
		fmt.Println(w)
	}
	if _, err := r.CheckApply(context.Background(), false); err != nil {
		fmt.Println("there is no such interface")
	}
	// Output:
	// link nothing0
	// addresses of nothing0
	// routes through nothing0
	// there is no such interface
}
