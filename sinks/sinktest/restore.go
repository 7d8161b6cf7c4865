package sinktest

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// Restore puts files back to what they hold now when the test ends, or removes them if they
// are not there: for tests that change those of a test host, of which there is only one.
func Restore(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		text, err := os.ReadFile(path)
		gone := errors.Is(err, fs.ErrNotExist)
		if err != nil && !gone {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			var err error
			if gone {
				err = os.RemoveAll(path)
			} else {
				err = os.WriteFile(path, text, 0o644) // which it keeps if it is there
			}
			if err != nil {
				t.Errorf("putting it back: %v", err)
			}
		})
	}
}
