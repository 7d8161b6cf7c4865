package password_test

import (
	"os"
	"testing"

	"github.com/mgmtproject/mgmt/sinks/password"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestUndone(t *testing.T) {
	d := t.TempDir()
	f := d + "/password"
	sinktest.Run(t, password.Spec,
		sinktest.Case{Name: "a password that was not there", Resource: "a", State: sinktest.Files(d), Params: params{"saved": true, "path": f, "length": 12},
			Disturb: func() error { return os.Remove(f) }, Undone: sinktest.Contents(f)},
		sinktest.Case{Name: "a password that shall not be there", Resource: "a", State: sinktest.Files(d), Params: params{"saved": true, "path": f, "state": "absent"},
			Disturb: func() error { return os.WriteFile(f, []byte("secret"), 0o600) }},
	)
	sinktest.Invalid(t, password.Spec, "a", params{"state": "absent"}, "state: a password that is not saved leaves nothing behind")
	saved := &password.Config{Length: 12, Saved: true, Path: f}
	if cfg, err := saved.Reverse(map[string]string{"password": "another"}); err == nil {
		t.Errorf("another password before is undone by %v", cfg)
	}
	if cfg, err := saved.Reverse(map[string]string{"mode": "0644"}); cfg != nil || err != nil {
		t.Errorf("others may read the password again: %v, %v", cfg, err)
	}
	if cfg, err := (&password.Config{Length: 12}).Reverse(map[string]string{"password": "absent"}); cfg != nil || err != nil {
		t.Errorf("a password that is not saved is undone by %v, %v", cfg, err)
	}
}
