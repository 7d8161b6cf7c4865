package gzip_test

import (
	"errors"
	"os"
	"testing"

	kind "github.com/mgmtproject/mgmt/sinks/gzip"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestUndone(t *testing.T) {
	d := t.TempDir()
	out := d + "/out.gz"
	if err := errors.Join(os.WriteFile(d+"/in", []byte("text"), 0o644), os.WriteFile(out, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	state := sinktest.Files(d)
	sinktest.Run(t, kind.Spec,
		sinktest.Case{Name: "a file that was not there", Resource: out, State: state, Params: params{"input": d + "/in", "level": 9},
			Disturb: func() error { return os.Remove(out) }, Undone: sinktest.Contents(out)},
		sinktest.Case{Name: "a file that shall not be there", Resource: "x", State: state, Params: params{"path": out, "state": "absent"},
			Disturb: func() error { return os.WriteFile(out, nil, 0o644) }},
	)
	if cfg, err := (&kind.Config{Path: out}).Reverse(map[string]string{"content": "(a symbolic link)"}); err == nil {
		t.Errorf("another file before is undone by %v", cfg)
	}
}
