package state_test

import (
	"fmt"
	"os"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/pipeline/state"
)

// What one process saves, the next one finds.
func Example() {
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	s, err := state.Open(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := s.Save(pipeline.StateChanges{AddRefreshes: []string{"svc[nginx]", "exec[reindex]"}}); err != nil {
		fmt.Println(err)
	}
	if err := s.Save(pipeline.StateChanges{DropRefreshes: []string{"svc[nginx]"}}); err != nil {
		fmt.Println(err)
	}
	if err := s.Close(); err != nil {
		fmt.Println(err)
	}

	saved, err := state.Peek(dir)
	fmt.Println(saved.Refreshes, err)
	// Output: [exec[reindex]] <nil>
}
