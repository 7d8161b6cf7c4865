package line_test

import (
	"os"
	"testing"

	"github.com/mgmtproject/mgmt/sinks/line"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestUndone(t *testing.T) {
	d := t.TempDir()
	f := d + "/f"
	set := func(text string) func() error {
		return func() error { return os.WriteFile(f, []byte(text), 0o644) }
	}
	for _, c := range []sinktest.Case{
		{Name: "a line that was added", Params: params{"file": f, "content": "two"}, Disturb: set("one\nthree\n")},
		{Name: "a line that was added to a file not everybody may read", Params: params{"file": f, "content": "two"},
			Disturb: func() error { return os.WriteFile(f, []byte("one\n"), 0o600) }},
		{Name: "a line that was added without white space", Params: params{"file": f, "content": " two ", "trim": true}, Disturb: set("one\n")},
		{Name: "a line that was removed", Params: params{"file": f, "content": "two", "state": "absent"}, Disturb: set("one\ntwo\n")},
		{Name: "a line that was removed, with trim", Params: params{"file": f, "content": "two", "state": "absent", "trim": true}, Disturb: set("one\ntwo\n")},
	} {
		c.Resource, c.State, c.Undone = "a", sinktest.Files(d), sinktest.Contents(f)
		sinktest.Run(t, line.Spec, c)
	}
}
