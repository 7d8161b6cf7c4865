package local_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks/accounts/local"
)

func ExampleParseGroups() {
	groups := local.ParseGroups([]byte("audio:x:29:bob,eve\nvideo:x:44:eve\n"))
	fmt.Println(groups.Of("eve"), groups.Holder(29))
	// Output: [audio video] audio
}

func ExampleReadUsers() {
	users, err := local.ReadUsers()
	if err != nil {
		panic(err)
	}
	root, ok := users.Named("root")
	fmt.Println(root.UID, ok)
	// Output: 0 true
}

func ExampleCheckName() {
	fmt.Println(local.CheckName("www-data"))
	fmt.Println(local.CheckName("33"))
	// Output:
	// <nil>
	// it is a number, and not the name of an account
}
