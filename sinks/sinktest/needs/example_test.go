package needs_test

import (
	"fmt"
	"testing"

	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
)

// A package whose tests need systemd has a file testdata/testhost, and each such test
// says so first. On other machines it is skipped.
func Example() {
	test := func(t *testing.T) {
		needs.Systemd(t)
		// From here on process 1 is a systemd that nobody else needs.
	}
	fmt.Printf("%T\n", test)
	// Output: func(*testing.T)
}
