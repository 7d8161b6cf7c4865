package sshauthorizedkey_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	sshauthorizedkey "github.com/mgmtproject/mgmt/sinks/ssh_authorized_key"
)

func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	keys := filepath.Join(dir, "authorized_keys")
	const line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBgW1oD+huxYlpkD/65Au2pTmkr2VZl3PLiDtJx447zp backup\n"
	os.WriteFile(keys, []byte(line), 0o600)

	// From now on the backup may do one thing only.
	cfg := &sshauthorizedkey.Config{
		File:    keys,
		Key:     "AAAAC3NzaC1lZDI1NTE5AAAAIBgW1oD+huxYlpkD/65Au2pTmkr2VZl3PLiDtJx447zp",
		Options: []string{"restrict", `command="backup --serve"`},
	}
	r, err := cfg.Build("backup", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for range 2 {
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Changed, out.Changes, err)
	}
	text, _ := os.ReadFile(keys)
	fmt.Printf("%.33s...\n", text)
	// Output:
	// true [options: (0 bytes) -> (33 bytes)] <nil>
	// false [] <nil>
	// restrict,command="backup --serve"...
}
