package identity_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/pipeline/peer/identity"
)

// What is sealed for one host is nothing to another.
func ExampleSeal() {
	dir, err := os.MkdirTemp("", "identity")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	a, err := identity.Open(filepath.Join(dir, "a"))
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := identity.Open(filepath.Join(dir, "b"))
	if err != nil {
		fmt.Println(err)
		return
	}
	sealed, err := identity.Seal([]string{a.Recipient()}, []byte("the password"))
	if err != nil {
		fmt.Println(err)
		return
	}
	plain, err := a.Open(sealed)
	fmt.Println(string(plain), err)
	_, err = b.Open(sealed)
	fmt.Println(err)
	// Output:
	// the password <nil>
	// it was sealed for other hosts, or for a key that this one no longer has
}

func ExampleAllow() {
	fmt.Println(identity.Allow("listen on", []string{"http://127.0.0.1:2379"}, false, false))
	fmt.Println(identity.Allow("listen on", []string{"https://192.0.2.1:2379"}, true, false))
	fmt.Println(identity.Allow("listen on", []string{"http://192.0.2.1:2379"}, true, false))
	// Output:
	// <nil>
	// <nil>
	// won't listen on http://192.0.2.1:2379: this mesh has certificates, so use https
}
