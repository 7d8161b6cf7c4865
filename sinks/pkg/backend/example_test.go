package backend_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mgmtproject/mgmt/sinks/pkg/backend"
)

// Without apt, and with nobody to ask on the bus, there is no way.
func ExampleForChanging() {
	path := os.Getenv("PATH")
	defer os.Setenv("PATH", path)
	os.Setenv("PATH", "")

	_, err := backend.ForChanging(context.Background(), backend.Options{Only: backend.Apt})
	fmt.Println(errors.Is(err, backend.ErrNone))
	// Output: true
}
