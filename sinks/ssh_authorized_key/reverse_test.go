package sshauthorizedkey_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	sshauthorizedkey "github.com/mgmtproject/mgmt/sinks/ssh_authorized_key"
)

func TestUndone(t *testing.T) {
	d := t.TempDir()
	f := filepath.Join(d, "keys")
	set := func(text string) func() error {
		return func() error { return os.WriteFile(f, []byte(text), 0o600) }
	}
	for _, c := range []sinktest.Case{
		{Name: "a key that was added", Params: params{"file": f, "key": one}, Disturb: set(line2 + "\n")},
		{Name: "a line that was added", Params: params{"file": f, "content": "no-pty " + line1 + " x"}, Disturb: set(line2 + "\n")},
		{Name: "a comment that was changed", Params: params{"file": f, "key": one, "options": []any{"no-pty"}, "comment": "new"}, Disturb: set("no-pty " + line1 + " old\n")},
		{Name: "the comment of a line that was changed", Params: params{"file": f, "content": "no-pty " + line1 + " new"}, Disturb: set("no-pty " + line1 + "\n")},
		{Name: "options where there were none", Params: params{"file": f, "key": one, "options": []any{"no-pty"}}, Disturb: set(line1 + " mine\n")},
		{Name: "options where there were none, in a line", Params: params{"file": f, "content": "no-pty " + line1 + " mine"}, Disturb: set(line1 + " mine\n")},
	} {
		c.Resource, c.State, c.Undone = "a", sinktest.Files(d), sinktest.Contents(f)
		sinktest.Run(t, sshauthorizedkey.Spec, c)
	}
}

func TestNotUndone(t *testing.T) {
	tests := []struct {
		config *sshauthorizedkey.Config
		was    map[string]string
		want   string
	}{
		{&sshauthorizedkey.Config{State: "absent"}, nil, "the options of a key that is removed are not kept"},
		{&sshauthorizedkey.Config{}, map[string]string{"key": "in 2 lines"}, "there were several lines"},
		{&sshauthorizedkey.Config{}, map[string]string{"options": "(6 bytes)"}, "the key had other options"},
		{&sshauthorizedkey.Config{}, map[string]string{"options": sinks.Withheld}, "the key had other options"},
		{&sshauthorizedkey.Config{}, map[string]string{"comment": sinks.Withheld}, "the comment of the key is not kept"},
	}
	for _, tt := range tests {
		if cfg, err := tt.config.Reverse(tt.was); err == nil || cfg != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v, %v; want %q", tt.was, cfg, err, tt.want)
		}
	}
	if cfg, err := (&sshauthorizedkey.Config{}).Reverse(map[string]string{"mode of the file": "0666", "mkdir": "absent"}); err != nil || cfg != nil {
		t.Errorf("what others may do with the file is put back: %v, %v", cfg, err)
	}
}
