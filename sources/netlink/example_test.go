package netlink_test

import (
	"context"
	"fmt"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/netlink"
)

// Interfaces are watched without an engine: sources.Observe serves the watches for as
// long as it is subscribed.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // at once, since nothing is going to happen here
	watches := []sources.Watch{netlink.Link("eth0"), netlink.Addrs("eth0"), netlink.Routes("eth0"), netlink.Forwarding("eth0")}
	for e, err := range sources.Observe(netlink.New(), watches...).Seq(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(e)
	}
	fmt.Println(watches)
	// Output:
	// context canceled
	// [link eth0 addresses of eth0 routes through eth0 forwarding of eth0]
}
