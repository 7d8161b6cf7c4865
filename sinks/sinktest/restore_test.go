package sinktest_test

import (
	"os"
	"testing"

	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestRestore(t *testing.T) {
	dir := t.TempDir()
	changed, removed, made := dir+"/changed", dir+"/removed", dir+"/made"
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(changed, "before")
	write(removed, "before")
	t.Run("a test that changes files", func(t *testing.T) {
		sinktest.Restore(t, changed, removed, made)
		write(changed, "after, and longer")
		write(made, "after")
		if err := os.Remove(removed); err != nil {
			t.Fatal(err)
		}
	})
	for _, path := range []string{changed, removed} {
		if text, err := os.ReadFile(path); string(text) != "before" {
			t.Errorf("%s holds %q, %v", path, text, err)
		}
	}
	if _, err := os.Stat(made); !os.IsNotExist(err) {
		t.Errorf("%s is left (%v)", made, err)
	}
	if st, err := os.Stat(changed); err != nil || st.Mode() != 0o600 {
		t.Errorf("the mode is %v, %v", st.Mode(), err)
	}
}
