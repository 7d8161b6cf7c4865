package mounts_test

import (
	"context"
	"fmt"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mounts"
)

// A mount point is watched without an engine: sources.Observe serves the watch for as
// long as it is subscribed.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // at once, since nothing is going to happen here
	w := mounts.Point("/mnt/backup/")
	for e, err := range sources.Observe(mounts.New(), w).Seq(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(e)
	}
	fmt.Println(w.Source(), w)
	// Output:
	// context canceled
	// mounts /mnt/backup
}
