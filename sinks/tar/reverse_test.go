package tar_test

import (
	"errors"
	"os"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	kind "github.com/mgmtproject/mgmt/sinks/tar"
)

func TestUndone(t *testing.T) {
	d := t.TempDir()
	out := d + "/out.tar"
	if err := errors.Join(os.WriteFile(d+"/in", []byte("text"), 0o644), os.WriteFile(out, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	state := sinktest.Files(d)
	sinktest.Run(t, kind.Spec,
		sinktest.Case{Name: "an archive that was not there", Resource: out, State: state, Params: params{"inputs": d + "/in"},
			Disturb: func() error { return os.Remove(out) }, Undone: sinktest.Contents(out)},
		sinktest.Case{Name: "an archive that shall not be there", Resource: "x", State: state, Params: params{"path": out, "state": "absent"},
			Disturb: func() error { return os.WriteFile(out, nil, 0o644) }},
	)
	if cfg, err := (&kind.Config{Path: out}).Reverse(map[string]string{"content": "(5 bytes)"}); err == nil {
		t.Errorf("another archive before is undone by %v", cfg)
	}
	if cfg, err := (&kind.Config{Path: out}).Reverse(map[string]string{"content": sinks.Withheld}); err == nil {
		t.Errorf("what is not known is undone by %v", cfg)
	}
}
