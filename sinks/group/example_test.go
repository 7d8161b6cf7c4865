package group_test

import (
	"context"
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/group"
)

// A check tells what would change, and changes nothing.
func Example() {
	r, err := (&group.Config{GID: new(int64(4242))}).Build("no-such-group", sinks.Options{})
	if err != nil {
		panic(err)
	}
	out, err := r.CheckApply(context.Background(), false)
	fmt.Println(out.Changed, out.Changes, err)
	// Output:
	// true [state: absent -> exists gid: "" -> 4242] <nil>
}
