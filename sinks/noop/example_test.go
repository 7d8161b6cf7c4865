package noop_test

import (
	"context"
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/noop"
)

func Example() {
	r, err := (&noop.Config{Comment: "everything before the network is up"}).Build("network", sinks.Options{})
	if err != nil {
		panic(err)
	}
	out, err := r.CheckApply(context.Background(), true)
	fmt.Println(out.Changed, err)
	// Output: false <nil>
}
