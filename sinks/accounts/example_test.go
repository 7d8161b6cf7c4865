package accounts_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks/accounts"
)

func ExampleLookup() {
	u, err := accounts.Lookup("root")
	fmt.Println(u.Uid, err)
	_, err = accounts.Lookup("no-such-user")
	fmt.Println(err)
	// Output:
	// 0 <nil>
	// user: unknown user no-such-user
}
