package exec_test

import (
	"testing"

	"github.com/mgmtproject/mgmt/sinks/exec"
)

func TestNotUndone(t *testing.T) {
	for _, was := range []map[string]string{nil, {"cmd": "(not run)"}} {
		if cfg, err := new(exec.Config).Reverse(was); err == nil || cfg != nil {
			t.Errorf("a command is undone by %v, %v", cfg, err)
		}
	}
}
