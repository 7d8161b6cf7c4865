package state_test

import (
	"bufio"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/pipeline/state"
)

// asSaver is set in the environment of a copy of the test program that saves and is killed.
const asSaver = "TEST_BINARY_SAVES_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asSaver); dir != "" {
		if err := saveOn(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// saveOn saves numbered changes in a directory for as long as it lives, each when it is told to,
// and says when each is saved. It goes on where the last one has got.
func saveOn(dir string) error {
	s, err := state.Open(dir)
	if err != nil {
		return err
	}
	saved, err := s.Load()
	if err != nil {
		return err
	}
	n, err := last(saved)
	if err != nil {
		return err
	}
	fmt.Println("has", n)
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		n++
		if err := s.Save(step(n)); err != nil {
			return err
		}
		fmt.Println("has", n)
	}
	return nil
}

// window is how many of the numbered changes remain saved.
const window = 20

// step is the change with a number: it adds a refresh and a reversal, and drops those of an
// earlier one.
func step(n int) pipeline.StateChanges {
	c := pipeline.StateChanges{
		AddRefreshes: []string{numbered(n)},
		PutReversals: []pipeline.Reversal{{Kind: "exec", Name: fmt.Sprintf("%09d", n), Was: map[string]string{"content": fmt.Sprintf("%0*d", n*97%3000, n)}}},
	}
	if n > window {
		c.DropRefreshes = []string{numbered(n - window)}
		c.DropReversals = []string{numbered(n - window)}
	}
	return c
}

func numbered(n int) string { return fmt.Sprintf("exec[%09d]", n) }

// last tells which numbered change was the last to be saved, and fails unless exactly all of
// those up to it are.
func last(saved pipeline.Saved) (int, error) {
	if len(saved.Refreshes) == 0 {
		if len(saved.Reversals) > 0 {
			return 0, fmt.Errorf("there are reversals without refreshes: %v", saved.Reversals)
		}
		return 0, nil
	}
	var n int
	if _, err := fmt.Sscanf(saved.Refreshes[len(saved.Refreshes)-1], "exec[%d]", &n); err != nil {
		return 0, err
	}
	count := min(n, window)
	if len(saved.Refreshes) != count || len(saved.Reversals) != count {
		return 0, fmt.Errorf("after %d changes there are %d refreshes and %d reversals, not %d", n, len(saved.Refreshes), len(saved.Reversals), count)
	}
	for i := range count {
		at := n - count + 1 + i
		want := step(at).PutReversals[0]
		if saved.Refreshes[i] != numbered(at) || saved.Reversals[i].Ref() != numbered(at) || saved.Reversals[i].Was["content"] != want.Was["content"] {
			return 0, fmt.Errorf("in the place of change %d there are %s and %s", at, saved.Refreshes[i], saved.Reversals[i].Ref())
		}
	}
	return n, nil
}
